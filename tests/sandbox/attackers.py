"""Attack from an instance's namespace, in the end at the lowest priority."""

from __future__ import annotations

import contextlib
import select
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from . import Instance, attack

BEGIN_S = 120
ROUNDS, MOST_ROUNDS = 5, 15
BOUND = 2.0  # times what is undisturbed


@contextlib.contextmanager
def attacked(instance: Instance, *command: str) -> Iterator[None]:
    """Have INSTANCE run COMMAND; begin when it says so, or is at it."""
    where = ("ip", "netns", "exec", instance.namespace)
    with subprocess.Popen((*where, *command), stdout=subprocess.PIPE) as made:
        try:
            assert made.stdout is not None
            ready, _, _ = select.select([made.stdout], [], [], BEGIN_S)
            assert ready, "the attack has not begun"
            assert made.stdout.readline(), "the attack has ended"
            yield
            assert made.poll() is None, "the attack has ended"
        finally:
            made.kill()


def holding(instance: Instance, kind: str, count: int, *more: str):
    """Attack from INSTANCE by COUNT connections of KIND."""
    program = str(Path(attack.__file__))
    return attacked(instance, sys.executable, program, kind, str(count), *more)


def hammering(instance: Instance, connections: int, *more: str):
    """Attack from INSTANCE at full speed; it says "Running" at once."""
    url = "http://169.254.169.254/latest/meta-data/instance-id"
    return attacked(
        instance,
        *("nice", "-n", "19", "stdbuf", "-oL", "wrk", "-t1"),
        *(f"-c{connections}", "-d120s", "--timeout", "10s", *more, url),
    )


def check_disturbed(
    undisturbed: Callable[[], float], disturbed: Callable[[], float]
) -> None:
    """Fail if DISTURBED is more than BOUND times UNDISTURBED.

    Both are measured in turns, and the best round of each counts: what else a
    machine is busy with can only add to either. Or the middle ones: one round
    may have had the machine for itself. More rounds are taken while the bound
    is not met.
    """
    without: list[float] = []
    beside: list[float] = []
    for number in range(MOST_ROUNDS):
        without.append(undisturbed())
        beside.append(disturbed())
        is_met = any(
            of(beside) < BOUND * of(without) for of in (min, statistics.median)
        )
        if is_met and number + 1 >= ROUNDS:
            break
    print(f"undisturbed: {without}\ndisturbed: {beside}")
    assert is_met


def p99(seconds: list[float]) -> float:
    """Return what 99 of 100 of SECONDS are below."""
    return sorted(seconds)[int(len(seconds) * 0.99)]
