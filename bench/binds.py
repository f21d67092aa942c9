"""Bind 1,000 ports, and ask for metadata the moment that each is up.

50 at a time, one in five the first of its network. Once with Neutron asking
for the chassis 1 to 3 s before a port is plugged, as it does; once without,
as before OVN 21.12.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from sandbox import Sandbox
from sandbox.agent import SPARE
from sandbox.binds import Bind, Binds
from sandbox.case import wait_served

from . import sides
from .binding import make_instances
from .report import Report, progress

COUNT = 1000
AT_A_TIME = 50
FIRST = 10  # of them: each the first port of its network
SERVED = 40  # networks that have instances already
REQUESTED, NOT_REQUESTED = "requested", "not requested"

Seen = dict[str, list[Bind]]


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument(
        "--neutron", action="store_true", help="Neutron's agent as well"
    )
    arguments = parser.parse_args()
    seen: Seen = {}
    with Sandbox(options=SPARE) as box:
        standing = make_instances(box, SERVED)
        networks = [instance.port.network for instance in standing]
        chosen = sides.both(box) if arguments.neutron else [sides.Ours(box)]
        for side in chosen:
            with sides.running(side):
                wait_served(*standing, timeout_s=120)
                for requested in (True, False):
                    how = REQUESTED if requested else NOT_REQUESTED
                    binds = Binds(box, networks, requested=requested)
                    title = f"{side.name}, {how}"
                    seen[title] = measure(title, binds, arguments.count)
    return summarize(seen).finish()


def measure(title: str, binds: Binds, count: int) -> list[Bind]:
    """Bind COUNT ports by BINDS; return what became of them."""
    seen: list[Bind] = []
    while len(seen) < count:
        seen += binds.round(AT_A_TIME, first=FIRST)
        said = Counter(one.said for one in seen)
        progress(f"{title}: {len(seen)} binds, answered {dict(said)}")
    return seen


def summarize(seen: Seen) -> Report:
    """Return the table and the bound."""
    report = Report("binds", [*seen])

    def row(what: str, figure: Callable[[list[Bind]], float]) -> None:
        report.row(what, *map(figure, seen.values()))

    row("binds", len)
    row("answered 200 at the first try", good)
    row("  of first ports of networks", lambda b: good(firsts(b)))
    row("    of so many", lambda b: len(firsts(b)))
    row("  after ms, median", lambda b: statistics.median(times_ms(b)))
    row("  after ms, p99", lambda b: percentile_99(times_ms(b)))
    row("  after ms, slowest", lambda b: max(times_ms(b)))
    usual = ("404", "503", "refused", "timed out")
    told = {one.said for binds in seen.values() for one in binds}
    for word in (*usual, *sorted(told.difference(usual, ("200",)))):
        row(word, lambda b, w=word: sum(one.said == w for one in b))
    row("the last was served after s", lambda b: max(x.served_s for x in b))
    ours = seen[f"{sides.OURS}, {REQUESTED}"]
    report.bound(
        "share answered 200 at the first try, requested",
        good(ours) / len(ours),
        ">=",
        1.0,
    )
    return report


def firsts(binds: Sequence[Bind]) -> list[Bind]:
    """Return those of BINDS that were the first of their networks."""
    return [one for one in binds if one.is_first]


def good(binds: Sequence[Bind]) -> int:
    """Return how many of BINDS were served at the first try."""
    return sum(one.said == "200" for one in binds)


def times_ms(binds: Sequence[Bind]) -> list[float]:
    """Return the milliseconds that those took."""
    return [1000 * one.seconds for one in binds if one.said == "200"] or [0]


def percentile_99(values: Sequence[float]) -> float:
    """Return the value that 99 of 100 of VALUES are not above."""
    return sorted(values)[int(0.99 * (len(values) - 1))]


if __name__ == "__main__":
    sys.exit(main())
