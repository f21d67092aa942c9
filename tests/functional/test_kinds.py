"""Kinds of ports and networks: each is served as it is.

Beside what is here: overlapping addresses are in test_identity.py, DHCP's
routes with and without a router in test_serving.py, rows that nobody should
write in test_bad_input.py.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from sandbox import (
    Instance,
    Network,
    Port,
    Sandbox,
    namespaces,
    subnet,
    trunks,
    wait_for,
)
from sandbox.case import Case, wait_served
from sandbox.daemons import run
from sandbox.sockets import status

ALWAYS = {"169.254.169.254/32", "fe80::a9fe:a9fe/128"}


def inside(network: Network, *command: str) -> str:
    """Run ip with COMMAND in the namespace of NETWORK."""
    return run("ip", "-n", network.namespace, *command)


def addresses(network: Network) -> set[str]:
    """Return the addresses of the namespace but for the usual ones."""
    (link,) = (
        link
        for link in json.loads(inside(network, "-j", "address"))
        if link["ifname"] != "lo"
    )
    entries = link["addr_info"]
    for entry in entries:
        assert not entry.get("tentative"), entry
        if entry["family"] == "inet6":
            assert entry["nodad"], entry  # so it never was
    found = {f"{entry['local']}/{entry['prefixlen']}" for entry in entries}
    usual = ALWAYS | {f"{network.metadata.link_local}/64"}
    assert usual <= found
    return found - usual


def expected(network: Network, *cidrs: str) -> set[str]:
    """Return the metadata port's addresses in the subnets CIDRS."""
    wanted = [ipaddress.ip_network(cidr) for cidr in cidrs]
    return {
        f"{address}/{size}"
        for address, size in network.metadata.fixed
        if any(address in each for each in wanted)
    }


def hosts(network: Network) -> set[str]:
    """Return the single addresses that the namespace has a route to."""
    routes = [
        route
        for family in ("-4", "-6")
        for route in json.loads(inside(network, family, "-j", "route"))
        if route["protocol"] == "static"
    ]
    assert {route.get("gateway") for route in routes} <= {None}
    return {route["dst"] for route in routes}


def neighbours(network: Network) -> dict[str, str]:
    """Return address -> MAC of the permanent neighbours."""
    return {
        entry["dst"]: entry["lladdr"]
        for entry in json.loads(inside(network, "-j", "neighbour"))
        if entry["state"] == ["PERMANENT"]
    }


def lines(box: Sandbox, *words: str) -> list[str]:
    """Return the lines of the agent's log that have all WORDS."""
    found = box.agent.log().splitlines()
    return [line for line in found if all(word in line for word in words)]


def wait_lines(box: Sandbox, count: int, *words: str) -> list[str]:
    """Wait for COUNT lines that have all WORDS; return all there are."""
    wait_for(
        lambda: len(lines(box, *words)) >= count,
        timeout_s=60,
        what=f"{count} lines of the log with {words}",
    )
    return lines(box, *words)


def count_provisioned(box: Sandbox, network: Network, instances: int) -> int:
    """Return how often the log has that NETWORK was provisioned.

    It does so a moment after it serves as many INSTANCES.
    """
    words = ("provisioned", network.id)
    wait_lines(box, 1, *words, f" instances={instances} ")
    wait_for(
        lambda: not status()["queue"]["length"],
        timeout_s=60,
        what="an agent that has done all",
    )
    return len(lines(box, *words))


def is_itself(
    instance: Instance, source: str = "", *, timeout_s: float = 60
) -> bool:
    """Tell whether INSTANCE gets its own metadata from SOURCE."""
    ipv6 = ":" in source
    answer = instance.fetch(ipv6=ipv6, source=source, timeout=timeout_s)
    return answer.status == 200 and answer.text == instance.instance_id


def wait_itself(instance: Instance, source: str) -> None:
    """Wait until INSTANCE gets its own metadata from SOURCE."""
    wait_for(
        lambda: is_itself(instance, source, timeout_s=2),
        timeout_s=60,
        what=f"metadata of {source}",
    )


# ------------------------------------------------------ families, subnets


