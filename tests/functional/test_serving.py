"""Routed and isolated, by DHCP, and what Neutron sees of the agent."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from sandbox import Sandbox, subnet, wait_for
from sandbox.case import Case, wait_served
from sandbox.controller import BRIDGE, HEARTBEAT, exit_controller, registration
from sandbox.daemons import run
from sandbox.sockets import status

ID = "neutron:ovn-metadata-id"
SIBLINGS = {
    "neutron:ovn-neutron-agent-id": str(uuid.uuid4()),
    "neutron:ovn-neutron-agent-sb-cfg": "0",
    "neutron:description-neutron-agent": "sibling",
}


# ----------------------------------------------------------------- DHCP


@pytest.mark.parametrize("routed", [True, False], ids=["routed", "isolated"])
def test_dhcp_client_gets_the_route_and_the_metadata(box, case: Case, routed):
    """OVN's DHCP, options as Neutron writes them, a real udhcpc."""
    network = case.network("dhcp", gateway=routed)
    router = None
    if routed:
        router = box.neutron.create_router("r", [network])
    port = box.neutron.create_port(network, name="lease")
    (instance,) = case.plug([port], dhcp=True)
    via = str(network.metadata.ip4)
    routes = json.loads(instance.execute("ip", "-j", "route"))
    hops = {route["dst"]: route.get("gateway") for route in routes}
    assert hops["169.254.169.254"] == via
    assert hops.get("default") == ("10.10.0.1" if routed else None)
    options = box.ovn.nb.select("DHCP_Options")
    (row,) = (
        row["options"]
        for row in options
        if row["external_ids"]["neutron:network_id"] == network.id
    )
    assert f"169.254.169.254/32,{via}" in row["classless_static_route"]
    assert instance.fetch().text == instance.instance_id
    if router is not None:
        box.neutron.delete_router(router)


def test_network_without_dhcp_is_served_by_link_local(box, case: Case):
    """The metadata port then has no address but [fe80::a9fe:a9fe]."""
    subnets = [
        subnet(cidr, gateway=False, dhcp=False)
        for cidr in ("10.10.0.0/24", "fd00:10::/64")
    ]
    network = case.network("off", *subnets)
    (instance,) = box.plug([box.neutron.create_port(network)])

    def served() -> bool:
        return instance.fetch(ipv6=True, timeout=2).status == 200

    wait_for(served, timeout_s=60, what="metadata by IPv6")
    assert instance.fetch(ipv6=True).text == instance.instance_id


def test_network_with_an_mtu_below_ipv6s_is_served_by_ipv4(box, case: Case):
    """And by both again once its MTU allows it."""
    network = case.network("small", "10.10.0.0/24", "fd00:10::/64")
    instance = case.instance(network)

    def addresses() -> str:
        return run("ip", "-n", network.namespace, "address")

    box.neutron.update_network(network, mtu=1000)
    wait_for(
        lambda: "mtu 1000" in addresses() and "inet6 fe80" not in addresses(),
        timeout_s=60,
        what="a smaller link without IPv6",
    )
    wait_served(instance)
    # Tests before may have left problems of others. One of a look in between
    # goes with the next look.
    wait_for(
        lambda: all(
            each["network"] != network.id for each in status()["problems"]
        ),
        timeout_s=60,
        what="no problem of the network",
    )
    box.neutron.update_network(network, mtu=1442)

    def served() -> bool:
        return instance.fetch(ipv6=True, timeout=2).status == 200

    wait_for(served, timeout_s=60, what="metadata by IPv6 again")
    wait_served(instance)


# ------------------------------------------------------ Chassis_Private


def nb_cfg(box: Sandbox) -> str:
    (row,) = box.ovn.sb.select("SB_Global", (), ["nb_cfg"])
    return str(row["nb_cfg"])


def wait_registered(box: Sandbox) -> dict[str, str]:
    """Return what is in the row once the agent has written there."""

    def registered() -> dict[str, str]:
        keys = registration(box)
        return keys if ID in keys else {}

    return wait_for(registered, timeout_s=120, what="keys")


def test_registers_as_neutrons_agent_does(box):
    """The id is Neutron's: uuid5 of the chassis' name."""
    chassis = uuid.UUID(box.ovn.system_id)
    keys = wait_registered(box)
    assert keys[ID] == str(uuid.uuid5(chassis, "metadata_agent"))
    assert keys[BRIDGE] == "br-int"
    assert keys[HEARTBEAT].isdecimal()


def test_heartbeat_follows_nb_cfg(own_box):
    """Within a third of agent_down_time (9 s here): 3 s; five of them.

    A busy machine may be late with one of them.
    """
    box = own_box
    box.agent.configure({("DEFAULT", "agent_down_time"): "9"})
    box.agent.start()
    box.agent.wait_ready()
    wait_for(lambda: HEARTBEAT in registration(box), timeout_s=60, what="keys")
    took = []
    for _ in range(5):
        begun = time.monotonic()
        box.ovn.sync()  # nb_cfg + 1
        wait_for(
            lambda: registration(box)[HEARTBEAT] == nb_cfg(box),
            timeout_s=60,
            what="heartbeat",
        )
        took.append(time.monotonic() - begun)
    assert sorted(took)[-2] < 6, took  # at 9 s it would be down


def test_registration_is_kept_true(own_box):
    """A dead sibling's keys go; an id stays; a new row gets all again."""
    box = own_box
    # The sibling's keys go after four times this.
    box.agent.configure({("DEFAULT", "agent_down_time"): "5"})
    row = ("Chassis_Private", box.ovn.system_id)
    pairs = [f"external_ids:{k}={v}" for k, v in SIBLINGS.items()]
    quoted = [pair.replace("neutron:", "neutron\\:") for pair in pairs]
    box.ovn.sbctl("set", *row, *quoted, "external_ids:other=kept")
    box.agent.start()
    assert SIBLINGS.items() <= wait_registered(box).items()
    box.agent.wait_ready()

    def forgotten() -> bool:
        box.ovn.sync()  # nb_cfg + 1
        return not SIBLINGS.keys() & registration(box).keys()

    wait_for(forgotten, timeout_s=120, what="end of the sibling's keys")
    before = registration(box)
    assert before["other"] == "kept"
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    wait_served(instance)
    exit_controller(box)
    wait_for(lambda: not registration(box), timeout_s=60, what="no row")
    box.ovn.start("ovn-controller")
    wait_for(
        lambda: (
            registration(box).get(ID) == before[ID]
            and registration(box).get(HEARTBEAT) == nb_cfg(box)
        ),
        timeout_s=60,
        what="registration in the new row",
    )
    wait_served(instance)
    box.ovn.sbctl("remove", *row, "external_ids", "neutron\\:ovn-bridge")
    wait_for(
        lambda: registration(box).get(BRIDGE) == "br-int",
        timeout_s=60,
        what="key written again",
    )
