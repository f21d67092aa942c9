"""What a new snapshot puts into the queues, and what it reports."""

from __future__ import annotations

import dataclasses
import math
import threading
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.config.settings import SpareNetworks
from ovn_metadata.agent.core.settling import FLAP_S, SETTLE_S
from ovn_metadata.agent.core.spare import REQUEST_S
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    Localport,
    NetworkSnapshot,
    VifPort,
    VswitchPort,
    VswitchSnapshot,
)
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.reconcile.snapshots import Snapshots
from ovn_metadata.agent.reconcile.workqueue import Queues, WorkQueue

FIRST, SECOND = uuid.UUID(int=1), uuid.UUID(int=2)
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
OTHER = "41a75cb1-6ff6-4b80-a10d-e3c4c65b911d"
TAP = "tap4c3e1f64-f0"
MAC = "fa:16:3e:00:00:01"
LOCALPORT = Localport("metadata", MAC, frozenset(), 0)


def network(key: str = NETWORK, *, mtu: int = 0) -> NetworkSnapshot:
    port = VifPort(f"port-of-{key}", MAC, frozenset({MAC}), (), "i", "p")
    localport = dataclasses.replace(LOCALPORT, mtu=mtu)
    return NetworkSnapshot(key, localport, (port,))


def rows(
    *networks: NetworkSnapshot, chassis: uuid.UUID = FIRST
) -> ChassisSnapshot:
    return ChassisSnapshot(chassis, {n.network: n for n in networks}, (), True)


class Machine:
    """Snapshots with a clock that the test sets."""

    def __init__(self, *seen: ChassisSnapshot) -> None:
        self.now = 1000.0
        self.queues = Queues()
        self.status = Status("1")
        settings = SimpleNamespace(
            spare_networks=SpareNetworks(limit=64, keep_s=0),
            shield=SimpleNamespace(boot_window_s=0),
        )
        site: Any = SimpleNamespace(
            queues=self.queues, status=self.status, settings=lambda: settings
        )
        self.settings: Any = settings
        self.snapshots = Snapshots(site, lambda: self.now)
        for each in seen:
            self.snapshots.take_chassis(each)
        self.queued()

    def queued(self) -> tuple[set[str], set[str]]:
        """Take all keys; return those to reconcile and those to revoke."""
        return drain(self.queues.reconcile), drain(self.queues.revoke)


def with_problems(*problems: str) -> ChassisSnapshot:
    return dataclasses.replace(rows(), problems=problems)


def test_a_chassis_that_is_not_there_may_have_another_name():
    """Its system-id was changed, and ovn-controller was not restarted."""
    machine = Machine()
    machine.snapshots.take_vswitch(VswitchSnapshot(system_id="renamed"))
    missing = dataclasses.replace(rows(), chassis=None, synced=False)
    machine.snapshots.take_chassis(missing)
    (reason,) = machine.status.as_dict()["waiting"].values()
    assert "no Chassis row named renamed in OVN Southbound" in reason
    assert "if it runs, restart it" in reason
    machine.snapshots.take_chassis(rows())
    assert machine.status.as_dict()["waiting"] == {}


def test_a_problem_of_a_datapath_is_logged_once_as_its_ports_change(caplog):
    machine = Machine()
    text = f"skipped: datapath {FIRST} has no name"
    other = f"7 ports skipped: datapath {SECOND} has no name"
    with caplog.at_level("WARNING"):
        for problems in (
            (f"port 'a' {text}",),
            (f"2 ports {text}",),
            (f"100 ports {text}", other),
            (f"port 'b' {text}", "port 'c' skipped: bad"),
        ):
            machine.snapshots.take_chassis(with_problems(*problems))
    logged = [r.getMessage() for r in caplog.records]
    assert logged == [f"port 'a' {text}", other, "port 'c' skipped: bad"]
    found = {p["reason"]: p["cuts_service"] for p in machine.status.problems()}
    assert found == {
        f"port 'b' {text}": False,  # another CMS has it
        "port 'c' skipped: bad": True,
    }


def drain(queue: WorkQueue) -> set[str]:
    found = set()
    while not queue.is_idle():
        key = queue.get()
        assert key is not None
        found.add(key)
        queue.done(key, failed=False)
    return found


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        pytest.param([network()], set(), id="the same"),
        pytest.param([network(mtu=1400)], {NETWORK}, id="a network changes"),
        pytest.param([network(), network(OTHER)], {OTHER}, id="one more"),
        pytest.param([network(OTHER)], {NETWORK, OTHER}, id="another"),
        pytest.param([], {NETWORK}, id="none"),
    ],
)
def test_changed_networks_are_revoked_and_reconciled(after, changed):
    machine = Machine(rows(network()))
    machine.now += SETTLE_S
    machine.snapshots.settle(connected=True)
    machine.snapshots.take_chassis(rows(*after))
    assert machine.queued() == (changed, changed)


