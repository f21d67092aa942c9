"""In which networks the agent asks, as whom, and what an answer means."""

from __future__ import annotations

import ipaddress

import pytest

from ovn_metadata.agent.core.selfcheck import (
    answer_packet,
    sources,
    turn,
    verdict,
)
from ovn_metadata.agent.core.traces import has_flows
from ovn_metadata.agent.model import Instance, IPAddress, MetadataNetwork


def test_each_network_has_its_turn_new_ones_first():
    networks = {f"n{number:03}" for number in range(200)}
    asked: dict[str, float] = {}
    for now in range(25):
        for network in turn(networks, asked, (), most=8):
            asked[network] = now
    assert asked.keys() == networks
    assert turn(networks | {"new"}, asked, (), most=8)[0] == "new"
    assert turn(networks, asked, (), most=8) == sorted(networks)[:8]


def test_those_that_fail_have_half_of_the_places():
    asked = {f"n{number}": float(number) for number in range(9)}
    failing = {"n5", "n6", "n7", "n8"}
    assert turn(asked, asked, failing, most=4) == ["n5", "n6", "n0", "n1"]
    assert turn({"n8", "n0"}, asked, failing, most=4) == ["n8", "n0"]


def desired(*addresses: str, ipv6: bool = True) -> MetadataNetwork:
    owner = Instance("vm", "p")
    instances: dict[IPAddress, Instance] = {
        ipaddress.ip_address(address): owner for address in addresses
    }
    cidrs = ["169.254.169.254/32", *["fe80::a9fe:a9fe/128"] * ipv6]
    return MetadataNetwork(
        network="n",
        localport="l",
        mac="fa:16:3e:00:00:01",
        mtu=1500,
        addresses=frozenset(map(ipaddress.ip_interface, cidrs)),
        neighbours={},
        onlink=frozenset(),
        instances=instances,
    )


@pytest.mark.parametrize(
    ("network", "number", "expected"),
    [
        pytest.param(None, 0, [], id="not here"),
        pytest.param(desired(), 0, [], id="no instance"),
        pytest.param(
            desired("10.0.0.5", "10.0.0.6", "fe80::1"),
            0,
            ["10.0.0.5", "fe80::1"],
            id="one of each version",
        ),
        pytest.param(
            desired("10.0.0.5", "10.0.0.6", "fe80::1"),
            7,
            ["10.0.0.6", "fe80::1"],
            id="another one next time",
        ),
        pytest.param(
            desired("10.0.0.5", "fe80::1", ipv6=False),
            0,
            ["10.0.0.5"],
            id="no IPv6 listener",
        ),
        pytest.param(desired("fe80::1"), 3, ["fe80::1"], id="IPv6 only"),
    ],
)
def test_as_whom(network, number, expected):
    assert sources(network, number) == expected


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, ""),
        (404, "OVNMD-309"),
        (503, "OVNMD-307"),
        (504, "OVNMD-307"),
        (400, "OVNMD-306"),
    ],
)
def test_what_an_answer_means(status, code):
    found, reason = verdict("10.0.0.5", status)
    assert found == code
    assert bool(reason) == bool(code)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (" 0. No match.\n    drop\n", False),
        (" 0. in_port=3, priority 100\n 8. No match\n", False),
        (" 0. x\n 8. x\n 9. x\n    drop\n", False),  # its port is disabled
        (" 0. x\n 8. x\n 9. x\n10. x\n    drop\n", True),
        (" 0. x\n10. x\n", True),
        ("", True),
    ],
)
def test_a_packet_that_is_not_taken_in(tables, expected):
    trace = f'bridge("br-int")\n--------\n{tables}'
    assert has_flows(trace, "own", {}) is expected


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (", cookie 0xacf5f3dc", True),
        (", cookie 0x1627cf12", False),
        (", cookie 0xffffffff", True),  # of no port known here
        ("", True),
    ],
)
def test_a_packet_that_is_taken_in_as_another_ports(cookie, expected):
    trace = f"\n 0. x{cookie}\n 8. x\n72. x, cookie 0x1\n"
    cookies = {"own": 0xACF5F3DC, "another": 0x1627CF12, "third": 1}
    assert has_flows(trace, "own", cookies) is expected


def test_the_packet_is_of_one_family():
    for source, metadata in (
        ("10.0.0.5", "169.254.169.254"),
        ("fe80::1", "fe80::a9fe:a9fe"),
    ):
        made = answer_packet(source, 7, mac="m", to_mac="n")
        assert (made["source"], made["destination"]) == (metadata, source)
        assert (made["in_port"], made["mac"], made["to_mac"]) == (7, "m", "n")
