"""Whose path is meant, and what is said of one that is not here."""

from __future__ import annotations

import dataclasses
import ipaddress
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.model import (
    ChassisSnapshot,
    NetworkSnapshot,
    VifPort,
    VswitchSnapshot,
)
from ovn_metadata.agent.why import report
from ovn_metadata.agent.why.answer import answer
from ovn_metadata.agent.why.facts import Common, Unseen
from ovn_metadata.agent.why.target import find

NETS = [str(uuid.UUID(int=number)) for number in (1, 2, 3)]
MAC = "fa:16:3e:00:00:0{}"


def vif(number: int, *addresses: str, **more: Any) -> VifPort:
    mac = MAC.format(number)
    own = tuple((ipaddress.ip_address(each), mac) for each in addresses)
    return VifPort(
        logical_port=f"port-{number}",
        mac=mac,
        macs=frozenset((mac,)),
        addresses=own,
        instance=f"vm-{number}",
        project="p",
        name=f"name-{number}",
        **more,
    )


PORTS = [
    vif(1, "10.0.0.5", "fd00::5"),
    vif(2, "10.0.0.5"),
    vif(3, "fd00::7"),
    vif(4, "10.0.0.9", bound=False),
]
CHASSIS = ChassisSnapshot(
    uuid.UUID(int=9),
    {
        NETS[0]: NetworkSnapshot(
            NETS[0], None, (PORTS[3], PORTS[0]), name="blue"
        ),
        NETS[1]: NetworkSnapshot(NETS[1], None, tuple(PORTS[1:3])),
        NETS[2]: NetworkSnapshot(NETS[2], None, (vif(5),), kept=True),
    },
    problems=("port 'port-8' skipped: it has no MAC address",),
    names=frozenset(("port-1", "port-2", "port-3")),
)
COMMON = Common(
    {"chassis": "c1", "networks": {}},
    CHASSIS,
    VswitchSnapshot("c1", bridge_exists=True, plugged=frozenset(("port-6",))),
    southbound=("", ""),
    vswitch_db=("", ""),
    interfaces={
        "port-1": {"name": "tap1", "external_ids": {"attached-mac": "m1"}},
        "port-6": {"name": "tap6", "external_ids": {"attached-mac": "m6"}},
        "port-7": {"name": "tap7"},
        "local-1": {"name": "tapveth"},
    },
    daemons={"ovs-vswitchd": "answers", "ovn-controller": "answers"},
)


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("vm-1", ["port-1"]),
        ("port-2", ["port-2"]),
        ("name-3", ["port-3"]),
        (MAC.format(3), ["port-3"]),
        ("10.0.0.5", ["port-1", "port-2"]),
        ("10.0.0.9", ["port-4"]),
        ("FD00:0::7", ["port-3"]),
        (MAC.format(3).upper(), ["port-3"]),
        (NETS[0], ["port-1", "port-4"]),
        ("blue", ["port-1", "port-4"]),
        ("fe80::f816:3eff:fe00:3", ["port-3"]),
        (NETS[2], []),
        ("vm-5", []),
        ("", []),
        ("vm", []),
    ],
)
def test_name_means_ports_the_bound_ones_first(name, ports):
    found = find(name, CHASSIS)
    assert [each.port.logical_port for each in found] == ports


@pytest.mark.parametrize(
    ("name", "address", "metadata"),
    [
        ("vm-1", "10.0.0.5", "169.254.169.254"),
        ("fd00::5", "fe80::f816:3eff:fe00:1", "fe80::a9fe:a9fe"),
        ("vm-3", "fe80::f816:3eff:fe00:3", "fe80::a9fe:a9fe"),
    ],
)
def test_it_asks_from_an_address_of_one_family(name, address, metadata):
    target = find(name, CHASSIS)[0]
    assert (target.address, target.metadata_address) == (address, metadata)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "logical_port": "port-8",
        "type": "",
        "mac": "unknown",
        "hostname": "",
        "chassis_name": "",
        **changes,
    }


