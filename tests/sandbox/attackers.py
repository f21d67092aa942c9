"""Attack from an instance's namespace, at the lowest priority."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from . import Instance, attack


@contextlib.contextmanager
def attacked(instance: Instance, *command: str) -> Iterator[None]:
    """Have INSTANCE run COMMAND; begin when it says so, or is at it."""
    where = ("nice", "-n", "19", "ip", "netns", "exec", instance.namespace)
    with subprocess.Popen((*where, *command), stdout=subprocess.PIPE) as made:
        try:
            assert made.stdout is not None
            ready, _, _ = select.select([made.stdout], [], [], 30)
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
        *("stdbuf", "-oL", "wrk", "-t1", f"-c{connections}", "-d120s"),
        *("--timeout", "10s", *more, url),
    )


def p99(seconds: list[float]) -> float:
    """Return what 99 of 100 of SECONDS are below."""
    return sorted(seconds)[int(len(seconds) * 0.99)]