@pytest.mark.parametrize(
    "subnets",
    [
        pytest.param(("10.10.0.0/24",), id="IPv4"),
        pytest.param(("fd00:10::/64",), id="IPv6"),
        pytest.param(("10.10.0.0/24", "fd00:10::/64"), id="both"),
    ],
)
def test_families(box, case: Case, subnets):
    """At both metadata addresses, as far as the instance can ask."""
    network = case.network("family", *subnets)
    (instance,) = box.plug([box.neutron.create_port(network)])
    for address, _ in instance.port.fixed:
        wait_itself(instance, str(address))
    if instance.port.ip6:
        # Its own link-local address, which is the usual one to ask from.
        assert instance.fetch(ipv6=True).text == instance.instance_id
    assert addresses(network) == expected(network, *subnets)
    where = ("ip", "netns", "exec", network.namespace, "ss", "-Hltn")
    listening = {line.split()[3] for line in run(*where).splitlines()}
    link = f"tap{network.id[:10]}1"
    assert listening == {
        "169.254.169.254:80",
        f"[fe80::a9fe:a9fe]%{link}:80",
    }


def test_of_several_subnets_those_in_use_have_an_address(box, case: Case):
    """One comes with its first port and goes with its last."""
    cidrs = ("10.10.0.0/24", "10.20.0.0/24", "10.30.0.0/24", "fd00:10::/64")
    network = case.network("several", *cidrs)
    first, second = case.plug(
        [
            box.neutron.create_port(network, addresses=cidrs[:1]),
            box.neutron.create_port(network, addresses=cidrs[1:2]),
        ]
    )
    assert addresses(network) == expected(network, *cidrs[:2])
    third = box.neutron.create_port(network, addresses=cidrs[2:])
    (third,) = case.plug([third])
    wait_itself(third, str(third.port.ip6))
    assert addresses(network) == expected(network, *cidrs)
    box.unplug([second])
    wait_for(
        lambda: (
            addresses(network) == expected(network, *cidrs[:1], *cidrs[2:])
        ),
        timeout_s=60,
        what="the end of the second subnet's address",
    )
    assert is_itself(first)
    assert is_itself(third)


def test_hundreds_of_subnets(box, case: Case):
    """A provider network of 300; an address in the three that are used."""
    cidrs = [f"10.{n // 250}.{n % 250}.0/24" for n in range(300)]
    network = case.network("provider", *cidrs, gateway=True)
    assert len(network.metadata.fixed) == 300
    used = cidrs[0], cidrs[150], cidrs[299]
    with box.neutron.batch():
        ports = [
            box.neutron.create_port(network, addresses=[cidr]) for cidr in used
        ]
    instances = case.plug(ports)
    assert addresses(network) == expected(network, *used)
    port, before = ports[0], count_provisioned(box, network, 3)
    box.neutron.update_port(port, instance_id=str(uuid.uuid4()))
    box.nova.register(port.device_id, port.project_id, "renamed")
    begun = time.monotonic()
    wait_served(instances[0])
    assert time.monotonic() - begun < 30
    *_, line = wait_lines(box, before + 1, "provisioned", network.id)
    assert line.endswith("changes=map file,map")


# ------------------------------------------------------------ without DHCP


def test_without_dhcp_an_instance_may_ask_over_ipv4(box, case: Case):
    """The metadata port has no address: ARP asks for 169.254.169.254."""
    subnets = [
        subnet(cidr, gateway=False, dhcp=False)
        for cidr in ("10.10.0.0/24", "fd00:10::/64")
    ]
    network = case.network("off", *subnets)
    assert network.metadata.cidrs == ""
    (instance,) = case.plug([box.neutron.create_port(network)])
    (route,) = json.loads(
        instance.execute("ip", "-j", "route", "show", "169.254.169.254")
    )
    assert "gateway" not in route
    wait_itself(instance, str(instance.port.ip6))
    assert addresses(network) == set()
    own = {str(address) for address, _ in instance.port.fixed}
    assert hosts(network) == own
    assert own < neighbours(network).keys()
    # What is there already is not touched by what comes beside it.
    before = count_provisioned(box, network, 1)
    other = case.instance(network)
    *_, line = wait_lines(box, before + 1, "provisioned", network.id)
    assert line.endswith("changes=+3 neighbours,+2 hosts,map file,map")
    box.unplug([instance])
    own = {str(address) for address, _ in other.port.fixed}
    wait_for(
        lambda: hosts(network) == own,
        timeout_s=60,
        what="the end of the routes to the instance that went",
    )
    assert is_itself(other)
    for item in subnets:
        box.neutron.enable_dhcp(network, item)
    wait_for(
        lambda: not hosts(network), timeout_s=60, what="subnets in their place"
    )
    wait_served(other)


