"""Names there and back: only our own form is ever recognized."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.privsep import names

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
NOT_OURS = [
    pytest.param("", id="nothing"),
    pytest.param(NETWORK.upper(), id="capitals"),
    pytest.param(NETWORK.replace("-", ""), id="no dashes"),
    pytest.param(f"{{{NETWORK}}}", id="braces"),
    pytest.param(f"{NETWORK}\n", id="a newline"),
    pytest.param(f"../{NETWORK}", id="a path"),
    pytest.param(f"{NETWORK}/..", id="a path behind it"),
    pytest.param(f"{NETWORK[:-1]}٣", id="a digit of another script"),
]


@pytest.mark.parametrize("text", NOT_OURS)
def test_not_a_network(text):
    assert not names.is_network(text)
    assert names.network_of_namespace(f"ovnmeta-{text}") is None
    assert names.network_of_program(f"haproxy-{text}") is None


@pytest.mark.parametrize(
    "name", [NETWORK, f"xovnmeta-{NETWORK}", f"ovnmeta{NETWORK}", "gateway"]
)
def test_not_a_namespace_or_program_of_ours(name):
    assert names.network_of_namespace(name) is None
    assert names.network_of_program(name) is None


@given(st.uuids().map(str))
def test_names_lead_back_to_their_network(network):
    namespace = names.namespace_name(network)
    assert names.network_of_namespace(namespace) == network
    program = names.program_name(network)
    assert names.network_of_program(program) == network
    # IFNAMSIZ, with the final zero.
    assert len(names.outer_veth(network)) < 16
    assert names.outer_veth(network) != names.inner_veth(network)


def test_names_are_neutrons():
    assert names.namespace_name(NETWORK) == f"ovnmeta-{NETWORK}"
    assert names.outer_veth(NETWORK) == "tap4c3e1f64-f0"
    assert names.inner_veth(NETWORK) == "tap4c3e1f64-f1"
    assert names.network_of_program("haproxy-gateway") == "gateway"
