"""Memory (PSS) with 1 network and with 50, both agents."""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox import Sandbox
from sandbox.processes import processes

from . import binding, sides
from .report import Report, progress

NETWORKS = 50
TIMEOUT_S = 120.0
# Of ours, with 1 network, in MiB.
BOUNDS = {"agent": 60.0, "privsep": 50.0, "supervisord": 40.0}
KINDS = (*BOUNDS, "haproxy")

Sizes = dict[str, float]  # kind, or "total" -> MiB


def main() -> int:
    """Measure, print, return the exit code."""
    sizes: dict[tuple[str, int], Sizes] = {}
    with Sandbox() as box:
        instances = binding.make_instances(box, 1)
        for count in (1, NETWORKS):
            if count > len(instances):
                instances += binding.make_instances(
                    box, count - len(instances), offset=len(instances)
                )
            for side in sides.both(box):
                before = pids()
                with sides.running(side):
                    binding.seconds_to_answers(instances, timeout_s=TIMEOUT_S)
                    sizes[side.name, count] = measure(before)
                progress(
                    f"{count} networks {side.name}: "
                    f"{sizes[side.name, count]['total']:.0f} MiB"
                )
    return summarize(sizes).finish()


def summarize(sizes: dict[tuple[str, int], Sizes]) -> Report:
    """Return the table and the bounds."""
    report = Report("memory", ("ours", "theirs", "ratio"))
    for count in (1, NETWORKS):
        for kind in (*KINDS, "total"):
            ours = sizes[sides.OURS, count][kind]
            theirs = sizes[sides.THEIRS, count][kind]
            report.row(
                f"{count} networks, {kind}, MiB",
                ours,
                theirs,
                ours / theirs if theirs else "",
            )
        for name in (sides.OURS, sides.THEIRS):
            sizes[name, count]["each"] = sizes[name, count]["haproxy"] / count
        report.row(
            f"{count} networks, haproxy each, MiB",
            sizes[sides.OURS, count]["each"],
            sizes[sides.THEIRS, count]["each"],
            "",
        )
    for kind, limit in BOUNDS.items():
        value = sizes[sides.OURS, 1][kind]
        report.bound(f"MiB of {kind} with 1 network", value, "<", limit)
    report.bound(
        f"MiB of all with {NETWORKS} networks, of Neutron's",
        sizes[sides.OURS, NETWORKS]["total"]
        / sizes[sides.THEIRS, NETWORKS]["total"],
        "<",
        1.0,
    )
    return report


def measure(before: set[int]) -> Sizes:
    """Return the PSS of what runs now and is not of BEFORE."""
    sizes: Sizes = dict.fromkeys(KINDS, 0.0)
    for process in processes(*KINDS):
        if process.pid not in before:
            sizes[process.kind] += process.pss_kib / 1024
    sizes["total"] = sum(pss_mib(pid) for pid in pids() - before)
    return sizes


def pids() -> set[int]:
    """Return all processes of the sandbox."""
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    }


def pss_mib(pid: int) -> float:
    """Return the PSS of the process PID; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