def test_a_subnet_without_dhcp_beside_one_with(box, case: Case):
    """The metadata port has an address in one of the two."""
    network = case.network(
        "half",
        subnet("10.10.0.0/24", gateway=False),
        subnet("10.20.0.0/24", gateway=False, dhcp=False),
    )
    ports = [
        box.neutron.create_port(network, addresses=[cidr])
        for cidr in ("10.10.0.0/24", "10.20.0.0/24")
    ]
    case.plug(ports)
    assert addresses(network) == expected(network, "10.10.0.0/24")
    assert hosts(network) == {str(ports[1].ip4)}


# ------------------------------------------------------------ with routers


def test_several_routers(box, case: Case):
    """One network on two routers, one of which has another network too."""
    first = case.network(
        "both", "10.10.0.0/24", "10.20.0.0/24", "fd00:10::/64", gateway=True
    )
    second = case.network("second", "10.30.0.0/24", gateway=True)
    routers = [
        box.neutron.create_router(
            "r1", [first, second], subnets=[first.subnets[0], *second.subnets]
        ),
        box.neutron.create_router("r2", [first], subnets=first.subnets[1:]),
    ]
    ports = [
        box.neutron.create_port(network, addresses=cidrs)
        for network, cidrs in (
            (first, ["10.10.0.0/24", "fd00:10::/64"]),
            (first, ["10.20.0.0/24", "fd00:10::/64"]),
            (second, None),
        )
    ]
    instances = case.plug(ports)
    for instance in instances[:2]:
        wait_itself(instance, str(instance.port.ip6))
    for router in routers:
        box.neutron.delete_router(router)


# ------------------------------------------------------------------ trunks


def test_subports_of_a_trunk_have_their_parents_metadata(box, case: Case):
    """On other networks, by VLANs; Neutron gives them no device id."""
    neutron = box.neutron
    own, second, third = (
        case.network(name, "10.10.0.0/24") for name in ("own", "two", "three")
    )
    port = neutron.create_port(own)
    subports = [
        neutron.create_subport(network, port, tag)
        for network, tag in ((second, 101), (third, 102))
    ]
    assert {subport.device_id for subport in subports} == {""}
    box.nova.register(port.device_id, port.project_id, "trunk")
    parent, *children = (Instance(box.ovn, p) for p in (port, *subports))
    with trunks.plugged(parent, children):
        wait_served(parent)
        for child in children:
            wait_for(
                lambda child=child: (
                    child.fetch(timeout=2).text == parent.instance_id
                ),
                timeout_s=60,
                what="metadata by a VLAN",
            )
            seen = json.loads(child.fetch("/echo").body)["headers"]
            assert ["x-tenant-id", port.project_id] in seen
            assert ["x-forwarded-for", str(child.port.ip4)] in seen
        # Another instance of it: known on all three at once.
        neutron.update_port(port, instance_id=str(uuid.uuid4()))
        box.nova.register(port.device_id, port.project_id, "trunk")
        wait_for(
            lambda: (
                {one.fetch(timeout=2).text for one in (parent, *children)}
                == {port.device_id}
            ),
            timeout_s=60,
            what="the new instance's metadata",
        )
    folder = namespaces.NETNS_FOLDER
    wait_for(
        lambda: (
            not any(
                (folder / network.namespace).exists()
                for network in (own, second, third)
            )
        ),
        timeout_s=60,
        what="the end of its networks",
    )


# --------------------------------------------------------- more addresses


