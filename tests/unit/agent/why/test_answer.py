"""One port of each network, within the time that the client has."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.model import VswitchSnapshot
from ovn_metadata.agent.why import answer

WAIT_S = 60


def of_all(
    monkeypatch: pytest.MonkeyPatch,
    networks: list[str],
    *,
    requested: tuple[str, ...] = (),
    plugged: tuple[str, ...] = (),
    within_s: float = WAIT_S,
) -> dict[str, Any]:
    """Return the answer for NETWORKS; the names of the ports are in theirs."""

    def find(name: str, _chassis: Any) -> list[Any]:
        return [
            SimpleNamespace(
                name=name,
                port=SimpleNamespace(
                    logical_port=port, bound=port not in requested
                ),
            )
            for port in name.split("+")
        ]

    monkeypatch.setattr(answer, "find", find)
    common = SimpleNamespace(
        chassis=SimpleNamespace(networks=networks),
        vswitch=VswitchSnapshot(plugged=frozenset(plugged)),
    )
    gather: Any = SimpleNamespace(common=lambda: common)
    return answer.answer(gather, {"why": "", "within_s": within_s})


def test_a_network_of_instances_that_are_shut_off_is_not_broken(monkeypatch):
    """Neutron requests their ports; a plugged one that is not bound is."""
    monkeypatch.setattr(
        answer,
        "_walk",
        lambda _gather, _common, target, brief: {"of": target.name},
    )
    found = of_all(
        monkeypatch,
        ["bound", "requested", "requested+unbound"],
        requested=("requested", "unbound"),
        plugged=("bound", "unbound"),
    )
    names = [one["of"] for one in found["networks"]]
    assert names == ["bound", "requested+unbound"]


def test_a_walk_that_hangs_does_not_keep_the_others(monkeypatch):
    """As where many haproxies hang; what had no time is counted."""
    networks = ["a", "b", "hangs 1", "hangs 2", "c"]
    go_on = threading.Event()

    def walk(_gather: Any, _common: Any, target: Any, *, brief: bool) -> Any:
        assert brief
        if target.name.startswith("hangs"):
            go_on.wait(WAIT_S)
        return {"network": target.name}

    monkeypatch.setattr(answer, "_walk", walk)
    try:
        found = of_all(monkeypatch, networks, within_s=0.2)
    finally:
        go_on.set()
    assert [one["network"] for one in found["networks"]] == ["a", "b", "c"]
    assert found["late"] == 2
