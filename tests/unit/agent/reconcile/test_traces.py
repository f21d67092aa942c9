"""Whose port it is that has a network's name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.model import VswitchPort, VswitchSnapshot
from ovn_metadata.agent.reconcile.traces import Traces
from ovn_metadata.privsep import names

A = "0a0a0a0a-0a00-4000-8000-00000000000a"
B = "0a0a0a0a-0a00-4000-8000-00000000000b"  # its first ten are A's


@pytest.mark.parametrize(
    ("network", "marked", "unplugged"),
    [
        pytest.param(A, A, True, id="its own"),
        pytest.param(B, A, False, id="of a network that begins the same"),
        pytest.param(B, "", True, id="without a mark, as Neutron's agent's"),
    ],
)
def test_only_its_own_port_is_unplugged(network, marked, unplugged):
    port = VswitchPort("br-int", "localport", marked, 7)
    outer = names.outer_veth(network)
    assert outer == names.outer_veth(A)
    done: list[str] = []
    vswitch: Any = SimpleNamespace(unplug=done.append)
    privileged: Any = SimpleNamespace(
        remove_veth=lambda _: False,
        remove_program=lambda _: False,
        remove=lambda _: False,
    )
    haproxies: Any = SimpleNamespace(
        privileged=privileged, remove_files=lambda _: False
    )
    snapshot = VswitchSnapshot(ports={outer: port})
    traces = Traces(haproxies, vswitch, lambda: snapshot)
    assert traces.remove(network) == unplugged
    assert done == [outer] * unplugged
