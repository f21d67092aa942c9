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
from collections.abc import Iterable, Iterator, Sequence
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


class Sources:
    """The text of all options in all files; the last file wins."""

    def __init__(self, files: Iterable[str]) -> None:
        """Read FILES; raise ConfigError if one can't be read."""
        self.all: list[tuple[str, str]] = []  # the option and a text of it
        # Files, each with (section, option) -> its last text.
        self._files: list[tuple[str, dict[tuple[str, str], str]]] = []
        for file in files:
            last = {}
            for section, options in _parse(file).items():
                for name, texts in options.items():
                    last[_group(section), name] = texts[-1]
                    self.all += [(name, text) for text in texts]
            self._files.append((file, last))

    def names(self, group: str) -> Iterator[tuple[str, str]]:
        """Yield (file, option) for every option in the section GROUP."""
        for file, texts in self._files:
            for section, name in texts:
                if section == _group(group):
                    yield file, name

    def find(self, group: str, option: cfg.Opt) -> Origin:
        """Return where the value of OPTION in GROUP comes from."""
        variable = f"OS_{group}__{option.dest}".upper()
        if variable in os.environ:
            return Origin(f"environment {variable}", os.environ[variable])
        old = [alias.name or option.dest for alias in option.deprecated_opts]
        for file, texts in reversed(self._files):
            for name in (option.dest, *old):
                text = texts.get((_group(group), name))
                if text is not None:
                    return Origin(f"{file}: [{group}] {name}", text)
        place = f"default: [{group}] {option.dest}"
        return Origin(place, str(option.default or ""))

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

    FILES and DIRS are those that it reads if ARGV names none.
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


def _group(section: str) -> str:
    """Return SECTION without its case, which counts in "DEFAULT" alone."""
    return section if section == "DEFAULT" else section.lower()


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
