"""The names of the databases' servers."""

from __future__ import annotations

import threading

import pytest

from ovn_metadata.agent.ovsdb import streams
from sandbox import wait_for

NAME = "sb.example"


def test_a_look_up_without_a_thread_is_tried_again(monkeypatch):
    """The host has no more processes for a while."""

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(streams, "look_up", lambda _: ["192.0.2.1"])
    names = streams.Names()
    with pytest.MonkeyPatch.context() as for_now:
        for_now.setattr(threading.Thread, "start", full)
        names.refresh(NAME)
    assert "can't start new thread" in names.problems[NAME]
    names.refresh(NAME)
    found = wait_for(
        lambda: names.in_turn(NAME), timeout_s=10, what="the address"
    )
    assert found == ["192.0.2.1"]
