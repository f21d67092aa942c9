"""Who may connect to the gateway's socket, by the operator's options."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.metrics.meter import Meter
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.reconcile.gateway import MODES, Gateway, public_access

AGENT, OTHER = 990, 65534


@pytest.mark.parametrize(
    ("mode", "proxy_gid", "expected"),
    [
        pytest.param("user", None, ("644", AGENT), id="its owner"),
        pytest.param("group", None, ("664", AGENT), id="the agent's"),
        pytest.param("group", OTHER, ("664", OTHER), id="a group"),
        pytest.param("all", OTHER, ("666", OTHER), id="everybody"),
        pytest.param("deduce", None, ("664", AGENT), id="unset"),
        pytest.param("deduce", AGENT, ("664", AGENT), id="the same"),
        pytest.param("deduce", OTHER, ("666", OTHER), id="another"),
        pytest.param("deduce", 0, ("666", 0), id="root's is given"),
    ],
)
def test_mode_and_group(mode, proxy_gid, expected):
    assert public_access(mode, proxy_gid, agent_gid=AGENT) == expected


def test_the_fleet_may_always_write():
    assert all(int(mode, 8) & 0o600 == 0o600 for mode in MODES.values())


def test_a_repaired_gateway_counts_in_the_metrics_too():
    none = SimpleNamespace()
    site: Any = SimpleNamespace(
        settings=none,
        haproxies=SimpleNamespace(places=none),
        privileged=none,
        status=Status("0"),
        meter=Meter(),
    )
    nova_addresses: Any = none
    gateway = Gateway(site, nova_addresses)
    for _ in range(2):  # it is made, then found broken
        gateway._report_served("digest", ["program"])
    assert site.status.as_dict()["repairs"] == 1
    assert site.meter.totals()["repairs_total",] == 1
