"""From ovn-controller's setting a port `up` to the first answer."""

from __future__ import annotations

import statistics
import sys
import threading
import time

from sandbox import Instance, Sandbox, wait_for

from . import binding, sides
from .provisioning import unbind_all
from .report import Report, progress

TRIALS = 5
TIMEOUT_S = 60.0
BOUND_S = 2.0
_POLL_S = 0.005
_PATIENCE_S = 0.02


def main() -> int:
    """Measure, print, return the exit code."""
    seconds: dict[str, list[float]] = {}
    with Sandbox() as box:
        (instance,) = binding.make_instances(box, 1)
        unbind_all(box, [instance])
        for side in sides.both(box):
            with sides.running(side):
                for _ in range(TRIALS):
                    taken = once(box, instance)
                    wait_for(
                        lambda: not side.leftovers(),  # noqa: B023
                        timeout_s=TIMEOUT_S,
                        what="end of the network",
                    )
                    seconds.setdefault(side.name, []).append(taken)
                    progress(f"{side.name}: {taken:.2f} s")
    report = Report("first_answer", ("ours", "theirs", "ratio"))
    for what, choose in (("median", statistics.median), ("worst", max)):
        ours, theirs = (
            choose(seconds[name]) for name in (sides.OURS, sides.THEIRS)
        )
        report.row(f"up to first 200, {what}, s", ours, theirs, ours / theirs)
    report.bound(
        "median seconds to the first 200",
        statistics.median(seconds[sides.OURS]),
        "<=",
        BOUND_S,
    )
    return report.finish()


def once(box: Sandbox, instance: Instance) -> float:
    """Bind INSTANCE; return the seconds from `up` to its first answer.

    Less than nothing is none: the agent may be there before OVN is.
    """
    up_at: list[float] = []
    watcher = threading.Thread(target=_watch, args=(box, instance, up_at))
    begun = time.monotonic()
    binding.bind([instance])
    watcher.start()
    sent = time.monotonic()
    (taken,) = binding.seconds_to_answers(
        [instance], timeout_s=TIMEOUT_S, patience_s=_PATIENCE_S
    )
    answered = sent + taken
    watcher.join()
    if not up_at:
        raise TimeoutError(f"{instance.port.id} was not up in {TIMEOUT_S} s")
    unbind_all(box, [instance])
    assert up_at[0] >= begun  # noqa: S101
    return max(0.0, answered - up_at[0])


def _watch(box: Sandbox, instance: Instance, up_at: list[float]) -> None:
    """Note in UP_AT when the port of INSTANCE was up."""
    where = [["logical_port", "==", instance.port.id]]

    def is_up() -> bool:
        rows = box.ovn.sb.select("Port_Binding", where, ["up"])
        return bool(rows and rows[0]["up"] is True)

    wait_for(is_up, timeout_s=TIMEOUT_S, what="up", interval_s=_POLL_S)
    up_at.append(time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
