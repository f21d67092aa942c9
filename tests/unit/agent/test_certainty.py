"""When what is not seen may be taken for gone."""

from __future__ import annotations

import threading
import uuid

import pytest

from ovn_metadata.agent.certainty import (
    AWAY_S,
    SETTLE_S,
    START_SETTLE_S,
    Certainty,
)
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    NetworkSnapshot,
    VifPort,
)
from ovn_metadata.agent.monitor.status import Status

FIRST, SECOND = uuid.UUID(int=1), uuid.UUID(int=2)
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
OTHER = "41a75cb1-6ff6-4b80-a10d-e3c4c65b911d"
PORT = "p-1"
MAC = "fa:16:3e:00:00:01"
VIF = VifPort(PORT, MAC, frozenset({MAC}), (), "i-1", "t-1")
BOUND = {NETWORK: NetworkSnapshot(NETWORK, None, None, (VIF,))}
GONE = ChassisSnapshot(None, {})
EMPTY = ChassisSnapshot(FIRST, {}, is_filled=False)


def known(chassis: uuid.UUID, networks=BOUND) -> ChassisSnapshot:
    return ChassisSnapshot(chassis, networks, synced=True)


def asked(chassis: uuid.UUID) -> ChassisSnapshot:
    return ChassisSnapshot(chassis, {})


class Machine:
    """A certainty with the clock in our hands."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.hears = True
        self.status = Status("1")
        self.certainty = Certainty(
            self.status,
            hears_southbound=lambda: self.hears,
            clock=lambda: self.now,
        )

    def see(self, *snapshots: ChassisSnapshot) -> None:
        for snapshot in snapshots:
            self.certainty.note(snapshot, "c-1")

    def is_unsure(self, name: str) -> bool:
        """Tell whether NAME may only not be seen yet."""
        unsure, delay_s = self.certainty.unsure({name})
        assert not unsure or 0 < delay_s <= AWAY_S
        return bool(unsure)


@pytest.mark.parametrize(
    ("seen", "settles_s"),
    [
        pytest.param([], 0, id="nothing yet: no rows are synced either"),
        pytest.param(
            [asked(FIRST), known(FIRST)], START_SETTLE_S, id="an agent starts"
        ),
        pytest.param([known(FIRST, {})], SETTLE_S, id="and nothing is bound"),
        pytest.param(
            [GONE, known(FIRST)], SETTLE_S, id="ovn-controller starts later"
        ),
        pytest.param(
            [known(FIRST), GONE, known(SECOND)], SETTLE_S, id="and restarts"
        ),
        pytest.param(
            [known(FIRST), asked(SECOND), known(SECOND)],
            SETTLE_S,
            id="in one step",
        ),
        pytest.param(
            [known(FIRST), GONE, known(FIRST)],
            SETTLE_S,
            id="the same row is back, of a backup",
        ),
    ],
)
def test_how_long_it_may_not_be_seen(seen, settles_s):
    machine = Machine()
    machine.see(*seen)
    if settles_s:
        assert machine.is_unsure(OTHER)
        machine.now += settles_s - 0.1
        assert machine.is_unsure(OTHER)
    machine.now += 0.1
    assert not machine.is_unsure(OTHER)


def settled() -> Machine:
    """Return one that is certain of FIRST's bindings."""
    machine = Machine()
    machine.see(known(FIRST))
    machine.now += SETTLE_S
    assert not machine.is_unsure(OTHER)
    return machine


def test_the_last_port_goes():
    machine = settled()
    machine.see(known(FIRST, {}))
    assert not machine.is_unsure(NETWORK)


def test_what_was_seen_since_and_is_no_longer_is_gone():
    """A port that is bound and unbound at once is not put off."""
    machine = Machine()
    machine.see(known(FIRST, {}), known(FIRST), known(FIRST, {}))
    assert not machine.is_unsure(NETWORK)
    assert not machine.is_unsure(PORT)
    assert machine.certainty.unsure({PORT, "p-2"}) == ({"p-2"}, AWAY_S)
    # But for a chassis that is made anew it has to be seen anew.
    machine.see(known(SECOND, {}))
    assert machine.is_unsure(NETWORK)


def test_an_outage_stops_the_clock():
    """Its end is not the claims': ovn-controller connects when it does."""
    machine = settled()
    machine.see(known(SECOND, {}))
    machine.hears = False
    for _ in range(10):
        machine.now += AWAY_S
        assert machine.is_unsure(NETWORK)
    machine.hears = True
    machine.now += SETTLE_S - 0.1
    assert machine.is_unsure(NETWORK)
    machine.now += 0.1
    assert not machine.is_unsure(NETWORK)


def test_what_was_certain_before_an_outage_stays_so():
    machine = settled()
    machine.see(known(FIRST, {}))
    machine.hears = False
    assert not machine.is_unsure(PORT)


def test_two_workers_ask_when_the_time_is_up():
    """What one of them clears the other does not trip over."""
    machine = Machine()
    machine.see(known(FIRST))
    machine.now += SETTLE_S
    another = threading.Thread(target=machine.is_unsure, args=(OTHER,))

    def ask_meanwhile() -> bool:
        if another.ident is None:
            another.start()
            another.join(0.2)  # it is done by then, or waits for its turn
        return True

    machine.certainty._hears_southbound = ask_meanwhile
    assert not machine.is_unsure(OTHER)
    another.join()


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        pytest.param(GONE, ["c-1", "ovn-controller"], id="no Chassis row"),
        pytest.param(EMPTY, ["ovn-northd"], id="an empty database"),
    ],
)
def test_what_it_waits_for_is_told_until_it_is_there(snapshot, words):
    machine = Machine()
    machine.see(snapshot)
    (reason,) = machine.status.as_dict()["waiting"].values()
    assert all(word in reason for word in words)
    machine.see(known(FIRST))
    assert machine.status.as_dict()["waiting"] == {}