HERE = {"hostname": "me", "chassis_name": "c1"}
THERE = {"hostname": "other", "chassis_name": "c2"}


@pytest.mark.parametrize(
    ("name", "ports", "networks", "verdict", "words"),
    [
        pytest.param("x", [], [], "not here", "no port, instance", id="none"),
        pytest.param(
            *("vm-9", [row(logical_port="p", **THERE)], []),
            *("not here", "host other, chassis c2"),
            id="on another host",
        ),
        pytest.param(
            *("vm-9", [row(logical_port="p")], []),
            *("not here", "bound to no chassis"),
            id="unbound",
        ),
        pytest.param(
            *("vm-9", [row(logical_port="port-6")], []),
            *("broken", "tap6 is on br-int"),
            id="plugged and unbound",
        ),
        pytest.param(
            *("vm-9", [row(logical_port="port-7")], []),
            *("broken", "tap7 should be on br-int"),
            id="plugged elsewhere",
        ),
        pytest.param(
            *("port-6", [], [], "broken", "tap6 has iface-id=port-6; OVN"),
            id="plugged, and no row",
        ),
        pytest.param(
            *("vm-9", [row(logical_port="p", mac=["m6 10.0.0.9"])], []),
            *("broken", "tap6 has the port's MAC and another iface-id"),
            id="plugged with another iface-id",
        ),
        pytest.param(
            *("vm-9", [row(logical_port="p", mac=["m1 10.0.0.9"])], []),
            *("not here", "port p is bound to no chassis"),
            id="once a subport, with the MAC of its parent",
        ),
        pytest.param(
            *("local-1", [row(logical_port="local-1", type="localport")], []),
            *("broken", "of the type localport: no instance has it"),
            id="a metadata port",
        ),
        pytest.param(
            *("vip", [row(logical_port="v", type="virtual", **HERE)], []),
            *("broken", "of the type virtual: no instance has it"),
            id="a virtual address that an instance here holds",
        ),
        pytest.param(
            *("router", [row(logical_port="r", type="patch")], []),
            *("broken", "of the type patch: no instance has it"),
            id="a router's port",
        ),
        pytest.param(
            *("vm-9", [row(logical_port="p", **HERE)], []),
            *("broken", "can't be used"),
            id="a row of ours that is not in use",
        ),
        pytest.param(
            *("vm-8", [row(**HERE)], [], "broken", "no MAC address"),
            id="a row that can't be parsed",
        ),
        pytest.param(
            "blue", [], ["n"], "not here", "no instance of network", id="net"
        ),
        pytest.param(
            "10.9.9.9", [], [], "not here", "address 10.9.9.9", id="address"
        ),
    ],
)
def test_absence_is_explained(name, ports, networks, verdict, words):
    seen = {"ports": ports, "networks": networks}
    said = report.absent(name, seen, COMMON)
    assert said["verdict"] == verdict
    hop = said["hops"][-1]
    assert words in hop["text"]
    assert hop["remedy"]


def test_absence_has_the_hosts_fault_as_its_cause():
    daemons = {"ovs-vswitchd": "answers", "ovn-controller": "silent"}
    common = dataclasses.replace(COMMON, daemons=daemons)
    seen = {"ports": [row(logical_port="port-6")], "networks": []}
    said = report.absent("vm-9", seen, common)
    assert said["verdict"] == "broken"
    assert said["hops"][-1]["code"] == "OVNMD-106"


def test_absence_without_southbound_is_no_claim():
    said = report.absent("vm-9", Unseen("refused"), COMMON)
    hop = said["hops"][-1]
    assert (said["verdict"], hop["state"]) == ("not here", "unknown")
    assert "refused" in hop["text"]


def test_ambiguous_name_lists_its_ports():
    gather: Any = SimpleNamespace(common=lambda: COMMON)
    said = answer(gather, {"why": "10.0.0.5"})
    assert (said["verdict"], said["name"]) == ("ambiguous", "10.0.0.5")
    assert [each["network"] for each in said["candidates"]] == NETS[:2]
