"""One port of each network, within the time that the client has."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from ovn_metadata.agent.why import answer
from ovn_metadata.agent.why.answer import Why

WAIT_S = 60


def test_a_walk_that_hangs_does_not_keep_the_others(monkeypatch):
    """As where many haproxies hang; what had no time is counted."""
    networks = ["a", "b", "hangs 1", "hangs 2", "c"]
    go_on = threading.Event()

    def walk(_why: Why, _common: Any, name: str, *, brief: bool) -> Any:
        assert brief
        if name.startswith("hangs"):
            go_on.wait(WAIT_S)
        return {"network": name}

    monkeypatch.setattr(answer, "find", lambda name, _chassis: [name])
    monkeypatch.setattr(Why, "_walk", walk)
    common = SimpleNamespace(chassis=SimpleNamespace(networks=networks))
    gather: Any = SimpleNamespace(common=lambda: common)
    try:
        found = Why(gather).answer({"why": "", "within_s": 0.2})
    finally:
        go_on.set()
    assert [one["network"] for one in found["networks"]] == ["a", "b", "c"]
    assert found["late"] == 2