def test_an_instance_is_known_by_each_address_of_its_port(box, case: Case):
    """Several fixed addresses and allowed pairs, not by a pair's subnet."""
    network = case.network("pairs", "10.10.0.0/24", "fd00:10::/64")
    pairs = ["10.10.0.200", "10.99.0.1", "fd00:10::200"]
    fixed = ["10.10.0.7", "10.10.0.8", "fd00:10::/64"]
    vrrp = ("00:00:5e:00:01:33", "10.10.0.201")
    # A tenant may write all of these.
    useless = ["10.10.0.240/28", "169.254.169.254", "fe80::a9fe:a9fe"]
    port = box.neutron.create_port(
        network,
        addresses=fixed,
        allowed=[vrrp, *(("", each) for each in (*pairs, *useless))],
    )
    beside = box.neutron.create_port(network)
    instance, other = case.plug([port, beside])
    for source in (*pairs, *(str(address) for address, _ in port.fixed)):
        instance.take(source)
        assert is_itself(instance, source), source
    nobody = instance.take("10.10.0.250")
    wait_for(  # it is 503 while the agent is too slow to be sure
        lambda: instance.fetch(source=nobody, timeout=20).status == 404,
        timeout_s=60,
        what="404 for nobody's address",
    )
    assert neighbours(network)["10.10.0.201"] == vrrp[0]
    assert is_itself(other)
    assert not lines(box, "WARNING", port.id)
    box.neutron.update_port(port, allowed=[])
    wait_for(
        lambda: (
            "10.10.0.200" not in neighbours(network)
            and hosts(network) == set()
        ),
        timeout_s=60,
        what="the end of the pairs",
    )
    assert is_itself(instance)


def test_a_port_with_two_macs_is_known_by_both(box, case: Case):
    """Two entries in `mac`, each with its address."""
    network = case.network("macs")
    instance = case.instance(network)
    port = instance.port
    second = "fa:16:3e:00:02:01 10.10.0.99"
    box.ovn.nbctl("lsp-set-addresses", port.id, port.addresses, second)
    box.ovn.nbctl("lsp-set-port-security", port.id, port.addresses, second)
    mac, address = second.split()
    wait_for(
        lambda: neighbours(network).get(address) == mac,
        timeout_s=60,
        what="the second address",
    )
    assert is_itself(instance)
    instance.execute("ip", "link", "set", "eth0", "address", mac)
    instance.take(address)
    wait_itself(instance, address)


def test_who_may_use_anothers_mac_never_gets_its_metadata(box, case: Case):
    """An allowed pair of both its addresses: OVN may answer either."""
    network = case.network("mac")
    mac, address = "fa:16:3e:00:04:01", "10.10.0.77"
    port = box.neutron.create_port(
        network, allowed=[(mac, address)], project_id=uuid.uuid4().hex
    )
    (attacker,) = case.plug([port])
    victim = box.neutron.create_port(network, mac=mac, addresses=[address])
    (instance,) = box.plug([victim])
    wait_lines(box, 1, "WARNING", network.id, f"{address} has the MAC")
    assert f"{address} has the MAC {mac}" in box.agent.status().stdout
    own = attacker.port.mac
    attacker.execute("ip", "link", "set", "eth0", "address", mac)
    attacker.take(address)
    # Whichever of the two OVN delivers it to.
    for asking in (attacker, instance):
        with contextlib.suppress(OSError):
            said = asking.fetch(source=address, timeout=5).status
            assert said in (404, 503)  # 503: the agent is not sure yet
    attacker.execute("ip", "link", "set", "eth0", "address", own)
    wait_itself(attacker, str(attacker.port.ip4))
    box.neutron.update_port(port, allowed=[])
    wait_served(instance)


def test_an_address_claimed_twice_is_back_when_one_goes(box, case: Case):
    """Told once to the operator, at a level that is seen."""
    network = case.network("twice")
    ports = [
        box.neutron.create_port(network, addresses=[address])
        for address in ("10.10.0.7", "10.10.0.8")
    ]
    first, second = case.plug(ports)
    box.neutron.update_port(ports[1], addresses=["10.10.0.7"])
    words = ("WARNING", network.id, "10.10.0.7 claimed by")
    wait_for(
        lambda: first.fetch(timeout=5).status == 404,
        timeout_s=60,
        what="404 for an address of two",
    )
    (line,) = wait_lines(box, 1, *words)
    assert all(port.id in line for port in ports)
    assert all(port.id in box.agent.status().stdout for port in ports)
    box.unplug([second])
    wait_served(first)
    assert len(lines(box, *words)) == 1
    wait_for(
        lambda: "claimed by" not in box.agent.status().stdout,
        timeout_s=60,
        what="agent-status without it",
    )


