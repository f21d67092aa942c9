"""What the agent confirms to the gateway: what it has read, and no more."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import pytest

from ovn_metadata.agent.model import ChassisSnapshot, NetworkSnapshot
from ovn_metadata.agent.watches.confirmation import Reading, next_reading

NOW_MS = 1_700_000_000_000
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
LAST = Reading(10.0, NOW_MS, {"old": NOW_MS - 5000, "never": 0})


def snapshot(*, complete: bool = True) -> ChassisSnapshot:
    network = NetworkSnapshot(NETWORK, None, (), complete=complete)
    return ChassisSnapshot(uuid.uuid4(), {NETWORK: network}, synced=True)


def following(
    last: Reading, waited_s: Mapping[str, float], *, complete: bool = True
) -> Reading:
    """Return what is known half a second after LAST."""
    return next_reading(
        last,
        snapshot(complete=complete),
        at=10.5,
        read_ms=NOW_MS + 500,
        waited_s=waited_s,
    )


def test_all_networks_have_one_time():
    assert following(LAST, {}) == Reading(10.5, NOW_MS + 500, {})


@pytest.mark.parametrize(
    ("network", "waited_s", "until_ms"),
    [
        pytest.param("new", 0.3, NOW_MS, id="it waits for rows since then"),
        pytest.param("old", 7.0, NOW_MS - 5000, id="it waits all the time"),
        pytest.param("old", 0.3, NOW_MS, id="it was done, and waits again"),
        pytest.param("lost", 7.0, 0, id="it waits, and nothing is known"),
        pytest.param("never", 0.3, 0, id="it had not all its rows"),
    ],
)
def test_a_network_that_waits_has_what_was_read_before(
    network, waited_s, until_ms
):
    assert following(LAST, {network: waited_s}).waiting == {network: until_ms}


def test_nothing_is_known_of_networks_that_wait_at_the_start():
    """The rows may be older than the agent: nobody has read them yet."""
    now = following(Reading(10.0), {NETWORK: 0.3})
    assert now.waiting == {NETWORK: 0}


def test_nothing_is_known_of_a_network_without_all_its_rows():
    now = following(LAST, {NETWORK: 0.3}, complete=False)
    assert now.waiting == {NETWORK: 0}
