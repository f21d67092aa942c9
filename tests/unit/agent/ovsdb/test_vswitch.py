"""Which of Open vSwitch's ports are ours, and which have a rival."""

from __future__ import annotations

import uuid
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ovsdbapp import exceptions

from ovn_metadata.agent.ovsdb.vswitch import (
    _VETH,
    IFINDEX_KEY,
    NETWORK_KEY,
    Port,
    Vswitch,
    Wanted,
    _by_iface_id,
    _doubled,
)
from ovn_metadata.privsep.names import inner_veth, outer_veth

NETWORK = "11111111-1111-4111-8111-111111111111"
MARK = {"iface-id": "lp", NETWORK_KEY: NETWORK, IFINDEX_KEY: "7"}


@pytest.mark.parametrize(
    ("ids", "network", "is_instance"),
    [
        pytest.param(MARK, NETWORK, False, id="ours"),
        pytest.param(
            {**MARK, "vm-uuid": "x"},
            NETWORK,
            False,
            id="ours, with a key that somebody has added",
        ),
        pytest.param({"iface-id": "lp"}, "", False, id="Neutron's agent's"),
        pytest.param(
            {"iface-id": "p", "attached-mac": "m"}, "", True, id="a tap device"
        ),
        pytest.param(
            {**MARK, NETWORK_KEY: "nonsense", "vm-id": "x"},
            "",
            True,
            id="a mark that is none",
        ),
    ],
)
def test_whose_port_it_is(ids, network, is_instance):
    port = Port(None, outer_veth(NETWORK), ids, 3, uuid.UUID(int=1))
    found = port.on_bridge("br-int", {ids["iface-id"]: 1})
    assert (found.network, found.is_instance) == (network, is_instance)
    assert found.ifindex == (7 if network else None)


def test_an_index_of_thousands_of_digits_is_none():
    ids = {**MARK, IFINDEX_KEY: "9" * 5000}
    port = Port(None, outer_veth(NETWORK), ids, 3, uuid.UUID(int=1))
    assert port.on_bridge("br-int", {"lp": 1}).ifindex is None


@pytest.mark.parametrize(
    ("iface_id", "count", "expected"),
    [("lp", 1, False), ("lp", 2, True), ("", 5, False)],
)
def test_a_rival_has_the_same_name(iface_id, count, expected):
    ids = {**MARK, "iface-id": iface_id}
    port = Port(None, outer_veth(NETWORK), ids, 3, uuid.UUID(int=1))
    found = port.on_bridge("br-int", {iface_id: count})
    assert found.has_rival == expected


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        pytest.param(["nova marked"], False, id="one"),
        pytest.param(["nova marked", ""], False, id="the instance's"),
        pytest.param(["nova", "marked"], True, id="somebody's"),
        pytest.param(["nova", "nova marked"], False, id="the instance's new"),
        pytest.param(["", "marked"], False, id="Nova has made none"),
        pytest.param(["nova", ""], True, id="none yet"),
        pytest.param(["nova marked", "marked"], True, id="both"),
        pytest.param(
            ["nova", "shut off marked"], False, id="one has a device"
        ),
    ],
)
def test_ovn_may_have_the_wrong_one_of_several(several, expected):
    keys = {"nova": "attached-mac", "marked": "ovn-installed"}
    ports = [
        Port(
            None,
            f"tap{number}",
            {"iface-id": "lp"}
            | {keys[word]: "x" for word in words.split() if word in keys},
            0 if "shut off" in words else 3,
            uuid.UUID(int=1),
        )
        for number, words in enumerate(several)
    ]
    assert (_doubled(_by_iface_id(ports)) == {"lp"}) is expected


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        pytest.param(RuntimeError("refused"), 4, id="one of them is refused"),
        pytest.param(
            exceptions.TimeoutException(commands=[], timeout=180, cause=""),
            1,
            id="the database hangs",
        ),
    ],
)
def test_changes_are_made_one_by_one_if_one_is_refused(error, tries):
    made = []

    class Failing(Vswitch):
        def __init__(self) -> None:
            """Without a connection."""

        def transaction(self, *given: object, **_more: object) -> None:
            made.append(given)
            raise error

    outcomes: list[Future[None]] = [Future() for _ in range(3)]
    Failing()._make([(Wanted(f"p{n}"), o) for n, o in enumerate(outcomes)])
    assert [outcome.exception() for outcome in outcomes] == 3 * [error]
    assert len(made) == tries


@given(st.uuids().map(str))
def test_a_veth_is_known_by_its_form(network):
    assert _VETH.fullmatch(outer_veth(network))
    assert not _VETH.fullmatch(inner_veth(network))
    port = f"tap{network[:11]}"  # of an instance
    assert bool(_VETH.fullmatch(port)) == (network[10] == "0")
