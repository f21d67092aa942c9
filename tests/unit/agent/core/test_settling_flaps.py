"""What the rows lack for a moment is held; what is unplugged is not."""

from __future__ import annotations

import dataclasses
import itertools
import math
import uuid

import pytest

from ovn_metadata.agent.core import settling, spare
from ovn_metadata.agent.core.desired import desired_network
from ovn_metadata.agent.core.monitoring import chassis_clause, localport_clause
from ovn_metadata.agent.core.port_rows import PortRow, chassis_snapshot
from ovn_metadata.agent.core.settling import FLAP_S, Settled
from ovn_metadata.agent.model import ChassisSnapshot, MetadataNetwork

SOURCE, HERE = uuid.UUID(int=1), uuid.UUID(int=2)
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
NAME = {"neutron:network_name": f"neutron-{NETWORK}"}
ROW = PortRow(
    logical_port="vif",
    type="",
    mac=["fa:16:3e:00:00:01 10.0.0.7"],
    external_ids={**NAME, "neutron:device_id": "i", "neutron:project_id": "p"},
    datapath=None,
    datapath_ids=None,
    requested_chassis=HERE,
)
LOCALPORT = PortRow(
    logical_port="metadata",
    type="localport",
    mac=["fa:16:3e:00:00:02"],
    external_ids={
        **NAME,
        "neutron:device_owner": "network:distributed",
        "neutron:cidrs": "10.0.0.2/24",
    },
    datapath=None,
    datapath_ids=None,
)


def bound(where: str, row: PortRow = ROW) -> PortRow:
    """Return ROW as it is bound: "source+here" has an additional chassis."""
    places = {"source": SOURCE, "here": HERE, "": None}
    main, _, additional = where.partition("+")
    return dataclasses.replace(
        row,
        chassis=places[main],
        additional_chassis=frozenset({HERE} if additional else ()),
    )


class Machine:
    """All that is decided on the way from rows to a network's needs.

    No network is kept and none is ready before its port is plugged, unless
    LIMIT says how many are.
    """

    def __init__(self, *, limit: int = 0, plugged: tuple[str, ...]) -> None:
        self.now, self.connected = 1000.0, True
        self.limit, self.plugged = limit, plugged
        self.settled = Settled()
        self.spare = spare.Spare()
        self.rows = ChassisSnapshot(None, {})

    def see(self, *rows: PortRow, chassis: uuid.UUID | None = HERE) -> None:
        answered = [localport_clause(NETWORK, None)]
        answered += [chassis_clause(chassis)] if chassis else []
        self.rows, _ = chassis_snapshot(
            rows,
            chassis=chassis,
            answered=[each for each in answered if each],
        )
        self.wait(0.0)

    def wait(self, seconds: float) -> None:
        """Let SECONDS pass."""
        self.now += seconds
        self.settled = self._settle()
        assert self._settle() == self.settled, "a second call changed it"
        self.spare = spare.add_spare(
            self.spare,
            self.settled.snapshot,
            limit=self.limit,
            keep_s=0,
            now=self.now,
            connected=self.connected,
        )

    def _settle(self) -> Settled:
        return settling.settle(
            self.settled,
            self.rows,
            plugged=self.plugged,
            now=self.now,
            connected=self.connected,
        )

    def needs(self) -> MetadataNetwork | None:
        """Return what the network needs; None to tear it down."""
        network = self.spare.snapshot.networks.get(NETWORK)
        return None if network is None else desired_network(network)


def served(row: PortRow = ROW, **options: object) -> Machine:
    """Return a machine whose port is bound here, and that has settled."""
    made = Machine(**{"plugged": ("vif",), **options})  # type: ignore[arg-type]
    made.see(bound("here", row), LOCALPORT)
    made.wait(settling.SETTLE_S)
    assert made.needs() is not None
    return made


# ------------------------------------------------------------- what is held

ORDERS = list(itertools.permutations(("", "source", "source+here", "+here")))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
@pytest.mark.parametrize("limit", [0, 64])
def test_nothing_changes_whatever_the_order_of_the_writes(order, limit):
    machine = served(limit=limit)
    before = machine.needs()
    for where in (*order, "here"):
        machine.see(bound(where), LOCALPORT)
        machine.wait(0.2)
        assert machine.needs() == before, where
    assert machine.settled.flapping == {}


def test_the_order_that_was_seen():
    """The destination's agent sees the end of a live migration."""
    moving = dataclasses.replace(
        ROW,
        requested_chassis=SOURCE,
        requested_additional_chassis=frozenset({HERE}),
    )
    machine = Machine(plugged=("vif",))
    machine.see(bound("source+here", moving), LOCALPORT)
    machine.wait(settling.SETTLE_S)
    before = machine.needs()
    assert before is not None
    for where in ("source+here", "here", "", "here"):
        machine.see(bound(where), LOCALPORT)
        assert machine.needs() == before, where


def test_an_aborted_migration_flaps_at_its_source():
    row = dataclasses.replace(
        ROW, requested_additional_chassis=frozenset({SOURCE})
    )
    machine = served(row)
    before = machine.needs()
    for where in ("", "here", "+here", "here"):
        machine.see(bound(where, row), LOCALPORT)
        assert machine.needs() == before, where


