"""Many networks bound at once until all answer; unbound, until nothing is.

What all processes take when all answer is measured, too: `bench.memory` does
that for networks that are there when the agent starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import sys
import time
from collections.abc import Sequence

from sandbox import Instance, Sandbox, wait_for

from . import binding, memory, sides
from .report import Report, progress, sized

# Networks at once, and how often.
ROUNDS = sized({40: 3, 200: 1, 400: 1}, {4: 1, 16: 1})
TIMEOUT_S = 1200.0
RATIO_BOUND = sized(0.2, 0.5)  # of Neutron's time until all answer
MEMORY_BOUND = sized(0.95, 0.6)  # of Neutron's PSS
EXPONENT_BOUND = 1.4  # of time over networks
REMOVAL_BOUND_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One round."""

    first_s: float  # until the first answers
    bound_s: float  # until all do
    gone_s: float  # from there to nothing; infinite if that never came
    mib: float  # PSS of all processes, when all answer


Rounds = dict[tuple[str, int], list[Seen]]  # side, networks


def main() -> int:
    """Measure, print, return the exit code."""
    rounds: Rounds = {}
    alone: dict[int, float] = {}
    with Sandbox() as box:
        most = binding.make_instances(box, max(ROUNDS))
        unbind_all(box, most)
        for count, times in ROUNDS.items():
            instances = most[:count]
            alone[count] = ovn_alone(box, instances)
            for side in sides.both(box) * times:
                before = memory.pids()
                with sides.running(side):
                    seen = once(box, side, instances, before)
                rounds.setdefault((side.name, count), []).append(seen)
                progress(f"{count} networks {side.name}: {seen}")
    return summarize(rounds, alone).finish()


def summarize(rounds: Rounds, alone: dict[int, float]) -> Report:
    """Return the table, the bounds and the plots."""
    report = Report("provisioning", ("ours", "theirs", "ratio"))
    for count in ROUNDS:
        for what, name in (
            ("bound until the first answers, s", "first_s"),
            ("bound until all answer, s", "bound_s"),
            ("unbound until nothing is left, s", "gone_s"),
            ("memory (PSS), MiB", "mib"),
        ):
            report.row(
                f"{count} networks {what}",
                middle(rounds, sides.OURS, count, name),
                middle(rounds, sides.THEIRS, count, name),
                ratio(rounds, count, name),
            )
        part = alone[count]
        report.row(f"{count} networks, OVN's own part, s", part, part, "")
    add_bounds(report, rounds)
    for title, name, unit in (
        ("Networks bound at once, until all answer", "bound_s", "seconds"),
        ("Memory (PSS) when all networks answer", "mib", "MiB"),
    ):
        curves = {
            side: curve(rounds, side, name)
            for side in (sides.OURS, sides.THEIRS)
        }
        report.plot(title, curves, axes=("networks", unit))
    return report


def add_bounds(report: Report, rounds: Rounds) -> None:
    """Add to REPORT what ROUNDS have to keep."""
    for count in ROUNDS:
        report.bound(
            f"time until all of {count} answer, of Neutron's",
            ratio(rounds, count, "bound_s"),
            "<=",
            RATIO_BOUND,
        )
    most = max(ROUNDS)
    report.bound(
        f"MiB of all with {most} networks, of Neutron's",
        ratio(rounds, most, "mib"),
        "<=",
        MEMORY_BOUND,
    )
    report.bound(
        f"seconds until nothing of {min(ROUNDS)} is left",
        max(one.gone_s for one in rounds[sides.OURS, min(ROUNDS)]),
        "<=",
        REMOVAL_BOUND_S,
    )
    few, *_, many = curve(rounds, sides.OURS, "bound_s")
    report.bound(
        "exponent of our time over the networks",
        exponent(few, many),
        "<=",
        EXPONENT_BOUND,
    )


def curve(rounds: Rounds, side: str, name: str) -> list[tuple[int, float]]:
    """Return NAME of SIDE over the networks."""
    return [(count, middle(rounds, side, count, name)) for count in ROUNDS]


def middle(rounds: Rounds, side: str, count: int, name: str) -> float:
    """Return the median of NAME of SIDE with COUNT networks."""
    return statistics.median(getattr(r, name) for r in rounds[side, count])


def exponent(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Return e where the time grows as the networks to the power of e."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


def ratio(rounds: Rounds, count: int, name: str) -> float:
    """Return the median of the rounds' ratios of NAME, ours to theirs."""
    pairs = zip(
        rounds[sides.OURS, count], rounds[sides.THEIRS, count], strict=True
    )
    return statistics.median(
        getattr(ours, name) / getattr(theirs, name) for ours, theirs in pairs
    )


def once(
    box: Sandbox,
    side: sides.Side,
    instances: Sequence[Instance],
    before: set[int],
) -> Seen:
    """Bind all and unbind all; BEFORE are the processes without SIDE's."""
    begun = time.monotonic()
    binding.bind(instances)
    sent_s = time.monotonic() - begun
    times = binding.seconds_to_answers(instances, timeout_s=TIMEOUT_S)
    mib = memory.measure(before)["total"]
    begun = time.monotonic()
    binding.unbind(instances)
    gone_s = float("inf")
    with contextlib.suppress(TimeoutError):
        wait_for(
            lambda: not side.leftovers(),
            timeout_s=TIMEOUT_S,
            interval_s=0.05,
            what="end of all networks",
        )
        gone_s = time.monotonic() - begun
    unbind_all(box, instances)
    return Seen(sent_s + min(times), sent_s + max(times), gone_s, mib)


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
