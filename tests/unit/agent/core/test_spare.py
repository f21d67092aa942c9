"""Which networks without a bound port are ready, how many and how long."""

from __future__ import annotations

import dataclasses
import math
import random
import uuid

import pytest

from ovn_metadata.agent.core import spare
from ovn_metadata.agent.core.spare import REQUEST_S, Spare
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    Localport,
    NetworkSnapshot,
    VifPort,
)

CHASSIS = uuid.UUID(int=1)
MAC = "fa:16:3e:00:00:01"
LOCALPORT = Localport("metadata", MAC, frozenset(), 1442)
KEEP_S = 120


def network(key: str, ports: str, *, localport: bool = True):
    """Return a network; PORTS in capitals are bound, the others requested."""
    found = tuple(
        VifPort(
            *(f"{key}-{name.lower()}", MAC, frozenset({MAC}), (), "i", "p"),
            bound=name.isupper(),
        )
        for name in sorted(ports, key=str.lower)
    )
    return NetworkSnapshot(key, LOCALPORT if localport else None, found)


class Machine:
    """The state, with a clock, a connection and the settings."""

    def __init__(self, *, limit: int = 64, keep_s: int = KEEP_S) -> None:
        self.now = 1000.0
        self.connected = True
        self.limit, self.keep_s = limit, keep_s
        self.state = Spare()
        self.settled = ChassisSnapshot(CHASSIS, {}, settled=True)

    def see(self, *networks: NetworkSnapshot, **more: object) -> None:
        found = {each.network: each for each in networks}
        self.settled = dataclasses.replace(
            self.settled,
            networks=found,
            **more,  # type: ignore[arg-type]
        )
        self.wait(0.0)

    def wait(self, seconds: float) -> None:
        """Let SECONDS pass."""
        self.now += seconds
        self.state = self._step()
        assert self._step() == self.state, "a second call changed it"

    def _step(self) -> Spare:
        return spare.add_spare(
            self.state,
            self.settled,
            limit=self.limit,
            keep_s=self.keep_s,
            now=self.now,
            connected=self.connected,
        )

    def ready(self) -> str:
        """Return the networks that are ready, in the form of `network`."""
        return " ".join(
            key + ":" + ("kept" if found.kept else ports(found))
            for key, found in sorted(self.state.snapshot.networks.items())
        )


def ports(found: NetworkSnapshot) -> str:
    names = ((p.logical_port.split("-")[1], p.bound) for p in found.ports)
    return "".join(name.upper() if bound else name for name, bound in names)


# ----------------------------------------------------------- requested ports


def test_a_requested_port_counts_for_ten_minutes_and_always_once_bound():
    machine = Machine()
    machine.see(network("n", "a"))
    assert machine.ready() == "n:a"
    assert machine.state.due_at == machine.now + REQUEST_S
    machine.wait(REQUEST_S - 1)
    assert machine.ready() == "n:a"
    machine.wait(1)
    assert machine.ready() == ""
    assert machine.state.due_at == math.inf
    machine.wait(REQUEST_S)
    assert machine.ready() == ""
    machine.see(network("n", "A"))
    machine.wait(10 * REQUEST_S)
    assert machine.ready() == "n:A"


def test_a_port_that_is_unplugged_is_a_newly_requested_one():
    machine = Machine(keep_s=0)
    machine.see(network("n", "A"))
    machine.wait(10 * REQUEST_S)
    machine.see(network("n", "a"))
    assert machine.ready() == "n:a"
    machine.wait(REQUEST_S)
    assert machine.ready() == ""


def test_a_request_that_is_taken_back_and_made_again_is_a_new_one():
    machine = Machine()
    machine.see(network("n", "a"))
    machine.wait(REQUEST_S)
    machine.see()
    machine.see(network("n", "a"))
    assert machine.ready() == "n:a"


def test_the_time_of_each_port_is_its_own():
    machine = Machine()
    machine.see(network("n", "aX"))
    machine.wait(400)
    machine.see(network("n", "abX"))
    machine.wait(200)
    assert machine.ready() == "n:bX"
    assert machine.state.due_at == machine.now + 400
    machine.wait(400)
    assert machine.ready() == "n:X"


@pytest.mark.parametrize("reason", ["disconnected", "not settled"])
def test_no_time_ends_while_a_bound_port_may_not_be_seen(reason):
    machine = Machine()
    machine.see(network("n", "a"), network("m", "B"))
    machine.see(network("n", "a"))
    if reason == "disconnected":
        machine.connected = False
    else:
        machine.see(network("n", "a"), settled=False)
    machine.wait(10 * REQUEST_S)
    assert machine.ready() == "m:kept n:a"
    assert machine.state.due_at == math.inf
    machine.connected = True
    machine.see(network("n", "a"), settled=True)
    assert machine.ready() == ""


def test_what_no_longer_counted_does_not_come_back_in_an_outage():
    machine = Machine()
    machine.see(network("n", "a"))
    machine.wait(REQUEST_S)
    machine.connected = False
    machine.wait(1)
    machine.see(network("n", "a"), settled=False)
    assert machine.ready() == ""


# -------------------------------------------------------------- kept networks


