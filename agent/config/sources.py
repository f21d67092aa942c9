"""Find the file that sets an option, for an error message of one line.

oslo.config remembers one file per section, the last one that has the section.
So `conf.get_location()` may name the wrong file. Its error messages quote
lines, and one line has the secret. So this reads the files once more, in the
same order and with the same parser.
"""

import dataclasses
import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from oslo_config import cfg

from ..core.masking import without_credentials
from ..errors import ConfigError

_FILE, _FOLDER = "--config-file", "--config-dir"
_MAX_SHOWN = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where a value is set, and how it is written there."""

    place: str  # a file, a variable of the environment, "default"
    text: str
    is_written: bool = True


class Sources:
    """The text of all options in all files; the last file wins."""

    def __init__(
        self, argv: Sequence[str], *, files: Sequence[str], dirs: Sequence[str]
    ) -> None:
        """Read the files that ARGV names; FILES and DIRS if it names none.

        Raises ConfigError if one can't be read.
        """
        names = files_read(argv, files=files, dirs=dirs)
        self._files = [(name, _parse(name)) for name in names]

    def names(self, group: str) -> Iterator[tuple[str, str]]:
        """Yield (file, option) for every option in the section GROUP."""
        for file, sections in self._files:
            for section, options in sections.items():
                if _is_same(section, group):
                    yield from ((file, name) for name in options)

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield (name, value) for every option in all files."""
        for _, sections in self._files:
            for options in sections.values():
                for name, texts in options.items():
                    yield from ((name, text) for text in texts)

    def find(self, group: str, option: cfg.Opt) -> Origin:
        """Return where the value of OPTION in GROUP comes from."""
        variable = f"OS_{group}__{option.dest}".upper()
        if variable in os.environ:
            return Origin(f"environment {variable}", os.environ[variable])
        old = [alias.name or option.dest for alias in option.deprecated_opts]
        for file, sections in reversed(self._files):
            for name in (option.dest, *old):
                found = [
                    text
                    for section, options in sections.items()
                    if _is_same(section, group)
                    for text in options.get(name, ())
                ]
                if found:
                    return Origin(f"{file}: [{group}] {name}", found[-1])
        place = f"default: [{group}] {option.dest}"
        return Origin(place, str(option.default or ""), is_written=False)

    def error(self, group: str, option: cfg.Opt, reason: str) -> ConfigError:
        """Return the error that OPTION in GROUP is bad for REASON."""
        origin = self.find(group, option)
        if option.secret:
            return ConfigError(f"{origin.place}: {reason}")
        shown = without_credentials(origin.text)
        if len(shown) > _MAX_SHOWN:
            shown = shown[:_MAX_SHOWN] + "..."
        # As JSON: quoted, and on one line whatever is in it.
        # The reason may quote a part of it.
        reason = without_credentials(reason)
        return ConfigError(f"{origin.place} = {json.dumps(shown)}: {reason}")


def may_exist(path: str | Path) -> bool:
    """Return whether PATH exists; True if its folder is closed to us.

    `exists` is False then, of a Path too since Python 3.14: a file that the
    operator wrote would be ignored, and not refused as unreadable.
    """
    try:
        Path(path).stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    return True


def files_read(
    argv: Sequence[str], *, files: Sequence[str], dirs: Sequence[str]
) -> list[str]:
    """Return the files that oslo.config reads for ARGV, in its order.

    `conf.config_file` and `conf.config_dir` lose the order between the two,
    and show a folder that can't be listed as empty. Raises ConfigError for
    such a folder.
    """
    given = list(_given(argv))
    named = {option for option, _ in given}
    folders = [] if _FOLDER in named else [(_FOLDER, name) for name in dirs]
    defaults = [] if _FILE in named else [(_FILE, name) for name in files]
    found: list[str] = []
    for option, name in (*defaults, *folders, *given):
        path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 # as oslo.config does it: an unknown ~user stays as it is
        found += [path] if option == _FILE else _files_in(path)
    return found


def _given(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the (option, value) in ARGV that name files or folders."""
    arguments = iter(argv)
    for argument in arguments:
        begun, equals, value = argument.partition("=")
        # As argparse does, oslo.config takes an abbreviation.
        named = [one for one in (_FILE, _FOLDER) if one.startswith(begun)]
        if len(named) == 1:
            if not equals:
                value = next(arguments, "")
            if value:  # otherwise oslo.config explains the usage
                yield named[0], value


def _files_in(folder: str) -> list[str]:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be listed: {error.strerror}"
        ) from None
    return sorted(glob.glob(os.path.join(folder, "*.conf")))  # noqa: PTH118, PTH207 # as oslo.config does it: no hidden ones


def _is_same(section: str, group: str) -> bool:
    """Return whether oslo.config reads SECTION as GROUP."""
    either = section.lower() == group.lower()
    return section == group if "DEFAULT" in (section, group) else either


def _parse(file: str) -> dict[str, dict[str, list[str]]]:
    """Return section -> option -> values of FILE.

    An error message never quotes a line: it may have the secret.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(file, sections).parse()
    except cfg.ParseError as error:
        reason = f"line {error.lineno}: {error.msg}"
        if (error.line or "").startswith("\ufeff"):
            reason = "line 1: begins with a byte order mark; save it without"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    else:
        return sections
    raise ConfigError(f"{file}: {reason}") from None