def test_a_missing_network_is_queued_when_the_grace_period_ends():
    machine = Machine(rows(network()), rows(chassis=SECOND))
    assert machine.queued() == (set(), set())
    left_s = machine.snapshots.settle(connected=True)
    assert 0 < left_s <= SETTLE_S
    machine.now += left_s
    assert machine.snapshots.settle(connected=True) == float("inf")
    assert machine.queued() == ({NETWORK}, {NETWORK})
    assert machine.snapshots.chassis.is_certain(NETWORK)


def requested(key: str) -> NetworkSnapshot:
    """Return a network whose port is requested and not bound."""
    (port,) = network(key).ports
    ports = (dataclasses.replace(port, bound=False),)
    return dataclasses.replace(network(key), ports=ports)


def test_a_plugged_port_whose_row_flaps_is_held_for_a_moment():
    machine = Machine(rows(network()))
    plugged = VswitchSnapshot(plugged=frozenset({f"port-of-{NETWORK}"}))
    machine.settings.spare_networks = SpareNetworks(limit=0, keep_s=0)
    machine.snapshots.take_vswitch(plugged)
    machine.now += SETTLE_S
    machine.snapshots.settle(connected=True)
    machine.queues.news.clear()
    machine.snapshots.take_chassis(rows(requested(NETWORK)))
    assert machine.queues.news.is_set()
    assert machine.snapshots.settle(connected=True) == FLAP_S
    machine.snapshots.take_chassis(rows(network()))
    machine.queues.news.clear()
    machine.snapshots.take_vswitch(VswitchSnapshot())
    assert not machine.queues.news.is_set()
    assert machine.queued() == (set(), set())
    # Unplugged while it is held.
    machine.snapshots.take_vswitch(plugged)
    machine.snapshots.take_chassis(rows(requested(NETWORK)))
    machine.queues.news.clear()
    machine.snapshots.take_vswitch(VswitchSnapshot())
    assert machine.queues.news.is_set()
    machine.snapshots.settle(connected=True)
    assert machine.queued() == ({NETWORK}, {NETWORK})


def test_a_requested_port_ends_and_a_kept_network_goes_in_its_time():
    machine = Machine(rows(network(), requested(OTHER)))
    machine.settings.spare_networks = SpareNetworks(limit=64, keep_s=120)
    machine.now += SETTLE_S
    left_s = machine.snapshots.settle(connected=True)
    assert left_s == REQUEST_S - SETTLE_S
    machine.snapshots.take_chassis(rows(requested(OTHER)))
    assert machine.snapshots.chassis.networks[NETWORK].kept
    assert machine.queued() == ({NETWORK}, {NETWORK})
    for key, in_s in ((NETWORK, 120), (OTHER, REQUEST_S - SETTLE_S - 120)):
        assert machine.snapshots.settle(connected=True) == in_s
        assert machine.queued() == (set(), set())
        machine.now += in_s
        machine.snapshots.settle(connected=True)
        assert machine.queued() == ({key}, {key})
    assert machine.snapshots.settle(connected=True) == float("inf")


def test_another_limit_counts_from_the_next_call_on():
    machine = Machine(rows(network(), requested(OTHER)))
    machine.settings.spare_networks = SpareNetworks(limit=0, keep_s=0)
    machine.snapshots.settle(connected=True)
    assert machine.queued() == ({OTHER}, {OTHER})
    assert {*machine.snapshots.chassis.networks} == {NETWORK}


def test_networks_with_a_bound_port_come_first():
    machine = Machine()
    assert OTHER < NETWORK
    machine.snapshots.take_chassis(rows(network(), requested(OTHER)))
    assert machine.queues.reconcile.get() == NETWORK
    assert machine.queues.reconcile.get() == OTHER
    keys = {NETWORK, OTHER, "gateway"}
    expected = [NETWORK, "gateway", OTHER]
    assert machine.snapshots.chassis.in_order(keys) == expected


def test_new_networks_come_before_those_that_are_served():
    """And those that are removed come last."""
    third = "31a75cb1-6ff6-4b80-a10d-e3c4c65b911d"
    machine = Machine(rows(network(), network(third)))
    machine.now += SETTLE_S
    machine.snapshots.settle(connected=True)
    machine.queued()
    machine.snapshots.take_chassis(rows(network(mtu=1400), requested(OTHER)))
    found = [machine.queues.reconcile.get() for _ in range(3)]
    assert found == [OTHER, NETWORK, third]


def test_rows_arrive_while_the_grace_period_ends():
    """On two threads: neither loses what the other one has set."""
    machine = Machine(rows(network()))
    machine.now += SETTLE_S
    clock = machine.snapshots.clock
    another = threading.Thread(
        target=machine.snapshots.take_chassis,
        args=(rows(network(mtu=1400)),),
    )

    def let_another_come() -> float:
        if another.ident is None:
            another.start()
            another.join(0.2)  # it has ended by then, or waits for the lock
        return clock()

    machine.snapshots.clock = let_another_come
    machine.snapshots.settle(connected=True)
    another.join()
    assert machine.snapshots.chassis.settled
    assert machine.snapshots.chassis.networks == {NETWORK: network(mtu=1400)}


