"""Every change that concerns a network, made by OVN or Neutron, is noticed.

One chassis for all; its agent's periodic pass is far away (600 s), and it
visits no network to look whether that is served, so what is right was noticed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from sandbox import Instance, Network, Port, Sandbox, subnet, wait_for
from sandbox.case import Case, Host, ready, wait_served
from sandbox.controller import FOREIGN, bind, frozen, here
from sandbox.daemons import run
from sandbox.hoststate import haproxies, wait_host
from sandbox.operations import new_port
from sandbox.ovsdb import insert, to_map, to_uuid, update
from sandbox.rows import binding_row

FREE_KEY = 4000  # a tunnel key that northd has not come to
OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "600",
    ("ovn_metadata_agent", "selfcheck_interval"): "0",
}


@pytest.fixture(scope="module")
def box(host: Host) -> Sandbox:
    """Provide a chassis of our own."""
    return ready(host.sandbox(OPTIONS))


@pytest.fixture(scope="module")
def foreign(box: Sandbox) -> Iterator[str]:
    """Provide the uuid of another chassis, which nobody runs."""
    yield box.neutron.add_foreign_chassis(FOREIGN)
    box.ovn.sbctl("--if-exists", "chassis-del", FOREIGN)


def binding(box: Sandbox, port: Port) -> tuple[list[str], list[str]]:
    """Return chassis and additional chassis of PORT."""
    where = [["logical_port", "==", port.id]]
    columns = ["chassis", "additional_chassis"]
    (row,) = box.ovn.sb.select("Port_Binding", where, columns)
    chassis, more = (
        value if isinstance(value, list) else [value]
        for value in (row[column] for column in columns)
    )
    return chassis, more


def wait_bound(box: Sandbox, port: Port, chassis: str, *more: str) -> None:
    """Wait until PORT is on CHASSIS and on MORE."""
    wanted = ([chassis], list(more))
    wait_for(
        lambda: binding(box, port) == wanted, timeout_s=60, what="binding"
    )


def addressed(instance: Instance) -> None:
    """Have INSTANCE take the addresses that its port has now."""
    instance.execute("ip", "address", "flush", "dev", "eth0")
    instance.configure()


def plugged_elsewhere(
    box: Sandbox, case: Case, foreign: str
) -> tuple[Port, Instance]:
    """Plug an instance here whose port is bound to the chassis FOREIGN."""
    port = box.neutron.create_port(case.network(), host=FOREIGN)
    bind(box, port, chassis=foreign)
    (instance,) = box.plug([port], wait=False)
    return port, instance


# ------------------------------------------------------------- bindings


def test_chassis_changes_without_an_empty_step(box, case: Case, foreign):
    """ovn-controller takes a port over from another in one transaction."""
    port, instance = plugged_elsewhere(box, case, foreign)
    network = port.network
    wait_host(box, network)
    box.neutron.update_port(port, host=True)
    wait_host(box, network, port)
    wait_served(instance)
    with frozen(box, "ovn-controller", "northd"):
        bind(box, port, chassis=foreign)
        wait_host(box, network)
        bind(box, port, chassis=here(box))
        wait_host(box, network, port)
    wait_served(instance)


@pytest.mark.parametrize("column", ["chassis", "additional"])
def test_row_is_created_with_this_chassis_in_it(box, case: Case, column):
    """There never was an update of it."""
    network = case.network("created")
    port = new_port(network, host="")
    box.ovn.sync()
    datapath = datapath_of(box, network)
    row = binding_row(port, datapath, FREE_KEY, **{column: here(box)})
    with frozen(box, "ovn-controller", "northd"):
        box.ovn.sb.transact([insert("Port_Binding", row)])
        wait_host(box, network, port)
    wait_host(box, network)  # northd knows of no such port


# ------------------------------------------------------- live migration


def test_migration_to_this_chassis(box, case: Case, foreign):
    """Served before it lands, and on: neither namespace nor haproxy goes."""
    port, instance = plugged_elsewhere(box, case, foreign)
    network = port.network
    wait_host(box, network)
    box.neutron.update_port(port, host=f"{FOREIGN},{box.ovn.hostname}")
    wait_host(box, network, port)
    wait_bound(box, port, foreign, here(box))
    wait_served(instance)
    before = haproxies(box, network.id)
    box.neutron.update_port(port, host=True)
    wait_bound(box, port, here(box))
    wait_served(instance)
    wait_host(box, network, port)
    assert haproxies(box, network.id) == before
    assert f"removed network={network.id}" not in box.agent.log()


def test_migration_to_this_chassis_is_aborted(box, case: Case, foreign):
    """What was made for it goes; the source has it all the time."""
    port, _ = plugged_elsewhere(box, case, foreign)
    network = port.network
    box.neutron.update_port(port, host=f"{FOREIGN},{box.ovn.hostname}")
    wait_host(box, network, port)
    box.neutron.update_port(port, host=FOREIGN)
    wait_host(box, network)
    wait_bound(box, port, foreign)


def test_migration_is_aborted_while_ovn_controller_is_dead(
    box, case: Case, foreign
):
    """The next ovn-controller (23.03) does not take its chassis back."""
    port, instance = plugged_elsewhere(box, case, foreign)
    network = port.network
    box.neutron.update_port(port, host=f"{FOREIGN},{box.ovn.hostname}")
    wait_bound(box, port, foreign, here(box))
    wait_host(box, network, port)
    box.ovn.kill("ovn-controller")
    box.neutron.update_port(port, host=FOREIGN)
    box.unplug([instance])
    box.ovn.start("ovn-controller")
    wait_host(box, network)


def test_migration_from_this_chassis(box, case: Case, foreign):
    """Served until it has landed over there; an aborted try is nothing."""
    network = case.network("source")
    instance = case.instance(network)
    port = instance.port
    before = haproxies(box, network.id)
    both = f"{box.ovn.hostname},{FOREIGN}"
    for host in (both, True, both):  # tried, aborted, tried again
        box.neutron.update_port(port, host=host)
        away = foreign if host == both else ""
        bind(box, port, chassis=here(box), additional=away)
        wait_served(instance)
    wait_host(box, network, port)
    assert haproxies(box, network.id) == before
    with frozen(box, "ovn-controller"):
        box.neutron.update_port(port, host=FOREIGN)
        bind(box, port, chassis=foreign)
        wait_host(box, network)
    box.unplug([instance])
    wait_host(box, network)
    wait_bound(box, port, foreign)


# ------------------------------------------------- SR-IOV and baremetal


def test_external_ports_come_and_are_deleted_while_bound(box, case: Case):
    """An HA_Chassis_Group binds them; nothing of theirs is on the bridge."""
    network = case.network("external")
    first, second = (
        box.neutron.create_port(network, name=name, host=False)
        for name in ("first", "second")
    )
    group = f"group-{network.id}"
    box.ovn.nbctl("ha-chassis-group-add", group)
    member = (group, box.ovn.system_id, "10")
    box.ovn.nbctl("ha-chassis-group-add-chassis", *member)
    where = [["name", "==", group]]
    (row,) = box.ovn.nb.select("HA_Chassis_Group", where, ["_uuid"])
    for port in (first, second):
        column = f"ha_chassis_group={row['_uuid']}"
        box.ovn.nbctl(
            *("lsp-set-type", port.id, "external", "--"),
            *("set", "Logical_Switch_Port", port.id, column),
        )
    wait_host(box, network, first, second)
    box.neutron.delete_port(first)
    wait_host(box, network, second)
    box.neutron.delete_port(second)
    wait_host(box, network)
    box.ovn.nbctl("ha-chassis-group-del", group)


# ----------------------------------------------------- what ports have


def test_fixed_address_of_a_bound_port_changes(box, case: Case):
    """In its subnet, then into another one: with an address of ours."""
    network = case.network("fixed", "10.10.0.0/24", "10.20.0.0/24")
    port = box.neutron.create_port(network, addresses=["10.10.0.50"])
    (instance,) = case.plug([port])
    wait_host(box, network, port)
    for address in ("10.10.0.60", "10.20.0.50", "10.10.0.50"):
        box.neutron.update_port(port, addresses=[address])
        wait_host(box, network, port)
        addressed(instance)
        wait_served(instance)


def test_subnet_is_added_and_removed(box, case: Case):
    """Served once a port has an address there; not any more at the end."""
    network = case.network("subnets")
    first = case.instance(network)
    added = subnet("10.20.0.0/24")
    box.neutron.add_subnet(network, added)
    port = box.neutron.create_port(network, addresses=["10.20.0.50"])
    (second,) = case.plug([port])
    wait_host(box, network, first.port, port)
    box.unplug([second])
    box.neutron.delete_port(port)
    box.neutron.remove_subnet(network, added)
    wait_host(box, network, first.port)
    wait_served(first)


# ------------------------------------------------------------ datapaths


def datapath_of(box: Sandbox, network: Network) -> str:
    """Return the uuid of the Datapath_Binding of NETWORK."""
    where = [["external_ids", "includes", to_map({"name": network.switch})]]
    (row,) = box.ovn.sb.select("Datapath_Binding", where, ["_uuid"])
    return str(row["_uuid"])


def test_switch_is_deleted_and_made_anew_under_its_name(box, case: Case):
    """Of the same network: another datapath, other ports."""
    network = case.network("again")
    old = case.instance(network)
    before = datapath_of(box, network)
    box.neutron.delete_network(network)
    box.ovn.sync()
    again = box.neutron.create_network("again", network_id=network.id)
    port = box.neutron.create_port(again)
    (new,) = box.plug([port])
    assert datapath_of(box, again) != before
    wait_served(new)
    box.unplug([old])
    wait_host(box, again, port)
    wait_served(new)


def test_port_is_on_another_network_from_one_moment_to_the_next(
    box, case: Case
):
    """One transaction: what it had on the first one goes."""
    first, second = case.network("first"), case.network("second")
    port = new_port(first, host="", addresses=["10.10.0.77"])
    keeper = case.instance(second)
    box.ovn.sync()
    row = binding_row(
        port, datapath_of(box, first), FREE_KEY, chassis=here(box)
    )
    moved = {
        "datapath": to_uuid(datapath_of(box, second)),
        "external_ids": to_map(
            {
                "neutron:device_id": port.device_id,
                "neutron:network_name": second.switch,
                "neutron:project_id": port.project_id,
            }
        ),
    }
    where = [["logical_port", "==", port.id]]
    with frozen(box, "ovn-controller", "northd"):
        box.ovn.sb.transact([insert("Port_Binding", row)])
        wait_host(box, first, port)
        box.ovn.sb.transact([update("Port_Binding", where, moved)])
        wait_host(box, first)
        wait_host(box, second, keeper.port, port)
    wait_host(box, second, keeper.port)


# ------------------------------------------------------- metadata ports


def test_metadata_port_comes_late_goes_and_comes_back(box, case: Case):
    """The instances were there before; each time it has another MAC."""
    network = case.network("late")
    box.neutron.delete_port(network.metadata)
    port = box.neutron.create_port(network)
    (instance,) = box.plug([port])
    wait_host(box, network)
    trusting(instance)
    for _ in range(2):
        box.neutron.restore_metadata_port(network)
        wait_host(box, network, port)
        wait_served(instance)
        box.neutron.delete_port(network.metadata)
        wait_host(box, network)


def test_metadata_port_is_another_at_once(box, case: Case):
    """Instances hear of its MAC, once OVN has its flows."""
    network = case.network("another", "10.10.0.0/24", "fd00:10::/64")
    instance = case.instance(network)
    trusting(instance)
    for _ in range(2):
        for ipv6 in (False, True):
            wait_served(instance, ipv6=ipv6)
        repaired = box.agent.log().count("set up again")
        box.neutron.delete_port(network.metadata)
        box.neutron.restore_metadata_port(network)
        wait_host(box, network, instance.port)
    for ipv6 in (False, True):
        wait_served(instance, ipv6=ipv6)
    assert box.agent.log().count("set up again") == repaired


def trusting(instance: Instance) -> None:
    """Have INSTANCE believe for minutes who has an address."""
    for family in ("ipv4", "ipv6"):
        instance.execute(
            "sysctl", f"net.{family}.neigh.eth0.base_reachable_time_ms=600000"
        )


def test_metadata_port_changes(box, case: Case):
    """Each change is on the host at once, and the instance is served."""
    network = case.network("changed")
    instance = case.instance(network)
    port, metadata = instance.port, network.metadata
    before = haproxies(box, network.id)
    box.neutron.update_port(metadata, addresses=["10.10.0.200"])
    addressed(instance)  # its route goes by that address
    wait_host(box, network, port)
    wait_served(instance)
    box.neutron.update_network(network, mtu=1400)
    wait_host(box, network, port)
    wait_served(instance)
    box.neutron.update_port(metadata, mac="fa:16:3e:00:00:99")
    wait_host(box, network, port)
    begun = time.monotonic()
    wait_served(instance)
    print(f"served {time.monotonic() - begun:.2f} s after the MAC changed")
    assert haproxies(box, network.id) == before


# --------------------------------------------------------- Open vSwitch


def test_port_lost_from_the_bridge_is_put_back(box, case: Case):
    """Or left there with another name for OVN."""
    network = case.network("lost")
    instance = case.instance(network)
    tap = f"tap{network.id[:10]}0"
    for command in (
        ("del-port", tap),
        ("set", "Interface", tap, "external_ids:iface-id=nonsense"),
    ):
        box.ovn.vsctl(*command)
        wait_host(box, network, instance.port)
        wait_served(instance)


def transmits_checksums_open(network: Network) -> bool:
    """Tell whether the inner veth leaves TCP's checksums to others."""
    said = run(
        *("ip", "netns", "exec", network.namespace),
        *("ethtool", "-k", f"tap{network.id[:10]}1"),
    )
    (value,) = re.findall(r"^tx-checksumming: (on|off)", said, re.MULTILINE)
    return bool(value == "on")


def set_datapath_type(box: Sandbox, value: str) -> None:
    key = f"external_ids:ovn-bridge-datapath-type={value}"
    box.ovn.vsctl(
        *("--no-wait", "set", "Bridge", box.ovn.bridge),
        *(f"datapath_type={value}", "--", "set", "Open_vSwitch", ".", key),
    )


def test_checksum_offload_follows_the_datapath_type(box, case: Case):
    """Off for the userspace datapath, and on again for the kernel's."""
    network = case.network("type")
    instance = case.instance(network)
    assert not transmits_checksums_open(network)
    with frozen(box, "ovs-vswitchd"):  # it has no other type here
        try:
            set_datapath_type(box, "system")
            wait_for(
                lambda: transmits_checksums_open(network),
                timeout_s=60,
                what="checksums left open",
            )
        finally:
            set_datapath_type(box, "netdev")
        wait_for(
            lambda: not transmits_checksums_open(network),
            timeout_s=60,
            what="checksums filled in",
        )
    wait_served(instance)
