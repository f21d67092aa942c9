"""An instance's share: what is counted, and what is done about too much."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ovn_metadata.agent.config.settings import FairShare
from ovn_metadata.agent.haproxy import limits

SHARE = FairShare(
    connections=128,
    uploads=2,
    greedy_rate=50,
    greedy_requests=4,
    logged_rate=20,
)
NO_LIMIT = FairShare(0, 0, 0, 4, 0)
MAP = Path("/x/n.map")


def test_connection_is_counted_before_it_is_refused():
    track, caller, *rules = limits.connection_rules(SHARE, MAP)
    assert track == (
        "tcp-request connection track-sc2 src,map_str(/x/n.map,"
        "unknown-addresses),field(1,|) table sources"
    )
    known = "{ src,map_str(/x/n.map) -m found }"
    assert caller.endswith(f"track-sc1 src table callers unless {known}")
    over = [
        f"if {{ sc_conn_cur(2) gt 128 }} {known}",
        "if { sc_conn_cur(2) gt 256 }",
        "if { sc_conn_cur(1) gt 64 }",
    ]
    assert [
        rule.removeprefix("tcp-request connection ") for rule in rules
    ] == [
        f"{what} {condition}"
        for condition in over
        for what in ("sc-inc-gpc0(2)", "sc-set-gpt0(2) 1", "reject")
    ]


def test_without_limits_nothing_is_refused_or_left_out():
    gateway, switches = limits.gateway_rules(NO_LIMIT)
    rules = [
        *limits.connection_rules(NO_LIMIT, MAP),
        *limits.request_rules(NO_LIMIT),
        *gateway,
        *switches,
    ]
    assert not [
        rule
        for rule in rules
        for word in ("reject", "return", "tarpit", "silent", "use_backend")
        if word in rule
    ]
    assert [lane.requests for lane in limits.lanes(NO_LIMIT)] == [0, 0]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"logged_rate": 7}, "silent if { sc_http_req_rate(0) gt 70 }"),
        ({"greedy_rate": 7}, "acl greedy sc_http_req_rate(0) gt 70"),
        ({"greedy_requests": 9}, "acl greedy sc_conn_cur(0) gt 4"),
        ({"greedy_requests": 1}, "acl greedy sc_conn_cur(0) gt 1"),
        ({"uploads": 7}, "if { sc_conn_cur(1) gt 7 }"),
    ],
)
def test_option_is_in_the_gateways_rules(change, rule):
    share = dataclasses.replace(SHARE, **change)
    rules = limits.gateway_rules(share)[0]
    assert [line for line in rules if line.endswith(rule)]
    assert limits.gateway_rules(SHARE)[0] != rules


def test_refused_is_counted_before_it_is_refused():
    rules, switches = limits.gateway_rules(SHARE)
    numbers = [
        next(n for n, rule in enumerate(rules) if word in rule)
        for word in (
            "track-sc0",
            "track-sc1",
            "sc-inc-gpc1",
            "return status 429",
            "sc-inc-gpc0",
        )
    ]
    assert numbers == sorted(numbers)
    assert [rule.split()[1] for rule in switches] == [
        *("uploads", "greedy", "greedy-alone")
    ]


def test_lanes():
    assert [(lane.name, lane.requests) for lane in limits.lanes(SHARE)] == [
        ("nova", 0),
        ("nova-alone", 0),
        ("uploads", 8),
        ("greedy", 4),
        ("greedy-alone", 4),
    ]


def test_only_plain_requests_share_connections():
    shared = [
        lane.name
        for lane in limits.lanes(SHARE)
        if "http-reuse always" in lane.lines
    ]
    assert shared == ["nova", "greedy"]
