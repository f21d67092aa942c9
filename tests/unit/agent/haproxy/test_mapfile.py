"""A map: made, written, read back and changed into another."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent.core import identity
from ovn_metadata.agent.haproxy import mapfile
from ovn_metadata.agent.haproxy.mapfile import MapChange
from ovn_metadata.agent.model import Instance

SECRET = "made-up-secret"

words = st.text(st.characters(min_codepoint=33, max_codepoint=126))
instances = st.lists(
    st.tuples(st.ip_addresses(), st.builds(Instance, words, words))
)
# Few addresses, so that maps overlap.
maps = st.dictionaries(
    st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "fe80::2"]),
    st.sampled_from(["i|p|s", "j|p|s", "i|p|t"]),
)


def shown(wanted: dict[str, str]) -> list[str]:
    """Return what haproxy shows of the map file of WANTED."""
    lines = mapfile.render_map(wanted).splitlines()
    return [f"0x55d0c0de{n:04x} {line}" for n, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param(["", "0x1", "0x1 10.0.0.1"], {}, id="half a line"),
        pytest.param(
            ["Unknown map identifier. Please use #<id> or <file>."],
            {},
            id="an error is no entry",
        ),
        pytest.param(
            ["0x1 10.0.0.1 i|p|s", "0x2 10.0.0.1 i|p|s"],
            {"10.0.0.1": mapfile.TWICE},
            id="a key twice",
        ),
        pytest.param(
            ["0x1 FD00:0::1 i|p|s"],
            {"fd00::1": "i|p|s"},
            id="an address in another spelling",
        ),
        pytest.param(["0x1 x i|p|s"], {"x": "i|p|s"}, id="no address"),
    ],
)
def test_parse_map(lines, expected):
    assert mapfile.parse_map(lines) == expected


@pytest.mark.parametrize(
    ("present", "wanted", "expected"),
    [
        pytest.param({}, {}, MapChange(), id="nothing to do"),
        pytest.param({"a": "1"}, {"a": "1"}, MapChange(), id="the same"),
        pytest.param(
            {"b": "1", "a": "1"}, {}, MapChange(delete=("a", "b")), id="gone"
        ),
        pytest.param(
            {"a": "1", "b": "1"},
            {"c": "3", "b": "2"},
            MapChange(("a",), (("b", "2"),), (("c", "3"),)),
            id="all three",
        ),
        pytest.param(
            {"a": mapfile.TWICE, "b": mapfile.TWICE},
            {"a": "1"},
            MapChange(delete=("a", "b"), add=(("a", "1"),)),
            id="twice: set map would leave both",
        ),
    ],
)
def test_change(present, wanted, expected):
    change = mapfile.change(present, wanted)
    assert change == expected
    assert bool(change) == (present != wanted)


@given(maps, maps)
def test_a_change_turns_what_is_into_what_is_wanted(present, wanted):
    change = mapfile.change(present, wanted)
    result = dict(present)
    for key in change.delete:
        del result[key]
    for key, value in change.set:
        assert key in result
        result[key] = value
    for key, value in change.add:
        assert key not in result
        result[key] = value
    assert result == wanted


@given(instances)
def test_what_is_rendered_is_read_back(owners):
    wanted = mapfile.entries(owners, SECRET)
    assert mapfile.parse_map(shown(wanted)) == wanted
    assert not mapfile.change(mapfile.parse_map(shown(wanted)), wanted)


@given(maps)
def test_the_text_is_the_same_whatever_the_order(wanted):
    backwards = dict(reversed(wanted.items()))
    assert mapfile.render_map(wanted) == mapfile.render_map(backwards)


def test_an_entry_has_a_signature_and_no_secret():
    address = ipaddress.ip_address("10.10.0.50")
    text = mapfile.render_map(
        mapfile.entries([(address, Instance("i", "p"))], SECRET)
    )
    signature = identity.signature(SECRET, "i")
    assert text == f"10.10.0.50 i|p|{signature}\n"
    assert SECRET not in text


@pytest.mark.parametrize(
    ("value", "other", "expected"),
    [
        ("i|p|s", "i|p|t", True),
        ("i|p|s", "j|p|s", False),
        ("i|p|s", "i|q|s", False),
        ("i|p|s", "", False),
    ],
)
def test_a_new_signature_makes_no_other_owner(value, other, expected):
    assert mapfile.same_owner(value, other) is expected
