"""Which ports still count while rows may be missing, and for how long."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import uuid
from collections.abc import Mapping

import pytest

from ovn_metadata.agent.core import identity
from ovn_metadata.agent.core.settling import (
    SETTLE_S,
    START_SETTLE_S,
    Settled,
    settle,
)
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    Localport,
    NetworkSnapshot,
    VifPort,
)

FIRST, SECOND = uuid.UUID(int=1), uuid.UUID(int=2)
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
OTHER = "41a75cb1-6ff6-4b80-a10d-e3c4c65b911d"
LOCALPORT = Localport("metadata", "fa:16:3e:0e:b3:8c", frozenset(), 1442)


def vif(name: str, address: str, *, mac: str = "") -> VifPort:
    number = int(ipaddress.ip_address(address)) & 0xFF
    mac = mac or f"fa:16:3e:00:00:{number:02x}"
    return VifPort(
        logical_port=name,
        mac=mac,
        macs=frozenset({mac}),
        addresses=((ipaddress.ip_address(address), mac),),
        instance=f"instance-of-{name}",
        project="p",
    )


A, B, C = (vif(name, f"10.0.0.{n}") for n, name in enumerate("abc", 10))
B_ASKED, C_ASKED = (dataclasses.replace(port, bound=False) for port in (B, C))
# By now another port has, or may use, the address or the MAC that B had.
TAKES_ADDRESS = vif("t", "10.0.0.11", mac="fa:16:3e:00:00:99")
TAKES_MAC = vif("t", "10.0.0.99", mac=B.mac)
MAY_USE = dataclasses.replace(
    vif("t", "10.0.0.99"), allowed=((B.addresses[0][0], "fa:16:3e:00:00:63"),)
)
Ports = Mapping[str, tuple[VifPort, ...]]


def rows(
    ports: Ports,
    *,
    chassis: uuid.UUID | None = FIRST,
    synced: bool = True,
    incomplete: str = "",
) -> ChassisSnapshot:
    """Return a snapshot with the PORTS of each network."""
    networks = {
        key: NetworkSnapshot(
            key,
            None if key == incomplete else LOCALPORT,
            here,
            complete=key != incomplete,
        )
        for key, here in ports.items()
    }
    return ChassisSnapshot(
        chassis, networks, synced=synced and chassis is not None
    )


BOUND = {NETWORK: (A, B)}
GONE = rows({}, chassis=None)  # ovn-controller has ended
ASKED = rows({}, chassis=SECOND, synced=False)  # the server has not answered


class Machine:
    """The state, with a clock and a connection that the test sets."""

    def __init__(self, *seen: ChassisSnapshot) -> None:
        self.now = 1000.0
        self.connected = True
        self.plugged: frozenset[str] = frozenset()
        self.state = Settled()
        self.rows = GONE
        for each in seen:
            self.see(each)

    def see(self, snapshot: ChassisSnapshot) -> None:
        self.rows = snapshot
        self.wait(0.0)

    def wait(self, seconds: float) -> None:
        """Let SECONDS pass, and settle."""
        self.now += seconds
        self.state = self._settle()
        assert self._settle() == self.state, "settled twice"

    def _settle(self) -> Settled:
        return settle(
            self.state,
            self.rows,
            plugged=self.plugged,
            now=self.now,
            connected=self.connected,
        )

    def ports(self, network: str = NETWORK) -> str:
        """Return the names of the ports of NETWORK that count."""
        found = self.state.snapshot.networks.get(network)
        return "".join(p.logical_port for p in found.ports) if found else ""

    def bound(self) -> str:
        """Return the names of the ports of NETWORK that count as bound."""
        found = self.state.snapshot.networks[NETWORK]
        return "".join(p.logical_port for p in found.ports if p.bound)

    def is_gone(self, network: str = OTHER) -> bool:
        """Return whether NETWORK, which is not in the rows, is really gone."""
        assert network not in self.state.snapshot.networks
        return self.state.snapshot.is_certain(network)


def settled(ports: Ports = BOUND) -> Machine:
    """Return a machine whose grace period with FIRST has ended."""
    machine = Machine(rows(ports))
    machine.wait(SETTLE_S)
    assert machine.state.settles_at is None
    return machine


# --------------------------------------------------------------- how long


@pytest.mark.parametrize(
    ("seen", "settles_s"),
    [
        pytest.param(
            [rows({}, synced=False), rows(BOUND)],
            START_SETTLE_S,
            id="an agent starts",
        ),
        pytest.param([rows({})], SETTLE_S, id="and nothing is bound"),
        pytest.param(
            [GONE, rows(BOUND)], SETTLE_S, id="ovn-controller starts later"
        ),
        pytest.param(
            [rows(BOUND), GONE, rows(BOUND, chassis=SECOND)],
            SETTLE_S,
            id="and restarts",
        ),
        pytest.param(
            [rows(BOUND), ASKED, rows(BOUND, chassis=SECOND)],
            SETTLE_S,
            id="in one step",
        ),
        pytest.param(
            [rows(BOUND), GONE, rows(BOUND)],
            SETTLE_S,
            id="the same row is back, of a backup",
        ),
        pytest.param(
            [
                rows(BOUND),
                dataclasses.replace(rows({}), restored=1),
                dataclasses.replace(rows(BOUND), restored=1),
            ],
            SETTLE_S,
            id="and it was not missing",
        ),
    ],
)
def test_how_long_the_grace_period_is(seen, settles_s):
    machine = Machine(*seen)
    assert machine.state.settles_at == machine.now + settles_s
    machine.wait(settles_s - 0.1)
    assert not machine.is_gone()
    machine.wait(0.1)
    assert machine.is_gone()
    assert machine.state.settles_at is None


@pytest.mark.parametrize(
    "unknown", [GONE, ASKED], ids=["no Chassis row", "not answered"]
)
def test_without_rows_nothing_is_certain_however_long_it_takes(unknown):
    for machine in (Machine(), settled()):
        machine.see(unknown)
        machine.wait(10 * SETTLE_S)
        assert not machine.is_gone()


def test_an_outage_stops_the_clock():
    """Its end is not the end of claiming: ovn-controller connects then too."""
    machine = settled()
    machine.see(rows({}, chassis=SECOND))
    machine.connected = False
    for _ in range(10):
        machine.wait(SETTLE_S)
        assert machine.ports() == "ab"
    machine.connected = True
    machine.wait(SETTLE_S - 0.1)
    assert machine.ports() == "ab"
    machine.wait(0.1)
    assert machine.is_gone(NETWORK)


# ----------------------------------------------------------- what is held


@pytest.mark.parametrize(
    "unsure",
    [
        pytest.param([GONE], id="no Chassis row"),
        pytest.param([ASKED], id="another one, and no answer yet"),
        pytest.param([rows({}, chassis=SECOND)], id="nothing claimed yet"),
        pytest.param(
            [rows({}, chassis=SECOND), GONE, rows({}, chassis=SECOND)],
            id="and once more",
        ),
    ],
)
def test_what_was_there_counts_until_it_is_certain(unsure):
    machine = settled()
    for each in unsure:
        machine.see(each)
    before = rows(BOUND).networks[NETWORK]
    assert machine.state.snapshot.networks == {NETWORK: before}
    assert machine.state.snapshot.is_certain(NETWORK)


@pytest.mark.parametrize(
    ("ports", "left"),
    [
        pytest.param({}, "ab", id="nothing is seen"),
        pytest.param({NETWORK: (A,)}, "ab", id="one is seen"),
        pytest.param({NETWORK: (C,)}, "abc", id="another is seen"),
        pytest.param({OTHER: (B,)}, "a", id="one is on another network"),
        pytest.param(
            {NETWORK: (TAKES_ADDRESS,)}, "at", id="another has its address"
        ),
        pytest.param({NETWORK: (TAKES_MAC,)}, "at", id="another has its MAC"),
        pytest.param(
            {NETWORK: (dataclasses.replace(TAKES_ADDRESS, bound=False),)},
            "abt",
            id="another is to have its address",
        ),
        pytest.param({OTHER: (B_ASKED,)}, "a", id="one is asked for there"),
        pytest.param(
            {NETWORK: (MAY_USE,)}, "at", id="another may use its address"
        ),
    ],
)
def test_which_ports_are_held(ports, left):
    machine = settled()
    machine.see(rows(ports, chassis=SECOND))
    assert machine.ports() == left
    machine.wait(SETTLE_S)
    assert machine.state.snapshot.networks == machine.rows.networks


def test_a_port_that_is_asked_for_again_counts_as_bound_until_it_is():
    """ovn-northd asks for it before ovn-controller claims it."""
    machine = settled()
    machine.see(rows({NETWORK: (B_ASKED, C_ASKED)}, chassis=SECOND))
    assert machine.bound() == "ab"
    assert machine.ports() == "abc"
    machine.see(rows({NETWORK: (B,)}, chassis=SECOND))
    assert (machine.ports(), machine.bound()) == ("abc", "ab")
    # It was seen bound: what the rows have of it since is certain.
    machine.see(rows({NETWORK: (B_ASKED,)}, chassis=SECOND))
    assert (machine.ports(), machine.bound()) == ("abc", "a")
    machine.see(rows({NETWORK: (A, B_ASKED)}, chassis=SECOND))
    machine.see(rows({NETWORK: (A,)}, chassis=SECOND))
    assert (machine.ports(), machine.bound()) == ("ac", "a")


def test_a_port_that_is_asked_for_is_bound_no_more_once_it_is_certain():
    machine = settled()
    machine.see(rows({NETWORK: (A, B_ASKED)}, chassis=SECOND))
    machine.wait(SETTLE_S - 0.1)
    assert machine.bound() == "ab"
    machine.wait(0.1)
    assert (machine.ports(), machine.bound()) == ("ab", "a")


def test_a_new_owner_of_an_address_is_bound_before_the_old_one_is_held():
    """Both were bound in turn; the old one is asked for, not bound."""
    machine = settled()
    asked = {NETWORK: (B_ASKED, TAKES_ADDRESS)}
    machine.see(rows(asked, chassis=SECOND))
    assert machine.bound() == "at"
    assert machine.ports() == "abt"


def test_ports_that_are_only_asked_for_are_no_sign_of_ovn_controller():
    """A host that starts: it has the Chassis row of before, and no claims."""
    machine = Machine(rows({NETWORK: (B_ASKED,)}))
    assert machine.state.settles_at == machine.now + SETTLE_S


def test_what_is_certain_goes_at_once():
    machine = settled()
    machine.see(rows({NETWORK: (A,)}))
    assert machine.ports() == "a"
    machine.see(rows({}))
    assert machine.is_gone(NETWORK)
    # An outage does not bring it back.
    machine.connected = False
    machine.wait(SETTLE_S)
    machine.see(GONE)
    assert machine.ports() == ""


def test_a_port_that_was_seen_since_and_is_missing_again_is_gone():
    """A port that is bound and soon unbound is removed at once."""
    machine = settled()
    machine.see(rows({}, chassis=SECOND))
    machine.see(rows({NETWORK: (A,), OTHER: (C,)}, chassis=SECOND))
    machine.see(rows({}, chassis=SECOND))
    assert machine.ports() == "b"
    assert machine.is_gone(OTHER)
    # With a Chassis row that is made again, it has to be seen again.
    machine.see(rows({}, chassis=FIRST))
    assert machine.ports() == "b"
    assert not machine.is_gone(OTHER)


def test_a_port_that_was_bound_since_and_is_only_requested_is_gone():
    """It was unplugged; Neutron still requests it here."""
    asked = {NETWORK: (B_ASKED,)}
    first = settle(Settled(), rows(asked), plugged=(), now=0.0, connected=True)
    assert (
        NETWORK not in first.snapshot.gone
    )  # ovn-controller may not have claimed it
    bound = settle(
        first, rows({NETWORK: (B,)}), plugged=(), now=1.0, connected=True
    )
    assert NETWORK not in bound.snapshot.gone
    again = settle(bound, rows(asked), plugged=(), now=2.0, connected=True)
    assert NETWORK in again.snapshot.gone
    both = settle(
        bound,
        rows({NETWORK: (A, B_ASKED)}),
        plugged=(),
        now=2.0,
        connected=True,
    )
    assert NETWORK not in both.snapshot.gone


def test_a_network_whose_localport_is_requested_is_left_alone():
    """Its ports are claimed again; its last snapshot is kept."""
    machine = settled()
    asked = rows({NETWORK: (A,)}, chassis=SECOND, incomplete=NETWORK)
    machine.see(asked)
    assert not machine.state.snapshot.is_certain(NETWORK)
    machine.see(GONE)
    assert machine.state.snapshot.networks == rows(BOUND).networks
    assert machine.state.snapshot.is_certain(NETWORK)


# ------------------------------------------------------------- properties


def drawn(lot: random.Random) -> ChassisSnapshot:
    """Return random rows."""
    ports: dict[str, tuple[VifPort, ...]] = {}
    for port in (A, B, C, TAKES_ADDRESS, TAKES_MAC, MAY_USE):
        place = lot.choice((NETWORK, OTHER, ""))
        names = {p.logical_port for here in ports.values() for p in here}
        if place and port.logical_port not in names:
            bound = lot.random() < 0.7
            drawn = dataclasses.replace(port, bound=bound)
            ports[place] = (*ports.get(place, ()), drawn)
    return rows(
        ports,
        chassis=lot.choice((FIRST, FIRST, SECOND, None)),
        synced=lot.random() < 0.8,
        incomplete=lot.choice((NETWORK, "", "")),
    )


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_rows_win_and_no_address_is_given_twice(seed):
    lot = random.Random(seed)
    machine = Machine()
    for _ in range(40):
        machine.connected = lot.random() < 0.8
        machine.see(drawn(lot))
        machine.wait(lot.choice((0.0, 1.0, SETTLE_S)))
        check_rights(machine)
    # At the end the snapshot equals the rows, whatever happened before.
    machine.connected = True
    machine.see(rows(BOUND, chassis=FIRST))
    machine.wait(SETTLE_S)
    assert machine.state.snapshot.networks == machine.rows.networks
    assert machine.is_gone(OTHER)


def check_rights(machine: Machine) -> None:
    """Check that an address in the rows belongs to that port only."""
    names: list[str] = []
    for key, network in machine.state.snapshot.networks.items():
        names += [port.logical_port for port in network.ports]
        seen = machine.rows.networks.get(key)
        if seen is None:
            continue
        bound = [port for port in seen.ports if port.bound]
        assert {*bound} <= {*network.ports}
        assert {p.logical_port for p in seen.ports} <= {*names}
        wanted, _, conflicts = identity.assign(bound)
        given, _, now = identity.assign(network.ports)
        assert wanted.items() <= given.items()
        assert {*conflicts} <= {*now}
    assert len(names) == len({*names}), "a port on two networks"


@pytest.mark.parametrize("seed", range(10))
def test_the_order_in_which_ports_are_claimed_does_not_matter(seed):
    lot = random.Random(seed)
    before = {NETWORK: (A, B), OTHER: (C,)}
    claims = [(NETWORK, A), (OTHER, C), (OTHER, vif("d", "10.0.0.50"))]
    ends = []
    for _ in range(2):
        machine = settled(before)
        lot.shuffle(claims)
        claimed: dict[str, tuple[VifPort, ...]] = {}
        for key, port in claims:
            here = (*claimed.get(key, ()), port)
            ordered = sorted(here, key=lambda p: p.logical_port)
            claimed[key] = tuple(ordered)
            machine.see(rows(claimed, chassis=SECOND))
        ends.append(machine.state)
    assert ends[0] == ends[1]
    assert (machine.ports(), machine.ports(OTHER)) == ("ab", "cd")
