"""What an instance asks for: rules that count, and what they counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from ovn_metadata.agent.haproxy import asks, counters, limits

NOW = 1_800_000_000.0
NOTHING: Mapping[str, int] = MappingProxyType({})
ID = "de60d107-5179-47fd-94e1-9abbb1cf6ccf"


def entry(numbers: Mapping[str, int] = NOTHING, *, key: str = ID) -> str:
    values = {"exp": asks.EXPIRE_S * 1000, "http_req_cnt": 20, **numbers}
    pairs = " ".join(f"{name}={number}" for name, number in values.items())
    return f"0x564bed50d7d8: key={key} use=0 {pairs}\n"


def counter(name: str) -> str:
    """Return the counter of the rule for NAME, as the rules have it."""
    conditions = {**asks.PATHS, **asks.AGENTS, **asks.FORWARDED}
    condition = {**conditions, **asks.STATUSES}[name]
    (number,) = (
        match[1]
        for rule in asks.rules(2)
        if f"{{ {condition} }}" in rule
        and (match := re.search(r"sc-inc-gpc\((\d+),2\)", rule))
    )
    return f"gpc{number}"


def test_each_rule_has_a_counter_that_the_table_stores():
    found = [int(counter(name).removeprefix("gpc")) for name in asks.NAMES]
    assert len(set(found)) == len(asks.NAMES)
    (stored,) = re.findall(r"\bgpc\((\d+)\)", limits.source_tables(0))
    assert 2 < min(found) < max(found) < int(stored)


def test_what_the_shield_counted_is_read_if_there_is_any():
    first, second, _ = asks.SHIELD
    numbers = {f"gpc{asks.NEXT}": 4, f"gpc{asks.NEXT + 1}": 0}
    assert asks.parse(entry(numbers), NOW)[ID]["shield"] == {first: 4}
    numbers = {f"gpc{asks.NEXT + 1}": 2, f"gpc{asks.NEXT + 9}": 7}
    assert asks.parse(entry(numbers), NOW)[ID]["shield"] == {second: 2}
    assert "shield" not in asks.parse(entry(), NOW)[ID]


def test_what_was_counted_is_read():
    numbers = {
        "exp": (asks.EXPIRE_S - 90) * 1000,
        counter("meta_data"): 8,
        counter("ec2"): 11,
        counter("cloud-init"): 19,
        counter("forwarded"): 1,
        "http_err_cnt": 7,
        counter("404"): 4,
        counter("429"): 1,
        "gpc2": 3,
        "http_fail_cnt": 2,
    }
    (found,) = asks.parse(entry(numbers), NOW).items()
    key, counts = found
    assert key == ID
    assert counts["last_seen"] == NOW - 90
    assert counts["requests"] == 20
    assert counts["forwarded"] == 1
    for what, wanted in (
        ("paths", {"meta_data": 8, "ec2": 11, "other": 1}),
        ("clients", {"cloud-init": 19, "other": 1}),
        (
            "answers",
            {"404": 4, "429": 4, "other 4xx": 2, "5xx": 2, "good": 8},
        ),
    ):
        assert {n: c for n, c in counts[what].items() if c} == wanted
        assert sum(counts[what].values()) == 20


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "# table: sources, type: string, size:10240, used:0\n",
        entry({"http_req_cnt": 0}),
        entry(key="\x1b[2J"),
        entry(key="a" * 256),
        entry({"http_req_cnt": 10**11}),
        "0x1: key=a use=0 http_req_cnt=",
    ],
)
def test_what_is_no_entry_is_ignored(answer):
    assert asks.parse(answer, NOW) == {}


def test_nonsense_is_no_negative_number():
    numbers = {counter(name): 9 for name in asks.NAMES}
    numbers |= {"http_req_cnt": 1, "exp": 10**9}
    (counts,) = asks.parse(entry(numbers), NOW).values()
    for what in ("paths", "clients", "answers"):
        assert min(counts[what].values()) >= 0
    assert counts["last_seen"] == NOW


def test_answers_to_nobody_are_not_told():
    (counts,) = asks.parse(entry(key=asks.NOBODY), NOW).values()
    assert "answers" not in counts


def test_a_hostile_haproxy_fills_no_memory():
    """It answers with more entries than the table has."""
    many = "".join(entry(key=f"i-{n}") for n in range(2 * asks.MOST))
    assert len(asks.parse(many, NOW)) == asks.MOST
    many = many.replace("http_req_cnt", "gpc1")
    assert len(counters.parse(many).sources) == asks.MOST
