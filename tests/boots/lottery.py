"""Which boots meet which outage: drawn from a seed, the same each time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

OUTAGES = ("none", "stopped", "killed", "upgraded", "hangs", "southbound")
# Boots at once. An instance has CPUs of its own, these share one machine's:
# with more of them, the agent would be back before they ask.
_MOST = 4
_STAGGER_S = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """One boot of a round."""

    first: bool  # its port is the first of its network
    both: bool  # the network has IPv4 and IPv6
    delay_s: float  # from the port's plugging to cloud-init's start


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One outage, and the boots in it."""

    outage: str
    tickets: tuple[Ticket, ...]


def draw(seed: int, boots: int) -> Iterator[Round]:
    """Yield rounds of BOOTS boots in all.

    Half of them are first ports. Each outage comes as often as the others,
    if there are enough rounds.
    """
    lot = random.Random(seed)
    size = min(_MOST, max(2, boots // len(OUTAGES)))
    deck: list[str] = []
    while boots > 0:
        if not deck:
            deck = lot.sample(OUTAGES, len(OUTAGES))
        count = min(size, boots)
        boots -= count
        tickets = tuple(
            Ticket(
                first=bool(number % 2),
                both=lot.random() < 0.5,
                delay_s=round(lot.uniform(0, _STAGGER_S), 2),
            )
            for number in range(count)
        )
        yield Round(deck.pop(), tickets)
