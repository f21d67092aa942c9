"""The gate that threads pass together."""

from __future__ import annotations

import threading
import time

from ovn_metadata.privsep.gate import Gate

LONG_S = 60.0


class Passer:
    """A thread that comes to GATE, and waits there when it is told to."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._comes = threading.Event()
        self._go = threading.Event()
        self.passed = threading.Event()
        self.waits = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._comes.wait(LONG_S)

    def _run(self) -> None:
        with self._gate.coming():
            self._comes.set()
            self._go.wait(LONG_S)
            if self.waits:
                self._gate.wait()
        self.passed.set()

    def go(self) -> None:
        """Wait at the gate."""
        self._go.set()

    def leave(self) -> None:
        """End without waiting at the gate."""
        self.waits = False
        self.go()


def test_who_is_alone_does_not_wait():
    begun = time.monotonic()
    Gate(LONG_S).wait()
    assert time.monotonic() - begun < LONG_S / 2


def test_the_first_waits_for_who_is_coming():
    gate = Gate(LONG_S)
    first, second = Passer(gate), Passer(gate)
    first.go()
    assert not first.passed.wait(0.05)
    second.go()
    assert first.passed.wait(LONG_S)
    assert second.passed.wait(LONG_S)


def test_who_leaves_is_not_waited_for():
    gate = Gate(LONG_S)
    first, second = Passer(gate), Passer(gate)
    first.go()
    second.leave()
    assert first.passed.wait(LONG_S)


def test_who_comes_later_is_not_waited_for():
    gate = Gate(LONG_S)
    first, second = Passer(gate), Passer(gate)
    first.go()
    assert not first.passed.wait(0.05)
    Passer(gate)
    second.leave()
    assert first.passed.wait(LONG_S)


def test_the_gate_opens_for_all_who_wait():
    gate = Gate(LONG_S)
    first, second = Passer(gate), Passer(gate)
    first.go()
    assert not first.passed.wait(0.05)
    third, _late = Passer(gate), Passer(gate)
    third.go()
    assert not third.passed.wait(0.05)
    second.leave()
    assert first.passed.wait(LONG_S)
    assert third.passed.wait(LONG_S)


def test_patience_ends():
    gate = Gate(0.01)
    Passer(gate)
    begun = time.monotonic()
    gate.wait()
    assert 0.01 <= time.monotonic() - begun < LONG_S / 2
