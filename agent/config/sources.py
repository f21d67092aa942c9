"""Find the file that sets an option, for an error message of one line.

oslo.config remembers one file per section, the last one that has the section.
So `conf.get_location()` may name the wrong file. Its error messages quote
lines, and one line has the secret. So each file is parsed here too, with the
same parser, before oslo.config parses it.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from oslo_config import cfg

from ..core.masking import without_credentials
from ..errors import ConfigError

_MAX_SHOWN = 80
# Section -> option -> its values.
_Sections: TypeAlias = dict[str, dict[str, list[str]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where a value is set, and how it is written there."""

    place: str  # a file, a variable of the environment, "default"
    text: str


class Options(cfg.ConfigOpts):
    """oslo.config's options; `files` are those read, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[tuple[str, _Sections]] = []

    def _validate_cli_options(self, namespace: Any) -> None:
        """Leave it to `load`: the library exits without the file's name."""

    def _parse_config_files(self) -> Any:
        """Parse all files; raise ConfigError if one can't be read.

        To the library, a folder that can't be listed is an empty one.
        """
        parser: Any = cfg.ConfigParser
        library = parser._parse_file

        def parse_twice(name: str, namespace: Any) -> None:
            file = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 # as oslo.config does it: an unknown ~user stays as it is
            self.files.append((file, parse(file)))
            library(file, namespace)

        parser._parse_file = parse_twice
        try:
            read = super()._parse_config_files()
            for folder in read._config_dirs or self.default_config_dirs:
                os.scandir(os.path.expanduser(folder)).close()  # noqa: PTH111 # as above
        except cfg.ConfigDirNotFoundError as error:
            raise _not_listed(
                error.config_dir, "No such file or directory"
            ) from None
        except OSError as error:
            raise _not_listed(error.filename, error.strerror) from None
        finally:
            parser._parse_file = library
        return read


def _not_listed(folder: str, reason: str | None) -> ConfigError:
    place = os.path.abspath(folder) if folder else "--config-dir"  # noqa: PTH100 # as above
    return ConfigError(f"{place}: cannot be listed: {reason}")


class Sources:
    """The text of all options in all files; the last file wins."""

    def __init__(self, files: Iterable[tuple[str, _Sections]]) -> None:
        self.all: list[tuple[str, str]] = []  # the option and a text of it
        # Files, each with (section, option) -> its last text.
        self._files: list[tuple[str, dict[tuple[str, str], str]]] = []
        for file, sections in files:
            last = {}
            for section, options in sections.items():
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


def _group(section: str) -> str:
    """Return SECTION without its case, which counts in "DEFAULT" alone."""
    return section if section == "DEFAULT" else section.lower()


def parse(file: str) -> _Sections:
    """Return what FILE has; raise ConfigError if it can't be read.

    An error message never quotes a line: it may have the secret.
    """
    sections: _Sections = {}
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