def test_its_address_stays_its_own_while_it_flaps():
    """Another port has it among its allowed address pairs."""
    other = dataclasses.replace(
        ROW,
        logical_port="other",
        mac=["fa:16:3e:00:00:09 10.0.0.9"],
        port_security=["fa:16:3e:00:00:09 10.0.0.9 10.0.0.7"],
        external_ids={**ROW.external_ids, "neutron:device_id": "o"},
    )
    machine = served()
    for where in ("here", "", "source", "here"):
        machine.see(bound(where), bound("here", other), LOCALPORT)
        needs = machine.needs()
        assert needs is not None
        owners = {str(a): each.instance for a, each in needs.instances.items()}
        assert owners["10.0.0.7"] == "i"


def test_a_subport_is_plugged_with_its_parent():
    row = dataclasses.replace(ROW, parent_port="trunk")
    machine = served(row, plugged=("trunk",))
    machine.see(bound("", row), LOCALPORT)
    assert machine.needs() is not None


def test_a_localport_that_comes_back_with_another_mac():
    machine = served()
    before = machine.needs()
    machine.see(bound("here"))
    assert machine.needs() == before
    new = dataclasses.replace(LOCALPORT, mac=["fa:16:3e:00:00:03"])
    machine.see(bound("here"), new)
    needs = machine.needs()
    assert needs is not None
    assert needs.mac == "fa:16:3e:00:00:03"
    assert machine.settled.flapping == {}


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize("where", ["", "source"])
def test_a_port_that_is_unplugged_goes_at_once(where):
    machine = served()
    machine.plugged = ()
    machine.see(bound(where), LOCALPORT)
    assert machine.needs() is None
    assert machine.settled.due_at == math.inf


def test_a_port_that_is_unplugged_while_it_is_held_goes():
    machine = served()
    machine.see(bound(""), LOCALPORT)
    machine.wait(1.0)
    machine.plugged = ()
    machine.wait(0.0)
    assert machine.needs() is None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param((bound(""), LOCALPORT), id="bound nowhere"),
        pytest.param((bound("source"), LOCALPORT), id="bound elsewhere"),
        pytest.param((bound("here"),), id="without a localport"),
    ],
)
def test_what_stays_away_goes_in_the_end(rows):
    machine = served()
    machine.see(*rows)
    assert machine.settled.due_at == machine.now + FLAP_S
    machine.wait(FLAP_S - 0.1)
    assert machine.needs() is not None
    machine.wait(0.1)
    assert machine.needs() is None
    assert machine.settled.due_at == math.inf
    machine.see(*rows)
    assert machine.needs() is None


def test_what_flaps_again_is_held_again():
    machine = served()
    for _ in range(3):
        machine.see(bound(""), LOCALPORT)
        machine.wait(FLAP_S - 1)
        assert machine.needs() is not None
        machine.see(bound("here"), LOCALPORT)


def test_a_port_that_is_requested_elsewhere_or_deleted_goes_at_once():
    machine = served()
    elsewhere = dataclasses.replace(ROW, requested_chassis=SOURCE)
    machine.see(bound("", elsewhere), LOCALPORT)
    assert machine.needs() is None
    machine = served()
    machine.see(LOCALPORT)
    assert machine.needs() is None


def test_no_time_ends_while_southbound_is_disconnected():
    machine = served()
    machine.see(bound(""), LOCALPORT)
    machine.connected = False
    machine.wait(10 * FLAP_S)
    assert machine.needs() is not None
    machine.connected = True
    machine.wait(FLAP_S - 1)
    assert machine.needs() is not None
    machine.wait(1)
    assert machine.needs() is None


# ---------------------------------------------------------- a grace period


def again() -> Machine:
    """Return a machine that was served, and whose chassis is made again."""
    machine = served()
    machine.see(chassis=None)
    row = dataclasses.replace(ROW, requested_chassis=SOURCE)
    machine.see(bound("", row), LOCALPORT, chassis=SOURCE)
    return machine


def test_a_port_that_is_claimed_late_is_held_until_the_grace_period_ends():
    machine = again()
    machine.wait(settling.SETTLE_S - 1)
    assert machine.needs() is not None
    machine.wait(1)
    machine.wait(FLAP_S)
    assert machine.needs() is None


def test_a_port_that_was_claimed_again_may_flap():
    machine = again()
    row = dataclasses.replace(ROW, requested_chassis=SOURCE)
    machine.see(bound("source", row), LOCALPORT, chassis=SOURCE)
    for where in ("", "here", "source", ""):
        machine.see(bound(where, row), LOCALPORT, chassis=SOURCE)
        machine.wait(1)
        assert machine.needs() is not None
    machine.wait(FLAP_S)
    assert machine.needs() is None
    assert machine.settled.settles_at is not None


def test_a_localport_that_flaps_in_a_grace_period():
    machine = Machine(plugged=("vif",))
    machine.see(bound("here"), LOCALPORT)
    assert machine.settled.settles_at is not None
    machine.see(bound("here"))
    machine.wait(FLAP_S - 1)
    assert machine.needs() is not None
    machine.wait(1)
    assert machine.needs() is None
