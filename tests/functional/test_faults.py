"""Faults one by one: `why` names each, and what it advises helps.

The table is in sandbox/faults. `make faults` tries all of it; otherwise the
slow ones are left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from sandbox import faults
from sandbox.case import Host
from sandbox.faults import trial

ALL = "FAULTS" in os.environ


class Stage:
    """The scene; another one after a fault that did not go away."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stack = contextlib.ExitStack()
        self._scene: faults.Scene | None = None

    def scene(self) -> faults.Scene:
        """Return the scene, all well."""
        if self._scene is None:
            made = self._stack.enter_context(faults.scene(self._host))
            self._scene = made
        return self._scene

    def clear(self) -> None:
        """End the scene."""
        self._scene = None
        self._stack.close()


@pytest.fixture(scope="module")
def stage(host: Host) -> Iterator[Stage]:
    made = Stage(host)
    yield made
    made.clear()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault,
            id=fault.name,
            marks=pytest.mark.skipif(
                fault.slow and not ALL, reason="slow: make faults"
            ),
        )
        for fault in faults.TABLE
    ],
)
def test_fault(stage: Stage, fault: faults.Fault) -> None:
    """It is named, and its remedy brings the metadata back."""
    try:
        print(fault.name, trial.attempt(stage.scene(), fault))
    except BaseException:
        stage.clear()
        raise
