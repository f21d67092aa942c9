"""Many networks bound at once until all answer; unbound, until nothing is."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Sequence

from sandbox import Instance, Sandbox, wait_for

from . import binding, sides
from .report import Report, progress

NETWORKS = 40
ROUNDS = 3
TIMEOUT_S = 120.0
RATIO_BOUND = 0.3  # of Neutron's time until all answer
REMOVAL_BOUND_S = 5.0


def main() -> int:
    """Measure, print, return the exit code."""
    bound: dict[str, list[float]] = {}
    first: dict[str, list[float]] = {}
    gone: dict[str, list[float]] = {}
    with Sandbox() as box:
        instances = binding.make_instances(box, NETWORKS)
        unbind_all(box, instances)
        alone = ovn_alone(box, instances)
        for number in range(ROUNDS):
            for side in sides.both(box):
                with sides.running(side):
                    times, removal = once(box, side, instances)
                bound.setdefault(side.name, []).append(max(times))
                first.setdefault(side.name, []).append(min(times))
                gone.setdefault(side.name, []).append(removal)
                progress(
                    f"round {number + 1} {side.name}: all answer after "
                    f"{max(times):.2f} s, removed after {removal:.2f} s"
                )
    report = Report("provisioning", ("ours", "theirs", "ratio"))
    for what, results in (
        (f"{NETWORKS} networks bound until the first answers, s", first),
        (f"{NETWORKS} networks bound until all answer, s", bound),
        ("all unbound until nothing is left, s", gone),
    ):
        report.row(
            what,
            statistics.median(results[sides.OURS]),
            statistics.median(results[sides.THEIRS]),
            ratio(results),
        )
    report.row("OVN's own part of binding, s", alone, alone, "")
    report.bound(
        "time until all answer, of Neutron's", ratio(bound), "<=", RATIO_BOUND
    )
    report.bound(
        "seconds until nothing of ours is left",
        max(gone[sides.OURS]),
        "<=",
        REMOVAL_BOUND_S,
    )
    return report.finish()


def ratio(results: dict[str, list[float]]) -> float:
    """Return the median of the rounds' ratios, ours to theirs."""
    pairs = zip(results[sides.OURS], results[sides.THEIRS], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def once(
    box: Sandbox, side: sides.Side, instances: Sequence[Instance]
) -> tuple[list[float], float]:
    """Bind all and unbind all.

    Return each instance's seconds to its answer, and the seconds until
    nothing of any network was left; infinite if that never came.
    """
    begun = time.monotonic()
    binding.bind(instances)
    sent_s = time.monotonic() - begun
    times = binding.seconds_to_answers(instances, timeout_s=TIMEOUT_S)
    begun = time.monotonic()
    binding.unbind(instances)
    removal = float("inf")
    with contextlib.suppress(TimeoutError):
        wait_for(
            lambda: not side.leftovers(),
            timeout_s=TIMEOUT_S,
            interval_s=0.05,
            what="end of all networks",
        )
        removal = time.monotonic() - begun
    unbind_all(box, instances)
    return [sent_s + seconds for seconds in times], removal


def unbind_all(box: Sandbox, instances: Sequence[Instance]) -> None:
    """Unbind INSTANCES and wait until OVN has noticed."""
    binding.unbind(instances)
    ports = [instance.port.id for instance in instances]

    def unbound() -> bool:
        rows = box.ovn.sb.select(
            "Port_Binding", [["type", "==", ""]], ["logical_port", "chassis"]
        )
        return not any(
            row["chassis"] for row in rows if row["logical_port"] in ports
        )

    wait_for(unbound, timeout_s=TIMEOUT_S, what="ports without a chassis")


def ovn_alone(box: Sandbox, instances: Sequence[Instance]) -> float:
    """Return the seconds OVN needs to bind INSTANCES, without any agent."""
    begun = time.monotonic()
    binding.bind(instances)
    box.ovn.wait_installed(instance.port.id for instance in instances)
    seconds = time.monotonic() - begun
    unbind_all(box, instances)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
