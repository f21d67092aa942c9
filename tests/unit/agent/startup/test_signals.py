"""No signal is lost, and none ends the agent before it is set up."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Iterator

import pytest

from ovn_metadata.agent.startup.signals import Signals
from ovn_metadata.privsep.signals import IGNORED


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (
        *(signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2),
        *IGNORED,
    )
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_who_started_us_has_blocked_arrives():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Signals()
    assert signal.pthread_sigmask(signal.SIG_SETMASK, ()) == set()


@pytest.mark.parametrize(
    "end", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
)
def test_an_early_signal_counts_and_a_failed_reload_ends_nothing(end):
    done: queue.Queue[str] = queue.Queue()

    def reload() -> None:
        done.put("reload")
        raise ValueError("a bad configuration")

    signals = Signals()
    os.kill(os.getpid(), signal.SIGHUP)
    signals.start(
        stop=lambda: done.put("stop"),
        reload=reload,
        report=lambda: done.put("report"),
    )
    assert done.get(timeout=10) == "reload"
    os.kill(os.getpid(), signal.SIGHUP)
    assert done.get(timeout=10) == "reload"
    os.kill(os.getpid(), signal.SIGUSR2)
    assert done.get(timeout=10) == "report"
    for number in {*IGNORED} - {end, signal.SIGQUIT}:
        os.kill(os.getpid(), number)
    with pytest.raises(queue.Empty):
        done.get(timeout=0.1)
    os.kill(os.getpid(), end)
    assert done.get(timeout=10) == "stop"
