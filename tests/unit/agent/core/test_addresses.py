"""Addresses in a row: usable ones, and what is left out."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent.core import addresses
from ovn_metadata.agent.core.addresses import UnusableRowError


@pytest.mark.parametrize(
    "text",
    [
        "",
        "router",
        "fa:16:3e:00:00",
        "fa:16:3e:00:00:00\n",
        "fa-16-3e-00-00-01",
        pytest.param("01:00:5e:00:00:01", id="multicast"),
        pytest.param("00:00:00:00:00:00", id="no address"),
    ],
)
def test_no_mac(text):
    with pytest.raises(UnusableRowError):
        addresses.parse_mac(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dynamic",
        "10.0.0.1/24",
        "10.0.0.01",
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "169.254.169.254",
        "fe80:0::a9fe:a9fe",
        "fe80::1%eth0",
        "ff02::1",
    ],
)
def test_no_address_of_an_instance(text):
    with pytest.raises(UnusableRowError):
        addresses.parse_address(text)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param(["unknown", ""], None, id="unknown alone"),
        pytest.param(["router"], None, id="a router's"),
        pytest.param(
            ["FA:16:3E:06:72:75", "unknown"],
            {"fa:16:3e:06:72:75": ""},
            id="a MAC without address, in capitals",
        ),
        pytest.param(
            ["fa:16:3e:06:72:76 10.0.0.1", "fa:16:3e:06:72:75", ""],
            {"fa:16:3e:06:72:76": "10.0.0.1", "fa:16:3e:06:72:75": ""},
            id="several keep their order",
        ),
        pytest.param(
            ["fa:16:3e:06:72:75 10.0.0.1", "fa:16:3e:06:72:75 10.0.0.2"],
            {"fa:16:3e:06:72:75": "10.0.0.1 10.0.0.2"},
            id="one MAC twice",
        ),
    ],
)
def test_parse_macs(entries, expected):
    if expected is None:
        with pytest.raises(UnusableRowError):
            addresses.parse_macs(entries)
        return
    found, left_out = addresses.parse_macs(entries)
    assert not left_out
    assert list(found) == list(expected)
    assert {
        mac: " ".join(map(str, given)) for mac, given in found.items()
    } == expected


def test_what_is_no_address_is_left_out_of_macs_and_no_more():
    found, left_out = addresses.parse_macs(
        ["nonsense", "fa:16:3e:06:72:75 10.0.0.0/24 10.0.0.1 dynamic"]
    )
    assert {mac: list(map(str, a)) for mac, a in found.items()} == {
        "fa:16:3e:06:72:75": ["10.0.0.1"]
    }
    assert [text.split("'")[1] for text in left_out] == [
        "nonsense",
        "10.0.0.0/24",
        "dynamic",
    ]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([], [], id="port security is off"),
        pytest.param(["", "fa:16:3e:06:72:75"], [], id="no address"),
        pytest.param(
            ["fa:16:3e:06:72:75 10.0.0.1 fd00::1 10.0.0.2/32"],
            ["10.0.0.1", "fd00::1", "10.0.0.2"],
            id="single addresses",
        ),
        pytest.param(
            ["fa:16:3e:06:72:75 10.0.0.0/24 0.0.0.0/0 fd00::/64"],
            [],
            id="whole subnets",
        ),
        pytest.param(["nonsense 10.0.0.1"], [], id="no MAC"),
        pytest.param(
            ["fa:16:3e:06:72:75 169.254.169.254 fe80::a9fe:a9fe"],
            [],
            id="the metadata addresses",
        ),
    ],
)
def test_parse_allowed(entries, expected):
    found = addresses.parse_allowed(entries)
    assert [str(address) for address, _ in found] == expected


@pytest.mark.parametrize(
    "text", ["::ffff:10.0.0.5", "::ffff:a00:5", "::10.0.0.5", "::7"]
)
def test_an_ipv4_address_in_ipv6s_clothes_is_refused(text):
    with pytest.raises(UnusableRowError):
        addresses.parse_address(text)


@given(st.ip_addresses(v=6) | st.integers(0, 2**64).map(ipaddress.IPv6Address))
def test_an_address_has_the_text_that_haproxy_looks_up(address):
    try:
        parsed = addresses.parse_address(str(address))
    except UnusableRowError:
        return
    packed = parsed.packed
    assert str(parsed) == socket.inet_ntop(socket.AF_INET6, packed)