@pytest.mark.parametrize("left", [(), (network("n", ""),)])
def test_a_network_is_kept_for_a_while_after_its_last_bound_port(left):
    machine = Machine()
    machine.see(network("n", "AB"))
    machine.see(network("n", "B"))
    machine.see(*left)
    assert machine.ready() == "n:kept"
    kept = machine.state.snapshot.networks["n"]
    assert kept == dataclasses.replace(network("n", "B"), kept=True)
    assert machine.state.snapshot.is_certain("n")
    assert machine.state.due_at == machine.now + KEEP_S
    machine.wait(KEEP_S - 1)
    assert machine.ready() == "n:kept"
    machine.wait(1)
    assert machine.ready() == ""
    assert machine.state.snapshot.is_certain("n")


def test_a_port_that_comes_back_ends_the_time_and_a_new_one_begins():
    machine = Machine()
    machine.see(network("n", "A"))
    machine.see()
    machine.wait(100)
    machine.see(network("n", "A"))
    assert machine.ready() == "n:A"
    machine.wait(1000)
    machine.see()
    machine.wait(100)
    assert machine.ready() == "n:kept"


def test_a_network_that_only_had_requested_ports_is_not_kept():
    machine = Machine()
    machine.see(network("n", "a"))
    machine.see()
    assert machine.ready() == ""
    # Nor one whose port is no longer waited for, long after it was bound.
    machine.see(network("n", "A"))
    machine.see(network("n", "a"))
    machine.wait(REQUEST_S)
    assert machine.ready() == ""


def test_the_request_of_an_unplugged_port_is_taken_back_soon():
    machine = Machine()
    machine.see(network("n", "A"))
    machine.see(network("n", "a"))
    machine.wait(100)
    machine.see()
    assert machine.ready() == "n:kept"
    machine.wait(20)
    assert machine.ready() == ""


def test_a_network_without_a_localport_is_not_kept():
    """It was not provisioned; it must not be for no port at all."""
    machine = Machine()
    machine.see(network("n", "A"))
    machine.see(network("n", "A", localport=False))
    machine.see()
    assert machine.ready() == ""


def test_a_network_is_kept_from_when_its_end_is_certain():
    machine = Machine()
    machine.see(network("n", "A"))
    machine.see(settled=False)
    assert machine.ready() == ""
    assert not machine.state.snapshot.is_certain("n")
    machine.wait(500)
    machine.see(settled=False, gone=frozenset({"n"}))
    assert machine.ready() == "n:kept"


# -------------------------------------------------------------- how many


def test_the_newest_are_ready_and_bound_ones_always():
    machine = Machine(limit=2)
    machine.see(network("n1", "a"))
    machine.wait(1)
    machine.see(network("n1", "a"), network("n2", "A"))
    machine.wait(1)
    machine.see(network("n1", "a"), network("n3", "a"))
    # Of two that are equally old, the one that waits for a port.
    assert machine.ready() == "n2:kept n3:a"
    machine.wait(1)
    four = [network(f"n{n}", "aB") for n in range(4, 8)]
    machine.see(network("n1", "ab"), network("n3", "a"), *four)
    assert machine.ready() == "n1:ab n3:a n4:aB n5:aB n6:aB n7:aB"


def test_a_place_that_is_free_goes_to_the_next_but_not_to_a_removed_one():
    machine = Machine(limit=1)
    machine.see(network("n1", "a"), network("n2", "A"))
    machine.wait(1)
    machine.see(network("n1", "a"))
    machine.wait(1)
    machine.see(network("n1", "a"), network("n3", "a"))
    assert machine.ready() == "n3:a"
    machine.see()
    assert machine.ready() == ""
    machine.see(network("n1", "a"))
    assert machine.ready() == "n1:a"


def test_with_none_only_bound_ports_count():
    machine = Machine(limit=0)
    machine.see(network("n", "a"), network("m", "aB"))
    assert machine.ready() == "m:B"
    machine.see(network("n", "a"), network("m", "ab"))
    assert machine.ready() == ""
    # The option is changed, and changed back.
    machine.limit = 1
    machine.wait(1)
    assert machine.ready() == "m:ab"
    machine.limit = 0
    machine.wait(1)
    assert machine.ready() == ""


def test_without_a_time_a_network_goes_with_its_last_port():
    machine = Machine(keep_s=0)
    machine.see(network("n", "A"))
    machine.see(settled=False, gone=frozenset({"n"}))
    assert machine.ready() == ""
    assert machine.state.snapshot.is_certain("n")


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_bound_ports_count_and_the_limit_holds(seed):
    lot = random.Random(seed)
    machine = Machine(limit=2)
    for _ in range(60):
        machine.connected = lot.random() < 0.8
        drawn = [
            network(
                f"n{n}",
                "".join(lot.choice(("", "", c, c.upper())) for c in "ab"),
            )
            for n in range(5)
            if lot.random() < 0.7
        ]
        machine.see(*drawn, settled=lot.random() < 0.7)
        machine.wait(lot.choice((0, 30, REQUEST_S)))
        found = machine.state.snapshot.networks
        spares = [each for each in found.values() if each.spare]
        assert len(spares) <= machine.limit
        for each in drawn:
            bound = {p for p in each.ports if p.bound}
            if bound:
                assert bound <= {*found[each.network].ports}
                assert not found[each.network].kept
    machine.connected = True
    machine.see(settled=True)
    machine.wait(REQUEST_S)
    assert machine.state == Spare(machine.settled)


def test_a_kept_network_waits_for_no_answer():
    """Its metadata port's row went, and its last port before the answer."""
    machine = Machine()
    machine.see(dataclasses.replace(network("n", "A"), complete=False))
    machine.see()
    assert machine.ready() == "n:kept"
    assert machine.state.snapshot.is_certain("n"), "its map keeps its entries"
