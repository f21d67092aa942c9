"""What instances ask for, of all networks, by name."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    NetworkSnapshot,
    VifPort,
)
from ovn_metadata.agent.why import asked

MAC = "fa:16:3e:00:00:01"
WEB, DB = "11111111-1111-1111-1111-111111111111", "db-instance"
TABLES = {
    "blue": f"0x1: key={WEB} use=0 exp=86300000 http_req_cnt=3\n",
    "green": f"0x1: key={DB} use=0 exp=86390000 http_req_cnt=4\n"
    f"0x2: key=gone use=0 exp=1000 http_req_cnt=1\n",
}


def read(network: str, command: str) -> str:
    assert command == "show table sources"
    return TABLES[network]


def port(name: str, instance: str, *addresses: str) -> VifPort:
    return VifPort(
        logical_port=name,
        mac=MAC,
        macs=frozenset((MAC,)),
        addresses=tuple((ipaddress.ip_address(a), MAC) for a in addresses),
        instance=instance,
        project="p",
        name=name,
    )


NETWORKS = {
    network: NetworkSnapshot(network, None, ports, name=f"{network}-net")
    for network, ports in (
        ("blue", (port("web", WEB, "10.0.0.5"),)),
        ("green", (port("db", DB), port("silent", "x"))),
    )
}


def answer(wanted: str, read: Callable[[str, str], str] = read) -> Any:
    """Return the answer about WANTED, of haproxies that READ reads."""
    snapshots = SimpleNamespace(chassis=ChassisSnapshot(None, NETWORKS))
    gather: Any = SimpleNamespace(
        databases=SimpleNamespace(snapshots=snapshots),
        site=SimpleNamespace(haproxies=SimpleNamespace(read=read)),
    )
    return asked.answer(gather, {"asks": wanted})


@pytest.mark.parametrize(
    ("wanted", "instances", "is_known"),
    [
        ("", [DB, WEB, "gone"], True),
        ("10.0.0.5", [WEB], True),
        (DB, [DB], True),
        ("gone", ["gone"], True),  # its haproxy still knows it
        ("silent", [], True),
        ("other", [], False),
    ],
)
def test_newest_first_by_id_or_name(wanted, instances, is_known):
    found = answer(wanted)
    assert [entry["instance"] for entry in found["asks"]] == instances
    assert (found["unknown"], found["is_known"]) == ([], is_known)


def test_names_where_they_are_known():
    found = answer("")["asks"]
    assert [(e["port_name"], e["network_name"]) for e in found] == [
        ("db", "green-net"),
        ("web", "blue-net"),
        ("", "green-net"),
    ]


@pytest.mark.parametrize("error", [TimeoutError, HaproxyError])
def test_a_haproxy_that_does_not_answer_is_named(error):
    def fails(network: str, command: str) -> str:
        if network == "blue":
            raise error("hangs")
        return read(network, command)

    found = answer("", fails)
    assert found["unknown"] == ["blue"]
    assert [entry["instance"] for entry in found["asks"]] == [DB, "gone"]
