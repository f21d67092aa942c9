"""Requests per second from an instance to Nova and back, both agents."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Sequence

from sandbox import Instance, Sandbox

from . import bare, binding, load, memory, sides
from .report import Report, progress, sized

ROUNDS = sized(5, 2)
CONNECTIONS = sized((1, 4, 16, 64), (1, 16))
SECONDS = sized(4.0, 2.0)  # whole ones, for wrk
WARM_UP_S = 1.0
# Times Neutron's rate, of its latency, at 16 connections. Beside other work
# the p99 of both is how long a process waits for a processor: the quick form
# compares the p50.
BOUND = sized(12.0, 3.0)
LATENCY = sized("p99", "p50")
LATENCY_BOUND = 0.5

_ROWS = (
    ("answers/s", "rate"),
    ("good answers/s", "good_rate"),
    ("errors, %", "error_percent"),
    ("p50, ms", "p50_ms"),
    ("p99, ms", "p99_ms"),
    ("CPU of all processes, ms each", "cpu_ms"),
)

Results = dict[tuple[str, int], list[load.Load]]


def main() -> int:
    """Measure, print, return the exit code."""
    results: Results = {}
    beside: list[list[bare.Pair]] = []
    with Sandbox() as box:
        (instance,) = binding.make_instances(box, 1)
        for number in range(ROUNDS):
            for side in sides.both(box):
                before = memory.pids()
                with sides.running(side):
                    binding.seconds_to_answers([instance], timeout_s=60)
                    load.measure(instance, connections=4, seconds=WARM_UP_S)
                    started = memory.pids() - before
                    for count in CONNECTIONS:
                        seen = _measure(instance, count, started)
                        results.setdefault((side.name, count), []).append(seen)
                        progress(
                            f"round {number + 1} {side.name} {count} "
                            f"connections: {seen.rate:.0f}/s"
                        )
                    if side.name == sides.OURS:
                        beside.append(bare.measure(box, instance))
    report = summarize(results)
    bare.summarize(report, beside)
    return report.finish()


def _measure(instance: Instance, count: int, pids: set[int]) -> load.Load:
    """Return what wrk sees over COUNT connections, and what PIDS take."""
    before = memory.cpu_s(pids)
    seen = load.measure(instance, connections=count, seconds=SECONDS)
    used_ms = 1000 * (memory.cpu_s(pids) - before)
    return dataclasses.replace(seen, cpu_ms=used_ms / max(1, seen.requests))


def summarize(results: Results) -> Report:
    """Return the medians of the rounds, and of their ratios."""
    report = Report("throughput", ("ours", "theirs", "ratio", "each round"))
    for count in CONNECTIONS:
        ours = results[sides.OURS, count]
        theirs = results[sides.THEIRS, count]
        all_ratios = ratios(results, count)
        for what, attribute in _ROWS:
            a, b = (
                statistics.median(getattr(one, attribute) for one in side)
                for side in (ours, theirs)
            )
            rate = attribute == "rate"
            ratio = a / b if attribute == "cpu_ms" else ""
            report.row(
                f"{count} connections, {what}",
                a,
                b,
                statistics.median(all_ratios) if rate else ratio,
                " ".join(f"{r:.1f}" for r in all_ratios) if rate else "",
            )
    report.bound(
        "good answers/s at 16 connections, times Neutron's answers/s",
        statistics.median(ratios(results, 16)),
        ">=",
        BOUND,
    )
    report.bound(
        f"{LATENCY} at 16 connections, of Neutron's",
        latency(results[sides.OURS, 16]) / latency(results[sides.THEIRS, 16]),
        "<=",
        LATENCY_BOUND,
    )
    report.plot(
        "Requests each second",
        {
            name: [
                (
                    count,
                    statistics.median(r.rate for r in results[name, count]),
                )
                for count in CONNECTIONS
            ]
            for name in (sides.OURS, sides.THEIRS)
        },
        axes=("connections", "answers/s"),
        log="xy",
    )
    report.plot(
        "Latency at 16 connections",
        {
            name: middle(results[name, 16]).percentiles
            for name in (sides.OURS, sides.THEIRS)
        },
        axes=("of 100 requests, so many are faster", "ms, errors included"),
        log="y",
    )
    return report


def latency(rounds: Sequence[load.Load]) -> float:
    """Return the median of the ROUNDS' LATENCY, in ms."""
    return statistics.median(getattr(one, f"{LATENCY}_ms") for one in rounds)


def middle(rounds: Sequence[load.Load]) -> load.Load:
    """Return the round whose p50 is in the middle."""
    ordered = sorted(rounds, key=lambda one: one.p50_ms)
    return ordered[len(ordered) // 2]


def ratios(results: Results, count: int) -> list[float]:
    """Return, for each round, our good answers to all of theirs."""
    pairs = zip(
        results[sides.OURS, count], results[sides.THEIRS, count], strict=True
    )
    return [ours.good_rate / theirs.rate for ours, theirs in pairs]


if __name__ == "__main__":
    sys.exit(main())
