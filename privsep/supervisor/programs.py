"""A program of supervisord, read back from the file that `program` wrote.

For supervisord's extension, which does not load the daemon's code.
"""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from typing import Any, Self

from .. import names

_LAST_OF_SETPRIV = "--inh-caps=-all"


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What supervisord runs for one haproxy."""

    command: str
    network: str  # or "gateway"
    haproxy: str
    config: str
    namespace: str  # path; "" for the gateway
    owner: int  # user id
    group: int  # of all haproxies

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the program that supervisord's CONFIG describes."""
        network = names.network_of_program(config.name) or ""
        words = shlex.split(config.command)
        return cls(
            command=config.command,
            network=network,
            haproxy=words[words.index(_LAST_OF_SETPRIV) + 1],
            config=words[words.index("-f") + 1],
            namespace=_value_of(words, "--net="),
            owner=int(_value_of(words, "--reuid=")),
            group=int(_value_of(words, "--groups=")),
        )

    @property
    def is_gateway(self) -> bool:
        """Return whether it is the gateway's."""
        return self.network == names.GATEWAY

    @property
    def folder(self) -> str:
        """Folder of its configuration."""
        return os.path.dirname(self.config)


def _value_of(words: Sequence[str], option: str) -> str:
    """Return the value of OPTION ("--x=") in WORDS, "" without it."""
    found = (word for word in words if word.startswith(option))
    return next(found, option).removeprefix(option)
