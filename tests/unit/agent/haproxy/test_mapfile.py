"""A map: made, written, read back and changed into another."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.agent.core import identity
from ovn_metadata.agent.haproxy import mapfile
from ovn_metadata.agent.model import Instance

SECRET = "made-up-secret"
FILE = Path("/x.map")

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
        pytest.param(["0x1 x i|p|s"], {"x": "i|p|s"}, id="no address"),
    ],
)
def test_parse_map(lines, expected):
    assert mapfile.parse_map(lines) == expected


@pytest.mark.parametrize(
    ("present", "wanted", "expected"),
    [
        pytest.param({}, {}, [], id="nothing to do"),
        pytest.param({"a": "1"}, {"a": "1"}, [], id="the same"),
        pytest.param(
            {"b": "1", "a": "1"},
            {},
            ["del map /x.map a", "del map /x.map b"],
            id="gone",
        ),
        pytest.param(
            {"a": "1", "b": "1", "d": "1"},
            {"0": "3", "c": "3", "b": "2", "d": "2"},
            [
                "del map /x.map a",
                "set map /x.map b 2",
                "set map /x.map d 2",
                "add map /x.map 0 3",
                "add map /x.map c 3",
            ],
            id="all three: deletes, then sets, then adds",
        ),
        pytest.param(
            {"a": mapfile.TWICE, "b": mapfile.TWICE},
            {"a": "1"},
            ["del map /x.map a", "del map /x.map b", "add map /x.map a 1"],
            id="twice: set map would leave both",
        ),
        pytest.param(
            mapfile.parse_map(["0x1 FD00:0::1 i|p|s"]),
            {"fd00::1": "i|p|s"},
            ["del map /x.map FD00:0::1", "add map /x.map fd00::1 i|p|s"],
            id="another spelling: haproxy compares strings",
        ),
    ],
)
def test_commands(present, wanted, expected):
    commands = mapfile.commands(FILE, present, wanted)
    assert commands == expected
    assert bool(commands) == (present != wanted)


@given(maps, maps)
def test_a_change_turns_what_is_into_what_is_wanted(present, wanted):
    result = dict(present)
    for command in mapfile.commands(FILE, present, wanted):
        verb, _, _, key, *value = command.split(" ")
        assert (key in result) == (verb != "add")
        if verb == "del":
            del result[key]
        else:
            (result[key],) = value
    assert result == wanted


@given(instances)
def test_what_is_rendered_is_read_back(owners):
    wanted = mapfile.entries(owners, SECRET)
    assert mapfile.parse_map(shown(wanted)) == wanted
    found = mapfile.parse_map(shown(wanted))
    assert not mapfile.commands(FILE, found, wanted)


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
        ("", "", False),  # twice in the map, and in no row
    ],
)
def test_a_new_signature_makes_no_other_owner(value, other, expected):
    found = mapfile.common({"10.0.0.5": value}, {"10.0.0.5": other})
    assert found == ({"10.0.0.5": other} if expected else {})


def test_what_two_maps_have_in_common_is_as_the_second_one_has_it():
    rights = {"10.0.0.5": "i|p|old", "10.0.0.6": "i|p|s", "10.0.0.7": "i|p|s"}
    now = {"10.0.0.5": "i|p|new", "10.0.0.6": "j|p|s", "10.0.0.8": "j|p|s"}
    assert mapfile.common(rights, now) == {"10.0.0.5": "i|p|new"}