def test_a_port_whose_mac_ovn_does_not_know_is_a_warning(box, case: Case):
    """So Neutron writes one without port security and without DHCP."""
    network = case.network("bare")
    instance = case.instance(network)
    bare = box.neutron.create_port(network, port_security=False)
    box.ovn.nbctl("lsp-set-addresses", bare.id, "unknown")
    box.plug([bare])

    def named() -> list[dict[str, str]]:
        found = status()["problems"]
        return [each for each in found if bare.id in each["reason"]]

    (problem,) = wait_for(named, timeout_s=60, what="a word of it")
    assert (problem["code"], problem["severity"]) == ("OVNMD-109", "warning")
    assert "DHCP" in problem["reason"]
    assert problem["remedy"].startswith("do what the reason says")
    assert is_itself(instance)
    # It has a MAC address again with its port security.
    box.ovn.nbctl("lsp-set-addresses", bare.id, bare.addresses)
    wait_for(lambda: not named(), timeout_s=60, what="the end of it")
    wait_served(*box.instances[-1:])


# ----------------------------------------------------------- virtual ports


def claim(instance: Instance, virtual: Port) -> None:
    """Have INSTANCE announce the address of VIRTUAL until OVN says so."""
    where = [["logical_port", "==", virtual.id]]
    ((address, _),) = virtual.fixed

    def claimed() -> bool:
        instance.announce(address)
        wanted = ("virtual", instance.port.id)
        return any(
            (row["type"], row["virtual_parent"]) == wanted
            for row in instance.ovn.sb.select("Port_Binding", where)
        )

    wait_for(claimed, timeout_s=60, interval_s=0.2, what="a claim")


@pytest.mark.parametrize("vip", ["10.10.0.100", "fd00:10::100"])
def test_a_virtual_address_is_who_announced_it(box, case: Case, vip):
    """Of two projects' instances the one that holds it; the other is mute."""
    network = case.network("virtual", "10.10.0.0/24", "fd00:10::/64")
    ipv6 = ":" in vip
    ports = [
        box.neutron.create_port(
            network, allowed=[("", vip)], project_id=uuid.uuid4().hex
        )
        for _ in range(2)
    ]
    virtual = box.neutron.create_virtual_port(network, vip, ports)
    instances = case.plug(ports)
    for holder, other in (instances, instances[::-1]):
        holder.take(vip)
        claim(holder, virtual)
        wait_for(
            lambda mac=holder.port.mac: neighbours(network).get(vip) == mac,
            timeout_s=60,
            what="answers to the new holder",
        )
        wait_itself(holder, vip)
        # It may send from there, too; the answer goes to the holder.
        other.take(vip)
        with pytest.raises(OSError, match="timed out"):
            other.fetch(source=vip, ipv6=ipv6, timeout=1.5)
        assert is_itself(other)
        assert is_itself(holder)
    box.neutron.delete_port(virtual)
    # Both may use it and nobody says who does.
    wait_for(
        lambda: vip not in neighbours(network),
        timeout_s=60,
        what="the end of the virtual address",
    )
    for instance in instances:
        with contextlib.suppress(OSError):
            answer = instance.fetch(source=vip, ipv6=ipv6, timeout=5)
            assert answer.status in (404, 503)


def test_the_metadata_address_as_a_virtual_one_harms_nobody(box, case: Case):
    """Announced by an instance; the others of its network are served."""
    network = case.network("harm")
    vip = "169.254.169.254"
    ports = [
        box.neutron.create_port(network, allowed=[("", vip)]),
        box.neutron.create_port(network),
    ]
    virtual = box.neutron.create_virtual_port(network, vip, ports[:1])
    claimant, other = case.plug(ports)
    claim(claimant, virtual)
    for instance in (claimant, other, case.instance(network)):
        assert is_itself(instance)
    assert vip not in neighbours(network)


