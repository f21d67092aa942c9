"""Threads: one that fails ends the agent; a poll that fails does not."""

from __future__ import annotations

import threading
import time

import pytest

from ovn_metadata.agent import threads
from ovn_metadata.agent.threads import Poller


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("reconcile-3", True),
        ("signals", True),
        ("Thread-8 (run)", True),  # a database's
        ("privsep_reader", True),  # no end of a daemon would be noticed
        ("Thread-9 (process_request_thread)", False),  # of one client
        ("report", False),
    ],
)
def test_a_thread_that_fails(monkeypatch, caplog, name, ends):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    reasons: list[str] = []
    threads.end_with(reasons.append)

    def work() -> None:
        raise ValueError("no such thing")

    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()
    assert len(reasons) == ends
    for reason in reasons:
        assert name in reason
        assert "no such thing" in reason
    assert "Traceback" in caplog.text


class Failing(Poller):
    """Fails with the next of FAILURES at each poll."""

    def __init__(self, *failures: str) -> None:
        super().__init__("failing", 0.001)
        self._failures = [*failures]
        self.done = threading.Event()

    def poll(self) -> None:
        if not self._failures:
            self.done.set()
        elif failure := self._failures.pop(0):
            raise RuntimeError(failure)


def test_a_failure_that_lasts_is_logged_once(caplog):
    poller = Failing("a", "a", "b", "b", "", "b")
    poller.start()
    assert poller.done.wait(10)
    poller.stop()
    said = [str(r.exc_info[1]) for r in caplog.records if r.exc_info]
    assert said == ["a", "b", "b"]


class Patient(Poller):
    """Polls when it is woken, and waits then for more of that."""

    def __init__(self) -> None:
        super().__init__("patient", threading.TIMEOUT_MAX)
        self.polls = threading.Semaphore(0)

    def poll(self) -> None:
        self.polls.release()
        self._wake.wait()
        self._wake.clear()


def test_one_that_is_woken_polls_at_once():
    poller = Patient()
    poller.start()
    assert not poller.polls.acquire(timeout=0.1)
    poller.wake()
    assert poller.polls.acquire(timeout=10)
    poller.stop()


def test_a_poll_that_takes_the_last_wake_does_not_outlast_the_end():
    poller = Patient()
    poller.start()
    poller.wake()
    assert poller.polls.acquire(timeout=10)
    threads.stop([poller])
    assert not poller.thread.is_alive()


class Hung(Poller):
    """Polls until it may go on."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__("hung", 0)
        self._go_on = go_on

    def poll(self) -> None:
        self._go_on.wait(60)


def test_pollers_that_hang_are_waited_for_together():
    go_on, begun = threading.Event(), time.monotonic()
    pollers = [Hung(go_on) for _ in range(20)]
    for poller in pollers:
        poller.start()
    threads.stop(pollers)
    go_on.set()
    assert time.monotonic() - begun < 10
