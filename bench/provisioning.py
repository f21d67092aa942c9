"""Many networks bound at once until all answer; unbound, until nothing is."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Sequence

from sandbox import Instance, Sandbox, wait_for

from . import binding, sides
from .report import Report, progress, sized

# Networks at once, and how often.
ROUNDS = sized({40: 3, 200: 1, 400: 1}, {4: 1, 16: 1})
TIMEOUT_S = 600.0
RATIO_BOUND = sized(0.3, 0.5)  # of Neutron's time until all answer
EXPONENT_BOUND = 1.4  # of time over networks
REMOVAL_BOUND_S = 5.0

Seconds = dict[tuple[str, int], list[float]]  # side, networks -> rounds


def main() -> int:
    """Measure, print, return the exit code."""
    bound: Seconds = {}
    first: Seconds = {}
    gone: Seconds = {}
    alone: dict[int, float] = {}
    with Sandbox() as box:
        most = binding.make_instances(box, max(ROUNDS))
        unbind_all(box, most)
        for count, rounds in ROUNDS.items():
            instances = most[:count]
            alone[count] = ovn_alone(box, instances)
            for side in sides.both(box) * rounds:
                with sides.running(side):
                    times, removal = once(box, side, instances)
                key = side.name, count
                bound.setdefault(key, []).append(max(times))
                first.setdefault(key, []).append(min(times))
                gone.setdefault(key, []).append(removal)
                progress(
                    f"{count} networks {side.name}: all answer after "
                    f"{max(times):.2f} s, removed after {removal:.2f} s"
                )
    return summarize(bound, first, gone, alone).finish()


def summarize(
    bound: Seconds, first: Seconds, gone: Seconds, alone: dict[int, float]
) -> Report:
    """Return the table, the bounds and the plot."""
    report = Report("provisioning", ("ours", "theirs", "ratio"))
    for count in ROUNDS:
        for what, results in (
            ("bound until the first answers, s", first),
            ("bound until all answer, s", bound),
            ("unbound until nothing is left, s", gone),
        ):
            report.row(
                f"{count} networks {what}",
                statistics.median(results[sides.OURS, count]),
                statistics.median(results[sides.THEIRS, count]),
                ratio(results, count),
            )
        part = alone[count]
        report.row(f"{count} networks, OVN's own part, s", part, part, "")
        report.bound(
            f"time until all of {count} answer, of Neutron's",
            ratio(bound, count),
            "<=",
            RATIO_BOUND,
        )
    report.bound(
        f"seconds until nothing of {min(ROUNDS)} is left",
        max(gone[sides.OURS, min(ROUNDS)]),
        "<=",
        REMOVAL_BOUND_S,
    )
    curves = {
        name: [(n, statistics.median(bound[name, n])) for n in ROUNDS]
        for name in (sides.OURS, sides.THEIRS)
    }
    report.bound(
        "exponent of our time over the networks",
        exponent(curves[sides.OURS][0], curves[sides.OURS][-1]),
        "<=",
        EXPONENT_BOUND,
    )
    report.plot(
        "Networks bound at once, until all answer",
        curves,
        axes=("networks", "s"),
    )
    return report


def exponent(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Return e where the time grows as the networks to the power of e."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


def ratio(results: Seconds, count: int) -> float:
    """Return the median of the rounds' ratios, ours to theirs."""
    pairs = zip(
        results[sides.OURS, count], results[sides.THEIRS, count], strict=True
    )
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