def test_a_metadata_port_turned_virtual_is_named(box, case: Case):
    """Neutron does so when a port has its address in an allowed pair."""
    network = case.network("turned")
    instance = case.instance(network)
    localport = network.metadata.id
    options = f"virtual-parents={instance.port.id}"
    address = f"virtual-ip={network.metadata.ip4}"
    box.ovn.nbctl(
        *("lsp-set-type", localport, "virtual", "--"),
        *("lsp-set-options", localport, address, options),
    )
    wait_lines(box, 1, "WARNING", localport)
    wait_for(
        lambda: "allowed_address_pairs" in box.agent.status().stdout,
        timeout_s=60,
        what="what to do in agent-status",
    )
    box.ovn.nbctl("lsp-set-type", localport, "localport")
    box.ovn.nbctl("lsp-set-options", localport)
    wait_for(
        lambda: localport not in box.agent.status().stdout,
        timeout_s=60,
        what="agent-status without it",
    )
    wait_served(instance)


# ------------------------------------------------- not for us, or not ours


def test_a_health_monitors_localport_is_not_taken(box, case: Case):
    """Several of them, there before the instance and after it."""
    network = case.network("monitored")
    neutron = box.neutron
    monitors = [neutron.create_health_monitor_port(network) for _ in "ab"]
    instance = case.instance(network)
    monitors += [neutron.create_health_monitor_port(network) for _ in "ab"]
    box.ovn.sync()
    case.instance(network)
    link = json.loads(inside(network, "-j", "link"))[-1]
    assert link["address"] == network.metadata.mac
    assert addresses(network) == expected(network, "10.10.0.0/24")
    assert is_itself(instance)
    said = lines(box, "WARNING", network.id)
    # A busy machine may not answer the self-check in time.
    assert not [line for line in said if "OVNMD-306" not in line]
    (row,) = box.ovn.ovs.select(
        "Interface", [["name", "==", f"tap{network.id[:10]}0"]]
    )
    assert row["external_ids"]["iface-id"] == network.metadata.id


@pytest.fixture
def foreign_port(box: Sandbox) -> Iterator[str]:
    """Plug a port into a switch that Neutron has not made."""
    name, device = f"theirs-{uuid.uuid4()}", "foreign0"
    mac = "fa:16:3e:00:03:01 10.77.0.5"
    run("ip", "link", "add", device, "type", "veth", "peer", "name", "peer0")
    box.ovn.nbctl("ls-add", "theirs", "--", "lsp-add", "theirs", name)
    box.ovn.nbctl("lsp-set-addresses", name, mac)
    where = ("--", "set", "Interface", device)
    box.ovn.vsctl(
        *("add-port", box.ovn.bridge, device, *where),
        f"external_ids:iface-id={name}",
    )
    yield name
    box.ovn.vsctl("del-port", box.ovn.bridge, device)
    box.ovn.nbctl("ls-del", "theirs")
    run("ip", "link", "delete", device)


def test_a_port_of_somebody_elses_switch_is_skipped(
    box, case: Case, foreign_port
):
    """With one line; Neutron's networks are served."""
    wait_lines(box, 1, "WARNING", foreign_port)
    case.instance(case.network("ours"))
    (line,) = lines(box, foreign_port)
    assert "neutron-<uuid>" in line
    wait_for(
        lambda: foreign_port in box.agent.status().stdout,
        timeout_s=60,
        what="the port in agent-status",
    )


