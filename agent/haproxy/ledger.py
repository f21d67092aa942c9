"""The sums of what a haproxy has counted, over its restarts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# Who was over its share this long ago is so no longer.
CALM_S = 60.0
# What nobody in particular did: haproxy can't tell who was malformed.
MALFORMED = "malformed requests"
# So many of those since the last look are no accident.
_MANY_MALFORMED = 100

_Counts = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """What one haproxy has counted since it started."""

    malformed: int = 0  # requests that it could not parse
    sources: Mapping[str, _Counts] = dataclasses.field(default_factory=dict)


class Ledger:
    """Of one haproxy: the sums, and who is over its share now."""

    def __init__(self) -> None:
        self._last = Counted()
        self._seen: dict[str, float] = {}
        self.sums = (0, 0)  # of all sources
        self.malformed = 0

    def add(self, counted: Counted, now: float) -> list[str]:
        """Take in what was COUNTED; return who is over its share since."""
        over = set()
        for source, counts in counted.sources.items():
            last = self._last.sources.get(source, (0, 0))
            first, second = map(_growth, last, counts)
            self.sums = self.sums[0] + first, self.sums[1] + second
            if first or second:
                over.add(source)
        malformed = _growth(self._last.malformed, counted.malformed)
        self.malformed += malformed
        self._last = counted
        if malformed > _MANY_MALFORMED:
            over.add(MALFORMED)
        for source, seen in list(self._seen.items()):
            if now - seen > CALM_S:
                del self._seen[source]
        news = sorted(over - self._seen.keys())
        self._seen.update(dict.fromkeys(over, now))
        return news

    @property
    def over(self) -> tuple[str, ...]:
        """Who is over its share, sorted."""
        return tuple(sorted(self._seen))


def _growth(before: int, after: int) -> int:
    """Return by how much it grew; what is less now began anew."""
    return after - before if after >= before else after