def test_all_are_queued_when_the_rows_are_there_again():
    machine = Machine(rows(network()))
    for snapshot in (ChassisSnapshot(None, {}), rows(network())):
        machine.queues.resync_at = math.inf
        machine.snapshots.take_chassis(snapshot)
        assert machine.queues.resync_at == 0
    machine.queues.resync_at = math.inf
    machine.snapshots.take_chassis(rows(network()))
    assert machine.queues.resync_at == math.inf


PLUGGED = VswitchPort("br-int", LOCALPORT.logical_port, NETWORK, 7)
VSWITCH = VswitchSnapshot("c-1", "br-int", True, "", {TAP: PLUGGED})


@pytest.mark.parametrize(
    ("change", "queued"),
    [
        pytest.param({}, False, id="nothing changes"),
        pytest.param({"system_id": "c-2"}, False, id="the chassis' name"),
        pytest.param({"bridge": "br-ex"}, True, id="another bridge"),
        pytest.param({"bridge_exists": False}, True, id="the bridge is gone"),
        pytest.param({"datapath_type": "netdev"}, True, id="its datapath"),
        pytest.param({"ports": {}}, True, id="our port is gone"),
        pytest.param(
            {"ports": {TAP: dataclasses.replace(PLUGGED, ifindex=8)}},
            False,
            id="we have plugged it again",
        ),
        pytest.param(
            {"ports": {TAP: dataclasses.replace(PLUGGED, iface_id="x")}},
            True,
            id="it has another name for OVN",
        ),
    ],
)
def test_a_port_or_bridge_that_changes_is_reconciled(change, queued):
    machine = Machine(rows(network(), network(OTHER)))
    machine.snapshots.take_vswitch(VSWITCH)
    machine.queued()
    after = dataclasses.replace(VSWITCH, **change)
    machine.snapshots.take_vswitch(after)
    assert (NETWORK in machine.queued()[0]) is queued
    assert machine.queues.news.is_set()


@pytest.mark.parametrize(
    ("was", "now", "row", "queued"),
    [
        pytest.param(2, 77, 1, True, id="another number"),
        pytest.param(2, 2, 1, False, id="the same"),
        pytest.param(0, 77, 1, False, id="it had none"),
        pytest.param(2, -1, 1, False, id="ovs-vswitchd can't use it"),
        pytest.param(2, 77, 2, False, id="it was plugged again"),
    ],
)
def test_an_openflow_port_that_changes_in_place(was, now, row, queued):
    machine = Machine(rows(network()))
    ours = dataclasses.replace(PLUGGED, network=NETWORK, row=uuid.UUID(int=1))
    for number, of in ((was, 1), (now, row)):
        machine.queued()
        port = dataclasses.replace(ours, row=uuid.UUID(int=of))
        machine.snapshots.take_vswitch(
            dataclasses.replace(
                VSWITCH, ports={TAP: port}, ofports={TAP: number}
            )
        )
    assert machine.snapshots.to_replug == ({NETWORK} if queued else set())
    assert (NETWORK in machine.queued()[0]) is queued


def test_an_openflow_port_may_change_before_the_rows_arrive():
    """Open vSwitch and the agent are upgraded together."""
    machine = Machine()
    port = dataclasses.replace(PLUGGED, network=NETWORK)
    for number in (2, 77):
        machine.snapshots.take_vswitch(
            dataclasses.replace(
                VSWITCH, ports={TAP: port}, ofports={TAP: number}
            )
        )
    assert machine.snapshots.to_replug == {NETWORK}


@pytest.mark.parametrize("has_window", [False, True])
def test_a_port_that_came_up_is_reconciled_if_a_window_opens(has_window):
    machine = Machine(rows(network(), network(OTHER)))
    machine.settings.shield.boot_window_s = 60 * has_window
    take = machine.snapshots.take_vswitch
    name = f"port-of-{NETWORK}"
    take(VswitchSnapshot(installed={name: 5}))
    assert machine.queued()[0] == ({NETWORK} if has_window else set())
    take(VswitchSnapshot(installed={name: 5, "another": 6}))
    assert machine.queued()[0] == set()


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        pytest.param(
            ChassisSnapshot(None, {}),
            ["c-1", "ovn-controller"],
            id="no Chassis row",
        ),
        pytest.param(
            ChassisSnapshot(FIRST, {}, is_filled=False),
            ["ovn-northd"],
            id="an empty database",
        ),
    ],
)
def test_what_it_waits_for_is_reported_until_it_is_there(snapshot, words):
    machine = Machine()
    machine.snapshots.take_vswitch(VSWITCH)
    machine.snapshots.take_chassis(snapshot)
    (reason,) = machine.status.as_dict()["waiting"].values()
    assert all(word in reason for word in words)
    machine.snapshots.take_chassis(rows())
    assert machine.status.as_dict()["waiting"] == {}
