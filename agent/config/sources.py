"""Which configuration file an option's value came from.

oslo.config keeps one file name per section, the last one read that had the
section, so with several files it blames the wrong one. Here the files are
read once more, in oslo.config's order and with its parser, to name the
file in an error; what can't be read or parsed is found here as well.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from oslo_config import cfg

from ..errors import ConfigError

_FILE_OPTION = "--config-file"
_DIR_OPTION = "--config-dir"
_MAX_SHOWN = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands, and how it is written there."""

    place: str  # a file, a variable of the environment, "default"
    text: str
    is_written: bool = True


class WrittenOptions:
    """What every file says, as text; the last file wins."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Read FILES in this order; raise ConfigError naming a bad one."""
        self._files = [(str(file), _parse(file)) for file in files]

    def names(self, group: str) -> Iterator[tuple[str, str]]:
        """Yield (file, option) for all that stands in the section GROUP."""
        for file, sections in self._files:
            for name in sections.get(_normal(group), {}):
                yield file, name

    def find(self, group: str, option: cfg.Opt) -> Origin:
        """Return where the value of OPTION in GROUP comes from."""
        variable = f"OS_{group.upper()}__{option.dest.upper()}"
        if variable in os.environ:
            return Origin(f"environment {variable}", os.environ[variable])
        aliases = [
            (alias.group or group, alias.name or option.dest)
            for alias in option.deprecated_opts
        ]
        for file, sections in reversed(self._files):
            for section, name in [(group, option.dest), *aliases]:
                values = sections.get(_normal(section), {}).get(name)
                if values:
                    return Origin(f"{file}: [{section}] {name}", values[-1])
        return Origin(
            f"default: [{group}] {option.dest}",
            str(option.default or ""),
            is_written=False,
        )

    def error(self, group: str, option: cfg.Opt, reason: str) -> ConfigError:
        """Return the error that OPTION in GROUP is bad for REASON."""
        origin = self.find(group, option)
        if option.secret:
            return ConfigError(f"{origin.place}: {reason}")
        shown = origin.text
        if len(shown) > _MAX_SHOWN:
            shown = shown[:_MAX_SHOWN] + "..."
        # As JSON: quoted, and on one line whatever is in it.
        return ConfigError(f"{origin.place} = {json.dumps(shown)}: {reason}")


def files_read(
    argv: Sequence[str],
    *,
    default_files: Sequence[str],
    default_dirs: Sequence[str],
) -> list[Path]:
    """Return the files that oslo.config reads for ARGV, in its order.

    Raises ConfigError if ARGV names a folder that can't be listed.
    """
    given = list(_given(argv))
    files: list[Path] = []
    if not any(option == _FILE_OPTION for option, _ in given):
        files += map(_expanded, default_files)
    if not any(option == _DIR_OPTION for option, _ in given):
        for folder in default_dirs:
            files += _files_in(_expanded(folder))
    for option, value in given:
        if option == _FILE_OPTION:
            files.append(_expanded(value))
        else:
            files += _files_in(_expanded(value))
    return files


def _given(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the (option, value) in ARGV that name files or folders."""
    arguments = iter(argv)
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option in (_FILE_OPTION, _DIR_OPTION):
            if not equals:
                value = next(arguments, "")
            if value:  # otherwise oslo.config explains the usage
                yield option, value


def _expanded(name: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111 # as oslo.config does it: an unknown ~user stays as it is


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(
            file
            for file in folder.iterdir()
            if file.suffix == ".conf" and not file.name.startswith(".")
        )
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be listed: {error.strerror}"
        ) from None


def _normal(section: str) -> str:
    return section if section == "DEFAULT" else section.lower()


def _parse(file: Path) -> dict[str, dict[str, list[str]]]:
    """Return what FILE says: section, option, its values.

    A message never quotes a line: it may be the one with the secret.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(str(file), sections).parse()
    except cfg.ParseError as error:
        raise ConfigError(
            f"{file}: line {error.lineno}: {error.msg}"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not a text in UTF-8") from None
    normal: dict[str, dict[str, list[str]]] = {}
    for section, options in sections.items():
        target = normal.setdefault(_normal(section), {})
        for name, values in options.items():
            target.setdefault(name, []).extend(values)
    return normal
