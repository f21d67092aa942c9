"""What a network needs: served or not, subnets in use, neighbours."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from ovn_metadata.agent.core.desired import desired_network
from ovn_metadata.agent.model import Localport, NetworkSnapshot, VifPort

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
ALWAYS = {"169.254.169.254/32", "fe80::a9fe:a9fe/128"}
LINK_LOCAL = "fe80::f816:3eff:fe0e:b38c/64"  # of fa:16:3e:0e:b3:8c


def vif(name: str, *addresses: str, mac: str = "fa:16:3e:af:19:7c") -> VifPort:
    return VifPort(
        logical_port=name,
        mac=mac,
        macs=frozenset({mac}),
        addresses=tuple((ipaddress.ip_address(a), mac) for a in addresses),
        instance=f"instance-of-{name}",
        project="p",
    )


def localport(*cidrs: str, mtu: int = 1442) -> Localport:
    return Localport(
        logical_port="5e31beaf-ccaf-41b6-8cf9-4352635a79c3",
        mac="fa:16:3e:0e:b3:8c",
        cidrs=frozenset(ipaddress.ip_interface(cidr) for cidr in cidrs),
        mtu=mtu,
    )


def snapshot(port: Localport | None, *ports: VifPort) -> NetworkSnapshot:
    return NetworkSnapshot(NETWORK, port, ports)


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        pytest.param(None, (), id="nothing at all"),
        pytest.param(None, (vif("a", "10.10.0.50"),), id="no localport"),
        pytest.param(localport("10.10.0.1/24"), (), id="no port here"),
    ],
)
def test_network_is_not_served(port, ports):
    assert desired_network(snapshot(port, *ports)) is None


@pytest.mark.parametrize(
    ("cidrs", "addresses", "served"),
    [
        pytest.param((), (), set(), id="DHCP off, port without address"),
        pytest.param(
            ("10.10.0.1/24",), (), set(), id="the subnet is not in use"
        ),
        pytest.param(
            ("10.10.0.1/24", "10.20.0.1/24"),
            ("10.20.0.9",),
            {"10.20.0.1/24"},
            id="one of two subnets is in use",
        ),
        pytest.param(
            ("10.10.0.1/24", "fd00:10::f816:3eff:fe0e:b38c/64"),
            ("10.10.0.50", "fd00:10::f816:3eff:feaf:197c"),
            {"10.10.0.1/24", "fd00:10::f816:3eff:fe0e:b38c/64"},
            id="IPv4 and IPv6 are in use",
        ),
        pytest.param(
            ("10.10.0.1/24", "10.10.0.2/25"),
            ("10.10.0.200",),
            {"10.10.0.1/24"},
            id="the prefix length decides",
        ),
    ],
)
def test_serves_the_subnets_in_use(cidrs, addresses, served):
    wanted = desired_network(snapshot(localport(*cidrs), vif("a", *addresses)))
    assert wanted is not None
    assert {str(cidr) for cidr in wanted.addresses} == {
        *ALWAYS,
        LINK_LOCAL,
        *served,
    }


@pytest.mark.parametrize(
    ("mtu", "ipv6", "has"),
    [
        pytest.param(0, True, True, id="no MTU told"),
        pytest.param(1280, True, True, id="the least that IPv6 takes"),
        pytest.param(1279, True, False, id="too small a link"),
        pytest.param(1442, False, False, id="a host without IPv6"),
    ],
)
def test_ipv6_is_left_out_where_there_can_be_none(mtu, ipv6, has):
    port = dataclasses.replace(
        localport("10.10.0.1/24", "fd00:10::1/64"), mtu=mtu
    )
    wanted = desired_network(
        snapshot(port, vif("a", "10.10.0.5", "fd00:10::5")), ipv6=ipv6
    )
    assert wanted is not None
    assert wanted.has_ipv6 is has
    assert (6 in {cidr.version for cidr in wanted.addresses}) is has
    assert (6 in {who.version for who in wanted.neighbours}) is has
    assert not wanted.onlink


def test_carries_the_localport_and_all_addresses_of_the_ports():
    wanted = desired_network(
        snapshot(
            localport("10.10.0.1/24"),
            vif("b", "fd00::1", "10.10.0.9", mac="fa:16:3e:00:00:02"),
            vif("a", "10.10.0.10", mac="fa:16:3e:00:00:01"),
        )
    )
    assert wanted is not None
    assert (wanted.network, wanted.mtu) == (NETWORK, 1442)
    assert wanted.localport == "5e31beaf-ccaf-41b6-8cf9-4352635a79c3"
    assert wanted.mac == "fa:16:3e:0e:b3:8c"
    assert wanted.instances.keys() == wanted.neighbours.keys()
    assert {str(a): mac[-2:] for a, mac in wanted.neighbours.items()} == {
        "10.10.0.9": "02",
        "10.10.0.10": "01",
        "fd00::1": "02",
        "fe80::f816:3eff:fe00:1": "01",
        "fe80::f816:3eff:fe00:2": "02",
    }


@pytest.mark.parametrize(
    ("cidrs", "onlink"),
    [
        pytest.param(
            (), ["10.10.0.5", "10.20.0.5", "fd00:10::5"], id="DHCP is off"
        ),
        pytest.param(
            ("10.10.0.1/24",),
            ["10.20.0.5", "fd00:10::5"],
            id="DHCP is on in one subnet",
        ),
        pytest.param(
            ("10.10.0.1/24", "10.20.0.1/24", "fd00:10::1/64"),
            [],
            id="DHCP is on",
        ),
    ],
)
def test_a_port_in_no_subnet_of_the_localport_is_onlink(cidrs, onlink):
    ports = (
        vif("a", "10.20.0.5", "fd00:10::5", mac="fa:16:3e:00:00:01"),
        vif("b", "10.10.0.5", mac="fa:16:3e:00:00:02"),
    )
    wanted = desired_network(snapshot(localport(*cidrs), *ports))
    assert wanted is not None
    assert sorted(map(str, wanted.onlink)) == onlink
    assert wanted.onlink <= wanted.neighbours.keys()


@pytest.mark.parametrize(
    "port",
    [
        pytest.param(
            vif("a", "10.10.0.1"), id="its fixed address is the localport's"
        ),
        pytest.param(
            vif("a", "10.10.0.5", mac="fa:16:3e:0e:b3:8c"),
            id="its MAC address is the localport's",
        ),
    ],
)
def test_never_has_itself_as_a_neighbour(port):
    wanted = desired_network(snapshot(localport("10.10.0.1/24"), port))
    assert wanted is not None
    own = {cidr.ip for cidr in wanted.addresses}
    assert not own & wanted.neighbours.keys()


def test_an_address_of_two_ports_is_served_to_none_and_reported():
    rivals = (
        vif("a", "10.10.0.5", mac="fa:16:3e:00:00:01"),
        vif("b", "10.10.0.5", mac="fa:16:3e:00:00:02"),
    )
    wanted = desired_network(snapshot(localport("10.10.0.1/24"), *rivals))
    assert wanted is not None
    assert wanted.conflicts == ("10.10.0.5 claimed by ports a, b",)
    address = ipaddress.ip_address("10.10.0.5")
    assert address not in wanted.instances
    assert address not in wanted.neighbours
    assert wanted == desired_network(
        dataclasses.replace(
            snapshot(localport("10.10.0.1/24")), ports=rivals[::-1]
        )
    )
