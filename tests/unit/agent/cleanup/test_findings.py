"""Whose a port is, and what is told about what was found."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.cleanup import findings
from ovn_metadata.agent.cleanup.findings import Found, Item
from ovn_metadata.agent.model import SwitchPort

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
OTHER = "5d4f2075-05e1-4fc1-b653-b16f14b2252a"
TAP = "tap4c3e1f64-f0"


def port(**more) -> SwitchPort:
    return SwitchPort(bridge="br-int", iface_id="lp", **more)


@pytest.mark.parametrize(
    ("found", "networks", "localports", "ours", "told"),
    [
        pytest.param(port(network=NETWORK), (), {}, True, "", id="our mark"),
        pytest.param(
            port(), {NETWORK}, {}, True, "", id="more of it is on this host"
        ),
        pytest.param(
            port(), (), {"lp": NETWORK}, True, "", id="of a localport"
        ),
        pytest.param(
            port(),
            (),
            {"lp": OTHER},
            False,
            "nothing else says so",
            id="a localport of another network",
        ),
        pytest.param(
            port(), {OTHER}, {}, False, "nothing else says so", id="in doubt"
        ),
        pytest.param(
            port(is_instance=True), (), {}, False, "", id="an instance's"
        ),
        pytest.param(
            port(is_instance=True),
            {NETWORK},
            {},
            False,
            "but an instance's",
            id="an instance's with a network's name",
        ),
        pytest.param(
            port(is_instance=True, network=NETWORK),
            {NETWORK},
            {"lp": NETWORK},
            False,
            "but an instance's",
            id="an instance's, whatever else it has",
        ),
    ],
)
def test_whose_a_port_is(found, networks, localports, ours, told):
    items, left = findings.sort_ports(
        {TAP: found}, networks=networks, localports=localports
    )
    assert items == ([Item("OVS port", TAP, NETWORK)] if ours else [])
    assert bool(left) == bool(told)
    assert all(told in text and TAP in text for text in left)


VETH = Item("veth", TAP, NETWORK)
FILE = Item("file", f"/a/{NETWORK}.conf", NETWORK)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (VETH, f"veth {TAP} of {NETWORK}"),
        (FILE, f"file /a/{NETWORK}.conf"),
        (Item("supervisord", "pid 7"), "supervisord pid 7"),
    ],
)
def test_item_names_its_network_once(item, text):
    assert str(item) == text


@pytest.mark.parametrize(
    ("found", "lines", "code"),
    [
        pytest.param(Found(()), ["nothing to remove"], 0, id="nothing"),
        pytest.param(
            Found((VETH,)),
            [f"would remove {VETH}", "1 thing to remove"],
            0,
            id="one thing",
        ),
        pytest.param(
            Found((VETH, FILE), left=("x: y",)),
            [
                f"would remove {VETH}",
                f"would remove {FILE}",
                "left alone: x: y",
                "2 things to remove",
            ],
            0,
            id="something is left",
        ),
        pytest.param(
            Found((), unseen=("x: y",)),
            ["not looked at: x: y", "nothing to remove where it looked"],
            2,
            id="a database is away",
        ),
    ],
)
def test_plan(found, lines, code):
    assert findings.tell_plan(found) == (lines, code)


@pytest.mark.parametrize(
    ("before", "after", "lines", "code"),
    [
        pytest.param(
            Found(()), Found(()), ["nothing to remove"], 0, id="nothing"
        ),
        pytest.param(
            Found((VETH, FILE)),
            Found(()),
            [f"removed {VETH}", f"removed {FILE}", "2 things removed"],
            0,
            id="all gone",
        ),
        pytest.param(
            Found((VETH, FILE)),
            Found((FILE,)),
            [
                f"removed {VETH}",
                f"FAILED {FILE}: no right",
                "1 thing removed, 1 could not be",
            ],
            1,
            id="one stays",
        ),
        pytest.param(
            Found(()),
            Found((VETH,)),
            [
                f"FAILED {VETH}: it is there again, or still",
                "0 things removed, 1 could not be",
            ],
            1,
            id="one came meanwhile",
        ),
        pytest.param(
            Found((VETH,)),
            Found((), unseen=("x: y",)),
            [f"removed {VETH}", "not looked at: x: y", "1 thing removed"],
            2,
            id="a database is away",
        ),
        pytest.param(
            Found((FILE,)),
            Found((FILE,), unseen=("x: y",)),
            [
                f"FAILED {FILE}: no right",
                "not looked at: x: y",
                "0 things removed, 1 could not be",
            ],
            1,
            id="a failure counts for more",
        ),
    ],
)
def test_result(before, after, lines, code):
    errors = {FILE: "no right"}
    assert findings.tell_result(before, after, errors) == (lines, code)


def test_an_error_about_what_is_gone_is_not_told():
    lines, code = findings.tell_result(
        Found((VETH,)), Found(()), {VETH: "timed out"}
    )
    assert (lines, code) == ([f"removed {VETH}", "1 thing removed"], 0)
