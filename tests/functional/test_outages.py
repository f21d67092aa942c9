"""Bridges, daemons and databases go and come back, or come back as new.

One chassis for all, which each test leaves as it found it. Its agent makes
a pass over all networks every ten minutes only: whatever is right sooner
was noticed.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time

import pytest

from sandbox import Instance, Network, Sandbox, attach_all, wait_for
from sandbox.case import Host, wait_served
from sandbox.controller import BRIDGE, frozen, registration
from sandbox.foreign import insert_bindings
from sandbox.hoststate import haproxies, wait_gone, wait_host
from sandbox.operations import new_port
from sandbox.ovsdb import to_map, update
from sandbox.sockets import network_status, status

OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "600",
    # It visits what it asks in, which would hide what was not noticed.
    ("ovn_metadata_agent", "selfcheck_interval"): "0",
    ("ovn", "ovsdb_probe_interval"): "5000",
}
AWAY_S = 70.0  # whoever tries again waits for half a minute by then
BACK_S = 120.0
SETTLED_S = 30.0  # after a Chassis row came anew, nothing is removed
OLD_CLUSTER_CHANGES = 500  # far more than a new one has made at its start
STORM_NETWORKS, STORM_PORTS = 50, 10  # of each


@dataclasses.dataclass
class Chassis:
    """A chassis with two networks that are to stay served."""

    box: Sandbox
    instances: list[Instance]

    @property
    def networks(self) -> list[Network]:
        return [instance.port.network for instance in self.instances]

    def haproxies(self) -> list[dict[str, list[int]]]:
        """Return the PIDs of the networks' haproxies."""
        return [haproxies(self.box, n.id) for n in self.networks]

    def wait_plugged(self) -> None:
        """Wait until all is as it should be, on the bridge of now."""
        for instance in self.instances:
            network = instance.port.network
            bridge = self.box.ovn.bridge
            wait_host(self.box, network, instance.port, bridge=bridge)

    def wait_as_ever(self) -> None:
        """Wait until the instances are served, too."""
        self.wait_plugged()
        for instance in self.instances:
            wait_served(instance)


@pytest.fixture(scope="module")
def chassis(host: Host) -> Chassis:
    box = host.sandbox(OPTIONS)
    box.agent.start()
    box.agent.wait_ready()
    networks = [box.neutron.create_network(name) for name in ("n1", "n2")]
    ports = [box.neutron.create_port(network) for network in networks]
    made = Chassis(box, box.plug(ports))
    made.wait_as_ever()
    return made


# --------------------------------------------------------- Open vSwitch


def test_bridge_changes_and_changes_back(chassis):
    """The veths follow `ovn-bridge`, while the old bridge is still there."""
    box = chassis.box
    box.ovn.vsctl(
        *("add-br", "br-other", "--", "set", "Bridge", "br-other"),
        *("datapath_type=netdev", "fail_mode=secure"),
    )
    for bridge in ("br-other", "br-int"):
        before = chassis.haproxies()
        box.ovn.bridge = bridge
        with frozen(box, "ovn-controller"):  # it would unbind the instances
            setting = f"external_ids:ovn-bridge={bridge}"
            box.ovn.vsctl("set", "Open_vSwitch", ".", setting)
            chassis.wait_plugged()
            assert chassis.haproxies() == before
            # Nothing changes in Southbound meanwhile.
            wait_for(
                lambda b=bridge: registration(box).get(BRIDGE) == b,
                timeout_s=60,
                what="bridge in Chassis_Private",
            )
        attach_all(chassis.instances)
        chassis.wait_as_ever()
    box.ovn.vsctl("del-br", "br-other")


def test_bridge_is_deleted_and_made_anew(chassis):
    """The agent says so meanwhile; then the veths are on the new one."""
    box = chassis.box
    with frozen(box, "ovn-controller"):  # it would have it back at once
        box.ovn.vsctl("del-br", box.ovn.bridge)
        wait_for(
            lambda: (
                (said := box.agent.status()).returncode == 3
                and f"bridge {box.ovn.bridge} not found" in said.stdout
            ),
            timeout_s=60,
            what="agent-status that names the bridge",
        )
    wait_for(
        lambda: box.ovn.bridge in box.ovn.vsctl("list-br").split(),
        timeout_s=60,
        what=box.ovn.bridge,
    )
    attach_all(chassis.instances)
    chassis.wait_as_ever()
    box.agent.wait_ready()


def test_open_vswitch_restarts(chassis):
    """Both of its daemons, as a package's upgrade does."""
    before = chassis.haproxies()
    ovn = chassis.box.ovn
    for name in ("ovs-vswitchd", "ovsdb-server"):
        ovn.stop(name)
    for name in ("ovsdb-server", "ovs-vswitchd"):
        ovn.start(name)
    chassis.wait_as_ever()
    follows(chassis)
    assert chassis.haproxies() == before


def follows(chassis: Chassis) -> None:
    """See a port that comes and goes: the agent follows both databases."""
    box, network = chassis.box, chassis.networks[0]
    port = box.neutron.create_port(network)
    instance = box.instance(port)
    wait_served(instance)
    wait_host(box, network, chassis.instances[0].port, port)
    box.unplug([instance])
    box.neutron.delete_port(port)
    chassis.wait_as_ever()


# ---------------------------------------------------------------- storm


