"""Memory (PSS) over networks, both agents; and CPU while nothing happens.

The networks are there when the agent starts, as after a reboot of the host:
the time from that to the last first answer is measured too. And how long the
operator waits for agent-status, `agent-status why` and a scrape.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sandbox import Instance, Sandbox, metrics
from sandbox.processes import cpu_s as cpu_of_one_s
from sandbox.processes import processes, pss_kib

from . import binding, sides
from .report import Report, progress, sized

NETWORKS = sized((1, 50, 200, 400), (16,))
IDLE_S = sized(60.0, 3.0)  # measured for so long, or longer
SETTLED_S = sized(10.0, 1.0)  # after so long
TIMEOUT_S = 1200.0
# Of ours, with the fewest networks, in MiB.
BOUNDS = {"agent": 60.0, "privsep": 50.0, "supervisord": 40.0}
KINDS = (*BOUNDS, "haproxy")
# PSS of all, of Neutron's.
RATIO_BOUNDS = {1: 0.35, 16: 0.7, 50: 0.6, 200: 0.85, 400: 0.95}
START_BOUND = sized(0.5, 0.8)  # until all answer, of Neutron's time
TOOL_BOUND_S = sized(2.0, 5.0)
IDLE_BOUND = sized(6.0, 50.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What one agent took with so many networks."""

    start_s: float  # until all answer
    sizes: dict[str, float]  # kind, or "total" -> MiB
    idle_percent: float  # of a core, all processes
    tools: dict[str, float]  # of ours -> seconds


Results = dict[tuple[str, int], Seen]


def main() -> int:
    """Measure, print, return the exit code."""
    seen: Results = {}
    with Sandbox() as box:
        instances: list[Instance] = []
        for count in NETWORKS:
            there = len(instances)
            instances += binding.make_instances(
                box, count - there, offset=there
            )
            for side in sides.both(box):
                seen[side.name, count] = once(box, side, instances)
                progress(
                    f"{count} networks {side.name}: {seen[side.name, count]}"
                )
    return summarize(seen).finish()


def once(box: Sandbox, side: sides.Side, instances: list[Instance]) -> Seen:
    """Start SIDE, wait until INSTANCES are answered, measure, end it."""
    before = pids()
    begun = time.monotonic()
    with sides.running(side):
        binding.seconds_to_answers(instances, timeout_s=TIMEOUT_S)
        start_s = time.monotonic() - begun
        sizes = measure(before)
        time.sleep(SETTLED_S)
        ours = pids() - before
        # Long enough for one of our passes: a second for each network.
        idle_s = max(IDLE_S, len(instances) * (side.name == sides.OURS))
        used_s = cpu_s(ours)
        time.sleep(idle_s)
        idle = 100 * (cpu_s(ours) - used_s) / idle_s
        ask = side.name == sides.OURS
        tools = tool_seconds(box, instances[0]) if ask else {}
        return Seen(start_s, sizes, idle, tools)


def tool_seconds(box: Sandbox, instance: Instance) -> dict[str, float]:
    """Return how long what an operator asks takes, the program's start too."""
    name = instance.instance_id
    tools: dict[str, Callable[[], object]] = {
        "agent-status --json": lambda: box.agent.status("--json"),
        "agent-status why": lambda: box.agent.status("why", name),
        "a scrape": metrics.scrape,
    }
    seconds = {}
    for what, run in tools.items():
        begun = time.monotonic()
        run()
        seconds[what] = time.monotonic() - begun
    return seconds


def summarize(seen: Results) -> Report:
    """Return the table, the bounds and the plots."""
    report = Report("memory", ("ours", "theirs", "ratio"))
    for count in NETWORKS:
        ours, theirs = seen[sides.OURS, count], seen[sides.THEIRS, count]
        add_rows(report, f"{count} networks", count, ours, theirs)
        report.bound(
            f"MiB of all with {count} networks, of Neutron's",
            ours.sizes["total"] / theirs.sizes["total"],
            "<=",
            RATIO_BOUNDS[count],
        )
    for kind, limit in BOUNDS.items():
        value = seen[sides.OURS, min(NETWORKS)].sizes[kind]
        report.bound(f"MiB of our {kind}", value, "<", limit)
    report.bound(
        f"start until {count} networks answer, of Neutron's time",
        ours.start_s / theirs.start_s,
        "<=",
        START_BOUND,
    )
    report.bound(
        f"seconds of the slowest tool with {count} networks",
        max(ours.tools.values()),
        "<=",
        TOOL_BOUND_S,
    )
    report.bound(
        f"% of a core when idle with {count} networks",
        ours.idle_percent,
        "<=",
        IDLE_BOUND,
    )
    add_plots(report, seen)
    return report


def add_rows(
    report: Report, what: str, count: int, ours: Seen, theirs: Seen
) -> None:
    """Add to REPORT what both took with so many networks."""
    for kind in (*KINDS, "total"):
        a, b = ours.sizes[kind], theirs.sizes[kind]
        report.row(f"{what}, {kind}, MiB", a, b, a / b if b else "")
    each = (one.sizes["haproxy"] / count for one in (ours, theirs))
    report.row(f"{what}, haproxy each, MiB", *each, "")
    a, b = ours.start_s, theirs.start_s
    report.row(f"{what}, start until all answer, s", a, b, a / b)
    a, b = ours.idle_percent, theirs.idle_percent
    report.row(f"{what}, CPU when idle, % of a core", a, b, "")
    for tool, seconds in ours.tools.items():
        report.row(f"{what}, {tool}, s", seconds, "", "")


def add_plots(report: Report, seen: Results) -> None:
    """Add the plots over the networks to REPORT."""
    plots: dict[tuple[str, str], Callable[[Seen], float]] = {
        ("Memory (PSS) of all processes", "MiB"): lambda s: s.sizes["total"],
        ("From the start until all networks answer", "seconds"): lambda s: (
            s.start_s
        ),
    }
    for (title, unit), figure in plots.items():
        curves = {
            name: [(n, figure(seen[name, n])) for n in NETWORKS]
            for name in (sides.OURS, sides.THEIRS)
        }
        report.plot(title, curves, axes=("networks", unit))


def cpu_s(given: Iterable[int]) -> float:
    """Return the seconds of CPU that those of GIVEN have used that run."""
    used_s = 0.0
    for pid in given:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            used_s += cpu_of_one_s(pid)
    return used_s


def measure(before: set[int]) -> dict[str, float]:
    """Return the PSS of what runs now and is not of BEFORE."""
    sizes = dict.fromkeys(KINDS, 0.0)
    for process in processes(*KINDS):
        if process.pid not in before:
            sizes[process.kind] += process.pss_kib / 1024
    sizes["total"] = sum(map(pss_kib, pids() - before)) / 1024
    return sizes


def pids() -> set[int]:
    """Return all processes of the sandbox."""
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    }


if __name__ == "__main__":
    sys.exit(main())
