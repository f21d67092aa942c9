"""The sums of what a haproxy has counted, over its restarts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

# Who was over its share this long ago is so no longer.
CALM_S = 60.0

_Counts = tuple[int, int]
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """What one haproxy has counted since it started."""

    # Requests that were no HTTP, or not finished: it can't tell whose.
    incomplete: int = 0
    sources: Mapping[str, _Counts] = dataclasses.field(default_factory=dict)


class Ledger:
    """Of one haproxy: the sums, and who is over its share now."""

    def __init__(self) -> None:
        self._last: Counted | None = None
        self._seen: dict[str, float] = {}
        self.sums = (0, 0)  # of all sources
        self.incomplete = 0

    def add(self, counted: Counted, now: float) -> list[str]:
        """Take in what was COUNTED; return who is over its share since."""
        # What was before us is not our count.
        before = self._last or Counted(incomplete=counted.incomplete)
        over = set()
        for source, counts in counted.sources.items():
            last = before.sources.get(source, (0, 0))
            first, second = map(growth, last, counts)
            self.sums = self.sums[0] + first, self.sums[1] + second
            if first or second:
                over.add(source)
        self.incomplete += growth(before.incomplete, counted.incomplete)
        self._last = counted
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


def parse_number(text: str) -> int:
    """Return the number that haproxy writes as TEXT; 0 for anything else.

    Who has broken into one may write thousands of digits, at which int()
    raises.
    """
    return int(text) if _NUMBER.fullmatch(text) else 0


def growth(before: int, after: int) -> int:
    """Return by how much it grew; what is less now began anew."""
    return after - before if after >= before else after
