"""When a client over its share is reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ovn_metadata.agent import threads
from ovn_metadata.agent.haproxy.counters import Counted
from ovn_metadata.agent.metrics.meter import Meter
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.watches.watch import _TURNS as TURNS
from ovn_metadata.agent.watches.watch import Watch


def watch_of(
    status: Status,
    read: Callable[[str], Counted],
    on_silence: Callable[[str], object] = lambda _: None,
) -> Watch:
    """Return a watch that gets what READ returns."""
    site: Any = SimpleNamespace(
        status=status,
        haproxies=SimpleNamespace(counted=read),
        meter=Meter(),
        queues=SimpleNamespace(visit=on_silence),
    )
    return Watch(site)


def test_clients_over_their_share_are_named_once(caplog):
    status = Status("1")
    for network in ("bad", "good"):
        status.served(network)

    def read(network: str) -> Counted:
        if network == "bad":
            raise OSError("it does not answer")
        return Counted(0, {"greedy": (3, 0, 2)})

    silent: list[str] = []
    watch = watch_of(status, read, silent.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * TURNS):
            watch.poll()
    assert [record.getMessage() for record in caplog.records] == [
        "network=good over its share: greedy; refused_connections=3 "
        "unlogged_requests=0 rate_limited_requests=2 incomplete_requests=0"
    ]
    assert silent == ["bad", "bad"]
    good = status.as_dict()["networks"]["good"]
    assert good["over_share"] == ("greedy",)
    status.gone("good")
    watch.poll()
    assert not watch._sums


def test_one_that_hangs_takes_no_turn_of_others(monkeypatch):
    status = Status("1")
    now, read = 0.0, []
    every = [f"n{number:02}" for number in range(2 * TURNS)]
    for network in every:
        status.served(network)

    def hang(network: str) -> Counted:
        nonlocal now
        read.append(network)
        now += 60 * (network == "n00")
        return Counted()

    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch = watch_of(status, hang)
    for _ in range(2 * TURNS):
        watch.poll()
    assert {*read} == {*every}


def test_it_ends_at_once():
    status = Status("1")
    watch = watch_of(status, lambda _: Counted())
    watch.start()
    threads.stop([watch])
    assert not watch.thread.is_alive()