def test_many_ports_of_another_cms_are_one_line(box, case: Case):
    """As Kube-OVN has them for its pods, requested on this host."""
    pods, host = 100, box.ovn.system_id
    words = ["ls-add", "pods"]
    for number in range(pods):
        words += ["--", "lsp-add", "pods", f"pod-{number}"]
        words += ["--", "lsp-set-options", f"pod-{number}"]
        words += [f"requested-chassis={host}"]
    mark = box.agent.mark()
    box.ovn.nbctl(*words)
    try:
        wait_for(
            lambda: f"  {pods} ports skipped" in box.agent.status().stdout,
            timeout_s=60,
            what="the pods in agent-status",
        )
        case.instance(case.network("ours"))
        said = wait_for(  # that of another test may be there for a moment
            lambda: (
                (text := box.agent.status().stdout).count("neutron-<uuid>")
                == 1
                and text
            ),
            timeout_s=60,
            what="one line of agent-status",
        )
        assert f"  {pods} ports skipped" in said
        assert box.agent.log(mark).count("neutron-<uuid>") == 1
        assert "pod-" not in said
    finally:
        box.ovn.nbctl("ls-del", "pods")


# --------------------------------------------------------- security groups


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_a_stateless_security_group_needs_a_rule_for_the_answer(
    box, case: Case, ipv6: bool
):
    """As docs/how-to/operate.md says: no connection is tracked."""
    network = case.network("stateless", "10.10.0.0/24", "fd00:10::/64")
    instance = case.instance(network)
    version, address = (
        ("ip6", "fe80::a9fe:a9fe/128") if ipv6 else ("ip4", "169.254.169.254")
    )
    box.ovn.nbctl(
        *("pg-add", "group", instance.port.id),
        *("--", "acl-add", "group", "from-lport", "1001"),
        *(f"inport == @group && {version}", "allow-stateless"),
        *("--", "acl-add", "group", "from-lport", "1000"),
        *("inport == @group && ip", "drop"),
        *("--", "acl-add", "group", "to-lport", "1000"),
        *("outport == @group && ip", "drop"),
    )
    try:
        box.ovn.sync()
        with pytest.raises(TimeoutError):
            instance.fetch(ipv6=ipv6, timeout=1)
        box.ovn.nbctl(
            *("acl-add", "group", "to-lport", "1001"),
            f"outport == @group && {version}.src == {address} && tcp",
            "allow-stateless",
        )
        box.ovn.sync()
        wait_served(instance, ipv6=ipv6)
    finally:
        box.ovn.nbctl("pg-del", "group")


# -------------------------------------------------------------- neighbours


@contextlib.contextmanager
def captured(network: Network) -> Iterator[list[bytes]]:
    """Collect what leaves the namespace of NETWORK meanwhile."""
    every = 0x0003  # ETH_P_ALL, <linux/if_ether.h>
    frames: list[bytes] = []
    with (
        namespaces.inside(network.namespace),
        socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every)
        ) as link,
    ):
        yield frames
        link.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, where = link.recvfrom(2048)
                if where[2] == socket.PACKET_OUTGOING:
                    frames.append(frame)


def is_question(frame: bytes) -> bool:
    """Tell whether FRAME asks for a MAC address: ARP or IPv6's like."""
    kind, neighbour_solicitation = frame[12:14], 135
    if kind == b"\x08\x06":
        return True
    icmp = kind == b"\x86\xdd" and frame[20] == socket.IPPROTO_ICMPV6
    return icmp and frame[54] == neighbour_solicitation


def test_answers_wait_for_no_neighbour_discovery(box, case: Case):
    """However long nobody asked: entries that could age do so at once."""
    network = case.network("idle", "10.10.0.0/24", "fd00:10::/64")
    instance = case.instance(network)
    link = f"tap{network.id[:10]}1"
    for family in ("ipv4", "ipv6"):
        base = f"net.{family}.neigh.{link}"
        run(
            *("ip", "netns", "exec", network.namespace, "sysctl", "-qw"),
            *(f"{base}.base_reachable_time_ms=1", f"{base}.gc_stale_time=0"),
            f"{base}.delay_first_probe_time=0",
        )
    port: Port = instance.port
    sources = (str(port.ip4), str(port.ip6), str(port.link_local))
    assert dict.fromkeys(sources, port.mac) == {
        address: mac
        for address, mac in neighbours(network).items()
        if address in sources
    }
    with captured(network) as frames:
        for source in sources:
            assert is_itself(instance, source)
    assert len(frames) >= 2 * len(sources)  # SYN-ACK, answer; a FIN, later
    assert not [frame.hex() for frame in frames if is_question(frame)]
