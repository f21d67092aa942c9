"""The settings in force, and how they change while the agent runs."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigError, StartError
from . import logs, options
from .settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class Configuration:
    """The settings of the last configuration that could be used."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Read it as `options.load` does."""
        self._argv = argv
        self.conf, self._settings = options.load(argv)

    def settings(self) -> Settings:
        """Return the settings that are in force now."""
        return self._settings

    def reload(self) -> tuple[str, ...]:
        """Read the files again; return which changes wait for a restart.

        Raises ConfigError and StartError if they can't be used: then all of
        the old settings stay in force.
        """
        conf, read = options.load(self._argv)
        if self._settings.shared_secret and not read.shared_secret:
            # The program that writes the file may have emptied it first.
            raise ConfigError(
                "metadata_proxy_shared_secret is missing now; restart the "
                "agent to serve without it"
            )
        settings, waiting = after_reload(self._settings, read)
        try:
            logs.set_up(conf, settings.southbound.log_level)
        except StartError:
            # The log goes where it went, but the library's rate limit is
            # lost. This fails too if the mistake is in a file that both name.
            with contextlib.suppress(StartError):
                logs.set_up(self.conf, self._settings.southbound.log_level)
            raise
        self.conf, self._settings = conf, settings
        return waiting


def after_reload(old: T, read: T) -> tuple[T, tuple[str, ...]]:
    """Return READ with OLD's values where a change waits for a restart.

    Both are Settings, or a group of them. The second value names the options
    that wait.
    """
    kept: dict[str, Any] = {}
    waiting: list[str] = []
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(read, field.name)
        if dataclasses.is_dataclass(before):
            kept[field.name], more = after_reload(before, after)
            waiting += more
        elif (option := field.metadata.get("option")) and option.restart:
            kept[field.name] = before
            waiting += [str(option)] if after != before else []
    return dataclasses.replace(read, **kept), (*waiting,)
