"""What the shield costs: all of it on, beside all of it off.

The same agent takes turns. Each request has a token while it is on.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

from sandbox import Instance, Sandbox, wait_for
from sandbox.shielded import OFF, OWN, TOKEN, new_token, status, with_token

from . import binding, load
from .report import Report, progress, sized

ON = {
    (OWN, "refuse_forwarded"): "enforce",
    (OWN, "tokens"): "required",
    (OWN, "hop_limit"): "1",
}
ROUNDS = sized(11, 3)
CONNECTIONS = (4, 16)
SECONDS = 3.0
RATE_BOUND, P50_BOUND = 0.93, 1.1

Rounds = list[tuple[load.Load, load.Load]]  # off, on


def main() -> int:
    """Measure, print, return the exit code."""
    seen: dict[int, Rounds] = {count: [] for count in CONNECTIONS}
    with Sandbox() as box:
        (instance,) = binding.make_instances(box, 1)
        box.agent.start()
        box.agent.wait_ready()
        binding.seconds_to_answers([instance], timeout_s=60)
        for number in range(ROUNDS):
            order = (False, True) if number % 2 else (True, False)
            made = {on: measure(box, instance, on=on) for on in order}
            for count, rounds in seen.items():
                off, on = made[False][count], made[True][count]
                rounds.append((off, on))
                progress(
                    f"round {number + 1} {count} connections: off "
                    f"{off.rate:.0f}/s, on {on.rate:.0f}/s"
                )
    return summarize(seen).finish()


def measure(
    box: Sandbox, instance: Instance, *, on: bool
) -> dict[int, load.Load]:
    """Return connections -> the load of INSTANCE, with the shield ON or off.

    Raises RuntimeError if an answer was not 200.
    """
    box.agent.configure(ON if on else OFF)
    box.agent.reload()
    wait_for(
        lambda: status(instance) == (401 if on else 200),
        timeout_s=60,
        what="the option in force",
    )
    headers = {TOKEN: good_token(instance)} if on else {}
    load.measure(instance, connections=4, seconds=1, headers=headers)
    found = {}
    for count in CONNECTIONS:
        found[count] = load.measure(
            instance, connections=count, seconds=SECONDS, headers=headers
        )
        if found[count].refused or found[count].failed:
            raise RuntimeError(f"not all were answered 200: {found[count]}")
    return found


def good_token(instance: Instance) -> str:
    """Return a token of INSTANCE, when it is good.

    A haproxy that has to finish may still take connections: it knows no
    tokens, and passes the request for one on.
    """

    def found() -> str:
        token = new_token(instance, 3600)
        return token if with_token(instance, token) == 200 else ""

    return wait_for(found, timeout_s=60, what="a token that is good")


def summarize(seen: dict[int, Rounds]) -> Report:
    """Return the medians, and the ratios of each round."""
    report = Report("shield", ("off", "on", "ratio", "each round"))

    def compare(
        what: str, rounds: Rounds, value: Callable[[load.Load], float]
    ) -> float:
        each = [value(on) / value(off) for off, on in rounds]
        ratio = statistics.median(each)
        report.row(
            what,
            statistics.median(value(off) for off, _ in rounds),
            statistics.median(value(on) for _, on in rounds),
            ratio,
            " ".join(f"{one:.2f}" for one in each),
        )
        return ratio

    for count, rounds in seen.items():
        rate = f"{count} connections, answers/s"
        p50 = f"{count} connections, p50, ms"
        ratio = compare(rate, rounds, lambda one: one.rate)
        report.bound(f"{rate}, of those off", ratio, ">=", RATE_BOUND)
        ratio = compare(p50, rounds, lambda one: one.p50_ms)
        report.bound(f"{p50}, of that off", ratio, "<=", P50_BOUND)
    return report


if __name__ == "__main__":
    sys.exit(main())
