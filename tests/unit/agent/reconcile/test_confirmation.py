"""What the agent confirms to the gateway, and when it confirms nothing."""

from __future__ import annotations

import uuid

from ovn_metadata.agent.haproxy.unknown import CONFIRMED
from ovn_metadata.agent.model import ChassisSnapshot, NetworkSnapshot
from ovn_metadata.agent.reconcile.confirmation import confirmed

NOW_MS = 1_700_000_000_000
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


def snapshot(*, complete: bool = True, synced: bool = True) -> ChassisSnapshot:
    network = NetworkSnapshot(NETWORK, None, None, (), complete=complete)
    return ChassisSnapshot(uuid.uuid4(), {NETWORK: network}, synced=synced)


def test_all_networks_by_one_entry():
    assert confirmed(snapshot(), {}, read_ms=NOW_MS) == {CONFIRMED: NOW_MS}


def test_a_network_that_waits_is_as_it_was_when_it_began_to_wait():
    times = confirmed(snapshot(), {NETWORK: NOW_MS - 2500}, read_ms=NOW_MS)
    assert times == {CONFIRMED: NOW_MS, NETWORK: NOW_MS - 2500}


def test_a_network_without_all_its_rows_is_never_confirmed():
    times = confirmed(snapshot(complete=False), {NETWORK: 1}, read_ms=NOW_MS)
    assert times == {CONFIRMED: NOW_MS, NETWORK: 0}


def test_nothing_while_rows_are_missing():
    assert confirmed(snapshot(synced=False), {}, read_ms=NOW_MS) == {}
