"""What an entry of the table of faults has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from .scene import Scene

Steps = Callable[[Scene], Iterator[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A fault: how it is made, and what is to be seen of it."""

    name: str
    steps: Steps
    # Any of them is right: the first broken step may be seen in two ways.
    codes: tuple[str, ...]
    # Whether the instance gets no metadata then.
    cuts: bool = True
    # Whether agent-status has one of the codes, too: it is the host's.
    host: bool = True
    # Whether the agent mends it by itself, maybe before anybody asks.
    heals: bool = False
    # Whether it is about metadata by IPv6.
    ipv6: bool = False
    # Only `make faults` tries it.
    slow: bool = False


TABLE: list[Fault] = []


def fault(
    *codes: str,
    cuts: bool = True,
    host: bool = True,
    heals: bool = False,
    ipv6: bool = False,
    slow: bool = False,
) -> Callable[[Steps], Steps]:
    """Add the steps below to the table, under their name."""

    def add(steps: Steps) -> Steps:
        name = steps.__name__.replace("_", "-")
        made = Fault(
            name,
            steps,
            tuple(f"OVNMD-{code}" for code in codes),
            cuts=cuts,
            host=host,
            heals=heals,
            ipv6=ipv6,
            slow=slow,
        )
        TABLE.append(made)
        return steps

    return add