def test_five_hundred_ports_bound_at_once(chassis):
    """Fifty networks: each is looked at a few times, not once per port."""
    box = chassis.box
    networks = [
        box.neutron.create_network(f"storm-{number}")
        for number in range(STORM_NETWORKS)
    ]
    ports = [
        new_port(network, host="")
        for network in networks
        for _ in range(STORM_PORTS)
    ]
    ids = {network.id for network in networks}
    box.ovn.sync()
    with frozen(box, "northd", "ovn-controller"):
        begun = time.monotonic()
        insert_bindings(box.ovn, ports, box.ovn.system_id)

        def served() -> bool:
            known = status()["networks"]
            return all(
                known.get(key, {}).get("instances") == STORM_PORTS
                for key in ids
            )

        wait_for(served, timeout_s=120, interval_s=0.1, what="fifty networks")
        took = time.monotonic() - begun
        counts = [network_status(key)["reconciles"] for key in ids]
    print(
        f"{len(ports)} ports of {len(ids)} networks: {took:.1f} s, "
        f"{sum(counts) / len(counts):.1f} times each, {max(counts)} at most"
    )
    # A haproxy that is slow to answer has its network looked at once more.
    assert statistics.median(counts) <= 5
    assert max(counts) <= 10
    begun = time.monotonic()
    wait_for(  # northd knows of no such ports
        lambda: not ids & status()["networks"].keys(),
        timeout_s=120,
        interval_s=0.1,
        what="end of the fifty networks",
    )
    print(f"gone in {time.monotonic() - begun:.1f} s")
    wait_gone(box, *ids, timeout_s=60)
    with box.neutron.batch():
        for network in networks:
            box.neutron.delete_network(network)
    chassis.wait_as_ever()


# ------------------------------------------------------------------ OVN


def test_ovn_controller_restarts(chassis):
    """With --restart: neither its Chassis row nor its bindings go."""
    before = chassis.haproxies()
    chassis.box.ovn.restart("ovn-controller")
    follows(chassis)
    assert chassis.haproxies() == before


def test_southbound_is_replaced_and_then_hangs(chassis):
    """An empty database first: what is bound is never removed.

    What is stale goes when ovn-controller had time to bind its ports. In
    that time the server hangs, and what changes meanwhile is done then.
    """
    box, neutron = chassis.box, chassis.box.neutron
    before = chassis.haproxies()
    stale, unbound = (neutron.create_network(n) for n in ("stale", "unbound"))
    plugged = box.plug([neutron.create_port(n) for n in (stale, unbound)])
    for instance in plugged:
        wait_served(instance)
    with frozen(box, "northd", "ovn-controller"):
        neutron.delete_network(stale)
        box.unplug(plugged[:1])
        mark = box.agent.mark()
        box.ovn.replace_southbound()
    replaced_at = time.monotonic()
    wait_for(
        lambda: "made its Chassis row again" in box.agent.log(mark),
        timeout_s=90,
        what="the new Chassis row",
    )
    follows(chassis)
    chassis.wait_as_ever()

    with frozen(box, "sb"):
        back = time.monotonic() + AWAY_S
        box.unplug(plugged[1:])
        fresh = neutron.create_network("fresh")
        port = neutron.create_port(fresh)
        (instance,) = box.plug([port], wait=False)
        neutron.update_network(chassis.networks[0], mtu=1400)
        more = neutron.create_port(chassis.networks[1])
        (second,) = box.plug([more], wait=False)
        wait_for(
            lambda: time.monotonic() > back,
            timeout_s=AWAY_S + 20,
            what="end of the outage",
        )
    for one in (instance, second):
        # OVN's own daemons are back when their time is up.
        wait_served(one, timeout_s=BACK_S)
    wait_host(box, fresh, port)
    wait_host(box, chassis.networks[0], chassis.instances[0].port)
    wait_host(box, chassis.networks[1], chassis.instances[1].port, more)

    for network in (stale, unbound):
        wait_host(box, network, timeout_s=4 * SETTLED_S)
    print(f"stale gone {time.monotonic() - replaced_at:.1f} s afterwards")
    box.unplug([instance, second])
    neutron.delete_network(fresh)
    neutron.delete_port(more)
    wait_host(box, fresh)
    assert chassis.haproxies() == before


def test_southbound_cluster_is_replaced(chassis):
    """The new cluster's log is shorter than what was seen of the old."""
    box = chassis.box
    before = chassis.haproxies()
    box.ovn.replace_southbound(clustered=True)
    follows(chassis)
    change_often(box)
    box.ovn.replace_southbound(clustered=True)
    follows(chassis)
    assert chassis.haproxies() == before
    assert box.agent.log().count("another cluster") == 1


def test_southbound_cluster_is_restored_from_a_backup(chassis):
    """It is the same cluster, and its log is shorter than what was seen."""
    box, ovn = chassis.box, chassis.box.ovn
    before = chassis.haproxies()
    ovn.replace_southbound(clustered=True)
    follows(chassis)
    database = ovn.southbound.members[0].database
    backup = database.with_suffix(".backup")
    ovn.stop("sb")
    shutil.copy(database, backup)
    ovn.start("sb")
    follows(chassis)
    change_often(box)
    mark = box.agent.mark()
    ovn.kill("sb")
    backup.replace(database)
    ovn.start("sb")
    wait_for(
        lambda: "its data is older" in box.agent.log(mark),
        timeout_s=BACK_S,
        what="the reason",
    )
    # As the operator has to: they refuse it for good.
    for name in ("northd", "ovn-controller"):
        ovn.restart(name)
    follows(chassis)
    assert chassis.haproxies() == before
    assert box.agent.log(mark).count("restored from a backup") == 1


def change_often(box: Sandbox) -> None:
    """Make the log of Southbound's cluster longer than a new one's."""
    for number in range(OLD_CLUSTER_CHANGES):
        row = {"external_ids": to_map({"change": str(number)})}
        box.ovn.sb.transact([update("SB_Global", [], row)])
