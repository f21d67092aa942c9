"""What was broken, in words, from what was changed to set it right."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.core.found import found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(["up tap0123456789"], ["veth down"], id="veth down"),
        pytest.param(
            ["up tap01234567890", "-2 neighbours", "+3 hosts"],
            ["veth down", "2 foreign neighbours", "3 hosts gone"],
            id="several things",
        ),
        pytest.param(
            ["+169.254.169.254/32", "-10.0.0.9/24"],
            ["address 169.254.169.254/32 gone", "foreign address 10.0.0.9/24"],
            id="addresses",
        ),
        pytest.param(
            ["routes 10.0.0.1"], ["routes of 10.0.0.1 gone"], id="routes"
        ),
        pytest.param(
            ["sysctl arp_ignore"], ["sysctl arp_ignore changed"], id="sysctl"
        ),
        pytest.param(
            ["map file", "map"],
            ["map file changed", "map in haproxy changed"],
            id="map",
        ),
        pytest.param(
            ["configuration", "reload"],
            ["haproxy's configuration changed"],
            id="a reload is only a consequence",
        ),
        pytest.param(["reload"], [], id="and of a reload, nothing"),
        pytest.param(
            ["namespace", "up lo", "veth", "up tap1", "+10.0.0.1/24", "port"],
            ["namespace gone"],
            id="what is gone takes along what was in it",
        ),
        pytest.param(
            ["veth", "mac tap1", "+2 neighbours", "port", "program", "map"],
            ["veth gone", "map in haproxy changed"],
            id="a veth takes no map along",
        ),
        pytest.param(["port"], ["port not on the bridge"], id="port"),
        pytest.param(["something new"], ["something new"], id="unknown"),
    ],
)
def test_what_was_broken(changes, words):
    assert found(changes) == words
