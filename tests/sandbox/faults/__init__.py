"""Faults along the whole path of a request, each a small entry of a table.

    from sandbox import faults

    with faults.scene(host) as scene:
        for fault in faults.TABLE:
            with faults.injected(scene, fault):
                ...  # the fault is there

A fault is a generator: what is before its `yield` breaks something, and what
is after it is the remedy that the program names, really applied.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

# Each module adds its entries to the table when it is imported.
from . import (  # noqa: F401
    databases,
    forwarding,
    guest,
    haproxies,
    inside,
    nova,
    resources,
    rows,
    wire,
)
from .scene import Scene, scene
from .table import TABLE, Fault

__all__ = ["TABLE", "Fault", "Scene", "injected", "scene"]


@contextlib.contextmanager
def injected(scene: Scene, fault: Fault) -> Iterator[Scene]:
    """Have FAULT in SCENE; afterwards its remedy, whatever happened.

    What is yielded has the instance that the fault is about as its subject.
    """
    broken = dataclasses.replace(scene)
    steps = fault.steps(broken)
    next(steps)
    try:
        yield broken
    finally:
        next(steps, None)
        broken.forget_neighbours()
