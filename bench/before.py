"""Requests per second of this checkout, beside those of an earlier version.

`make before FROM=COMMIT` runs this. The versions take turns on one chassis;
with each round the first is the other one.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox import Agent, Instance, Sandbox, peer, release

from . import binding, load
from .report import Report, progress

CHECKOUT = Path(os.environ["OVN_METADATA_FROM"])
ROUNDS = 11
CONNECTIONS = (1, 16)
SECONDS = 3.0
BOUND = 0.98


def main() -> int:
    """Measure, print, return the exit code."""
    rates: dict[tuple[str, int], list[float]] = {}
    with Sandbox() as box:
        (instance,) = binding.make_instances(box, 1)
        older = release.build(box.folder, version="0.0.1", checkout=CHECKOUT)
        sides: list[tuple[str, dict[str, Path]]] = [
            ("before", {"prefix": older, "checkout": CHECKOUT}),
            ("now", {}),
        ]
        for number in range(ROUNDS):
            for name, where in sides[:: -1 if number % 2 else 1]:
                box.agent = Agent(box.folder, box.nova, **where)
                for count, rate in measure(box.agent, instance):
                    rates.setdefault((name, count), []).append(rate)
                    progress(
                        f"round {number + 1} {name} {count} connections: "
                        f"{rate:.0f}/s"
                    )
                peer.remove_traces(box.ovn)
    return summarize(rates).finish()


def measure(agent: Agent, instance: Instance) -> Iterator[tuple[int, float]]:
    """Yield connections and the rate of answers, each 200, of AGENT's."""
    agent.start()
    try:
        agent.wait_ready()
        binding.seconds_to_answers([instance], timeout_s=60)
        load.measure(instance, connections=4, seconds=1)
        for count in CONNECTIONS:
            seen = load.measure(instance, connections=count, seconds=SECONDS)
            if seen.refused or seen.failed:
                raise RuntimeError(f"not all were answered 200: {seen}")
            yield count, seen.rate
    finally:
        agent.close()


def summarize(rates: Mapping[tuple[str, int], list[float]]) -> Report:
    """Return the medians of the RATES, and of each round's ratio."""
    report = Report("before", ("before", "now", "ratio", "each round"))
    for count in CONNECTIONS:
        before, now = rates["before", count], rates["now", count]
        each = [b / a for a, b in zip(before, now, strict=True)]
        ratio = statistics.median(each)
        report.row(
            f"{count} connections, answers/s",
            statistics.median(before),
            statistics.median(now),
            ratio,
            " ".join(f"{one:.2f}" for one in each),
        )
        what = f"answers/s at {count} connections, of those before"
        report.bound(what, ratio, ">=", BOUND)
    return report


if __name__ == "__main__":
    sys.exit(main())
