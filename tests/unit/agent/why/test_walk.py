"""The walk: from what was seen to the first broken hop."""

from __future__ import annotations

import dataclasses
import ipaddress
import shlex
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.config.settings import Southbound
from ovn_metadata.agent.core.codes import KINDS
from ovn_metadata.agent.core.desired import desired_network
from ovn_metadata.agent.model import (
    ChassisSnapshot,
    Localport,
    NetworkSnapshot,
    VifPort,
    VswitchPort,
    VswitchSnapshot,
)
from ovn_metadata.agent.why import gather, report, serving, walk
from ovn_metadata.agent.why.facts import (
    Common,
    Endpoint,
    Facts,
    Haproxy,
    Target,
    Unseen,
)
from ovn_metadata.agent.why.gather import packets
from ovn_metadata.agent.why.hops import FAIL, OK, UNKNOWN, WARN

STEPS = (*walk.HOST, *walk.PATH)
NET = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
SPACE = f"ovnmeta-{NET}"
PORT, LOCAL, VM = "port-1", "local-1", "vm-1"
MAC, LOCAL_MAC = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
OUTER = f"tap{NET[:10]}0"
VIF = VifPort(
    logical_port=PORT,
    mac=MAC,
    macs=frozenset((MAC,)),
    addresses=((ipaddress.ip_address("10.0.0.5"), MAC),),
    instance=VM,
    project="p",
)
NETWORK = NetworkSnapshot(
    NET,
    Localport(
        LOCAL,
        LOCAL_MAC,
        frozenset((ipaddress.ip_interface("10.0.0.2/24"),)),
        1442,
    ),
    (VIF,),
    name="blue",
)
DESIRED = desired_network(NETWORK)
assert DESIRED is not None
TAP = {
    "name": "tapvm",
    "ofport": 1,
    "error": "",
    "link_state": "up",
    "admin_state": "up",
    "mtu": 1500,
    "rivals": [],
    "external_ids": {"ovn-installed": "true"},
}
VETH = {**TAP, "name": OUTER, "ofport": 2}
END: dict[str, Any] = {
    "index": 7,
    "mac": LOCAL_MAC,
    "mtu": 1442,
    "up": True,
    "kind": "veth",
    "alias": "",
    "qdisc": "noqueue",
}
HOST: dict[str, Any] = {
    "namespace": "there",
    "outer": {**END, "alias": SPACE},
    "inner": END,
    "device": {},
    "addresses": [str(cidr) for cidr in DESIRED.addresses],
    "neighbours": [(str(a), mac) for a, mac in DESIRED.neighbours.items()],
    "hosts": [],
    "sysctls": {},
    "listeners": ["169.254.169.254", "fe80::a9fe:a9fe"],
}
UP = Endpoint("http://nova:8775", "192.0.2.1", took_ms=1.0)
RUNS = Haproxy("/c.conf", "d", "d", 9, "")
DHCP = (
    "28. udp\n    controller(userdata=00.00.00.02.00.00.00.00.00.01.de.10."
    "00.00.00.63.0a.00.00.05.79.0e.20.a9.fe.a9.fe.0a.00.00.02.00.0a.00.00.01"
    ".03.04.0a.00.00.01,pause)\n"
)
NO_ROUTE = DHCP.replace("79.0e.20.a9.fe.a9.fe.0a.00.00.02.", "79.05.")
COMMON = Common(
    status={
        "chassis": "c1",
        "pid": 5,
        "networks": {
            NET: {"error": "", "served": True, "instances": 1, "digest": "d"},
            "gateway": {"error": "", "served": True, "digest": "d"},
        },
    },
    chassis=ChassisSnapshot(uuid.UUID(int=2), {NET: NETWORK}, synced=True),
    vswitch=VswitchSnapshot(
        "c1",
        bridge_exists=True,
        ports={OUTER: VswitchPort("br-int", LOCAL, NET, 7)},
        plugged=frozenset((PORT, LOCAL)),
    ),
    southbound=("tcp:sb", ""),
    vswitch_db=("unix:ovs", ""),
    interfaces={PORT: TAP, LOCAL: VETH},
    daemons={"ovs-vswitchd": "answers", "ovn-controller": "answers"},
    programs={NET: {"state": "RUNNING", "pid": 8}},
    gateway=RUNS,
    gateway_socket="/gateway.sock",
    nova=(UP,),
)
MAP = {
    str(a): f"{o.instance}|{o.project}|s" for a, o in DESIRED.instances.items()
}
ANSWER = {
    "status": 200,
    "head": "HTTP/1.1 200 OK\r\n",
    "body_bytes": 300,
    "connect_ms": 0.2,
    "answer_ms": 3.0,
}
HEALTHY = Facts(
    COMMON,
    Target(VM, NETWORK, VIF, "10.0.0.5", "169.254.169.254"),
    DESIRED,
    host=HOST,
    there="65. reg15=0x1\n    output:2\n",
    back="65. reg15=0x2\n    output:1\n",
    dhcp=DHCP,
    haproxy=RUNS,
    map_file="/n.map",
    map_text=MAP,
    map_memory=MAP,
    path=serving.PATH,
    answer=ANSWER,
)


def having(facts: Facts = HEALTHY, /, **changes: Any) -> Facts:
    """Return FACTS with CHANGES, each to a field of Facts, Common, ..."""
    fields = {each.name for each in dataclasses.fields(Facts)}
    own = {name: v for name, v in changes.items() if name in fields}
    rest = {name: v for name, v in changes.items() if name not in fields}
    common = dataclasses.replace(facts.common, **rest)
    return dataclasses.replace(facts, **{"common": common, **own})


def with_port(**changes: Any) -> Facts:
    port = dataclasses.replace(VIF, **changes)
    return having(target=dataclasses.replace(HEALTHY.target, port=port))


def with_network(**changes: Any) -> Facts:
    network = dataclasses.replace(NETWORK, **changes)
    target = dataclasses.replace(HEALTHY.target, network=network)
    return having(target=target)


def with_tap(**changes: Any) -> Facts:
    return having(interfaces={PORT: {**TAP, **changes}, LOCAL: VETH})


def with_veth(**changes: Any) -> Facts:
    return having(interfaces={PORT: TAP, LOCAL: {**VETH, **changes}})


def with_host(**changes: Any) -> Facts:
    return having(host={**HOST, **changes})


def with_entry(**changes: Any) -> Facts:
    entry = {**COMMON.status["networks"][NET], **changes}
    networks = {**COMMON.status["networks"], NET: entry}
    return having(status={**COMMON.status, "networks": networks})


def with_vswitch(**changes: Any) -> Facts:
    return having(vswitch=dataclasses.replace(COMMON.vswitch, **changes))


def with_plug(*port: Any) -> Facts:
    ports = {OUTER: VswitchPort(*port)} if port else {}
    return with_vswitch(ports=ports)


def with_chassis(**changes: Any) -> Facts:
    return having(chassis=dataclasses.replace(COMMON.chassis, **changes))


def with_daemon(name: str, word: str, facts: Facts = HEALTHY) -> Facts:
    assert not isinstance(facts.common.daemons, Unseen)
    return having(facts, daemons={**facts.common.daemons, name: word})


def with_answer(status: int, head: str = "", **changes: Any) -> Facts:
    answer = {**ANSWER, "status": status, "head": head, **changes}
    return having(answer=answer)


def conflicting(text: str) -> Facts:
    assert DESIRED is not None
    desired = dataclasses.replace(DESIRED, instances={}, conflicts=(text,))
    return having(desired=desired)


DOWN = Endpoint("http://nova:8775", "192.0.2.1", "OVNMD-501", "refused")
TLS = Endpoint("https://nova:8775", "192.0.2.1", "OVNMD-503", "TLS: expired")
STALE = Haproxy("/c.conf", "d", "old", 9, "")
EDITED = Haproxy("/c.conf", "", "d", 9, "")
DEAD = Haproxy("/c.conf", "d", "", 0, "no process listens")
NO_NOVA = with_answer(503, "HTTP/1.1 503\r\nRetry-After: 2\r\n")

# What is broken -> the code, the step and words of the hop that names it.
BROKEN = {
    "empty Southbound": (
        with_chassis(is_filled=False),
        *("OVNMD-105", "OVN Southbound", "empty"),
    ),
    "no bridge": (
        with_vswitch(bridge_exists=False),
        *("OVNMD-110", "Open vSwitch", "br-int"),
    ),
    "no system-id": (
        having(status={**COMMON.status, "chassis": ""}),
        *("OVNMD-103", "chassis", "system-id"),
    ),
    "no chassis row": (
        with_chassis(chassis=None),
        *("OVNMD-104", "chassis", "c1"),
    ),
    "privsep hangs": (
        having(daemons=Unseen("no answer within 8 s")),
        *("OVNMD-401", "privileged daemon", "no answer"),
    ),
    "no descriptors": (
        having(daemons=Unseen("Too many open files", "OVNMD-404")),
        *("OVNMD-404", "privileged daemon", "open files"),
    ),
    "ovs-vswitchd hangs": (
        with_daemon("ovs-vswitchd", "silent"),
        *("OVNMD-107", "ovs-vswitchd", "hangs"),
    ),
    "ovs-vswitchd is dead": (
        with_daemon("ovs-vswitchd", "dead"),
        *("OVNMD-107", "ovs-vswitchd", "dead"),
    ),
    "plugged, not bound": (
        with_port(bound=False),
        *("OVNMD-205", "port", "not bound"),
    ),
    "plugged, not bound, ovn-controller hangs": (
        with_daemon("ovn-controller", "silent", with_port(bound=False)),
        *("OVNMD-106", "ovn-controller", "hangs"),
    ),
    "requested, not plugged": (
        having(
            with_port(bound=False),
            vswitch=dataclasses.replace(COMMON.vswitch, plugged=frozenset()),
        ),
        *("OVNMD-205", "port", "iface-id"),
    ),
    "no device id": (
        with_port(instance=""),
        *("OVNMD-211", "port", "no device id"),
    ),
    "no localport": (
        with_network(localport=None),
        *("OVNMD-201", "metadata port", "blue"),
    ),
    "tap is gone": (
        having(interfaces={LOCAL: VETH}),
        *("OVNMD-212", "instance's interface", PORT),
    ),
    "tap on another bridge": (
        with_vswitch(plugged=frozenset((LOCAL,))),
        *("OVNMD-212", "instance's interface", "not on br-int"),
    ),
    "tap has an error": (
        with_tap(error="No such device", ofport=-1),
        *("OVNMD-212", "instance's interface", "No such device"),
    ),
    "tap is down": (
        with_tap(admin_state="down"),
        *("OVNMD-212", "instance's interface", "set down"),
    ),
    "tap has no carrier": (
        with_tap(link_state="down"),
        *("OVNMD-212", "instance's interface", "no carrier"),
    ),
    "never provisioned": (
        having(status={**COMMON.status, "networks": {}}),
        *("OVNMD-202", "agent", "not provisioned"),
    ),
    "disk full at first": (
        with_entry(error="no space", code="OVNMD-403", served=False),
        *("OVNMD-403", "agent", "no space"),
    ),
    "disk full, haproxy dead": (
        having(with_entry(error="no space", code="OVNMD-403"), haproxy=DEAD),
        *("OVNMD-403", "agent", "no space"),
    ),
    "no namespace": (
        with_host(namespace="missing", outer={}, inner={}),
        *("OVNMD-209", "namespace", "missing"),
    ),
    "namespace lost": (
        with_host(namespace="lost", outer={}, inner={}),
        *("OVNMD-209", "namespace", "only a file"),
    ),
    "another device": (
        with_host(outer={**END, "alias": "somebody's"}),
        *("OVNMD-204", "veth", "somebody's"),
    ),
    "veth is gone": (
        with_host(outer={}, inner={}),
        *("OVNMD-209", "veth", "missing"),
    ),
    "veth down inside": (
        with_host(inner={**END, "up": False}),
        *("OVNMD-209", "veth", "down"),
    ),
    "another MTU": (
        with_host(inner={**END, "mtu": 1500}),
        *("OVNMD-209", "veth", "MTU 1500, not 1442"),
    ),
    "a queue of somebody's": (
        with_host(inner={**END, "qdisc": "tbf"}),
        *("OVNMD-209", "veth", "queue tbf"),
    ),
    "another MAC": (
        with_host(inner={**END, "mac": MAC}),
        *("OVNMD-209", "veth", MAC),
    ),
    "veth on no bridge": (
        with_plug(),
        *("OVNMD-210", "veth on the bridge", "on no bridge"),
    ),
    "another iface-id": (
        with_plug("br-int", "other", NET, 7),
        *("OVNMD-210", "veth on the bridge", "iface-id=other"),
    ),
    "an older device": (
        with_plug("br-int", LOCAL, NET, 6),
        *("OVNMD-210", "veth on the bridge", "older device"),
    ),
    "a rival port": (
        with_veth(name="tapother"),
        *("OVNMD-210", "veth on the bridge", "tapother"),
    ),
    "veth has an error": (
        with_veth(error="could not open"),
        *("OVNMD-210", "veth on the bridge", "could not open"),
    ),
    "DHCP without the route": (
        having(dhcp=NO_ROUTE),
        *("OVNMD-207", "route by DHCP", "no route to 169"),
    ),
    "DHCP with another hop": (
        having(dhcp=DHCP.replace("fe.0a.00.00.02", "fe.0a.00.00.09")),
        *("OVNMD-207", "route by DHCP", "10.0.0.9"),
    ),
    "dropped on the way there": (
        having(there="46. ip,reg0=0x200, priority 2001\n    drop\n"),
        *("OVNMD-206", "flows to the metadata port", "table 46."),
    ),
    "dropped on the way back": (
        having(back="14. ip\n    output:7\n"),
        *("OVNMD-206", "flows to the instance", "table 14."),
    ),
    "address lost": (
        with_host(addresses=["10.0.0.2/24"]),
        *("OVNMD-209", "addresses", "lacks 169.254.169.254/32"),
    ),
    "sysctl that cuts": (
        with_host(sysctls={"net/ipv4/conf/all/rp_filter": "1"}),
        *("OVNMD-209", "sysctls", "rp_filter=1"),
    ),
    "wrong neighbour": (
        with_host(neighbours=[("10.0.0.5", LOCAL_MAC)]),
        *("OVNMD-209", "neighbour", LOCAL_MAC),
    ),
    "a route of somebody's": (
        with_host(strays=["route 10.0.0.5/32"]),
        *("OVNMD-209", "neighbour", "route 10.0.0.5/32"),
    ),
    "nobody listens": (
        with_host(listeners=["fe80::a9fe:a9fe"]),
        *("OVNMD-301", "listening socket", "nobody listens"),
    ),
    "program failed": (
        having(programs={NET: {"state": "FATAL", "pid": 0}}),
        *("OVNMD-301", "supervisord", "FATAL"),
    ),
    "haproxy dead": (
        having(haproxy=DEAD),
        *("OVNMD-301", "haproxy of the network", "no process"),
    ),
    "haproxy dead, supervisord hangs": (
        having(haproxy=DEAD, programs=Unseen("supervisord hangs")),
        *("OVNMD-302", "supervisord", "hangs"),
    ),
    "configuration edited": (
        having(haproxy=EDITED),
        *("OVNMD-301", "haproxy of the network", "not what the agent"),
    ),
    "older configuration": (
        having(haproxy=STALE),
        *("OVNMD-301", "haproxy of the network", "another text"),
    ),
    "two ports, one address": (
        conflicting("10.0.0.5 claimed by ports a, b"),
        *("OVNMD-203", "map", "claimed by ports a, b"),
    ),
    "two ports, one address, no map": (
        having(
            conflicting("10.0.0.5 claimed by ports a, b"),
            map_text=Unseen("why not"),
        ),
        *("OVNMD-203", "map", "claimed by ports a, b"),
    ),
    "map file edited": (
        having(map_text={}),
        *("OVNMD-309", "map", "nobody in /n.map"),
    ),
    "another one in memory": (
        having(map_memory={"10.0.0.5": "vm-2|p|s"}),
        *("OVNMD-309", "map", "is vm-2 in haproxy's memory"),
    ),
    "gateway dead": (
        having(gateway=DEAD),
        *("OVNMD-307", "gateway", "no process"),
    ),
    "Nova down": (
        having(NO_NOVA, nova=(DOWN,)),
        *("OVNMD-501", "Nova", "refused"),
    ),
    "TLS": (
        having(NO_NOVA, nova=(TLS,)),
        *("OVNMD-503", "Nova", "expired"),
    ),
    "the gateway finds no Nova": (NO_NOVA, "OVNMD-501", "request", "503"),
    "wrong secret": (with_answer(403), "OVNMD-504", "request", "403"),
    "unknown to Nova": (with_answer(404), "OVNMD-506", "request", "404"),
    "another web server": (
        with_answer(200, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"),
        *("OVNMD-505", "request", "a web page"),
    ),
    "a redirection": (with_answer(302), "OVNMD-505", "request", "302"),
    "ovs-vswitchd waits for flows": (
        with_vswitch(problem="it waits"),
        *("OVNMD-107", "ovs-vswitchd", "it waits"),
    ),
    "two interfaces of one port": (
        having(
            with_tap(rivals=["tapold"]),
            vswitch=with_vswitch(doubled=frozenset({PORT})).common.vswitch,
        ),
        *("OVNMD-212", "instance's interface", "tapold has"),
    ),
    "rival of the localport": (
        with_veth(rivals=["tapold"]),
        *("OVNMD-210", "veth on the bridge", "tapold has"),
    ),
    "an error of Nova's": (with_answer(500), "OVNMD-505", "request", "500"),
    "no answer": (
        having(answer=Unseen("no answer within 12 s", "OVNMD-306")),
        *("OVNMD-306", "request", "12 s"),
    ),
}
WARNINGS = {
    "Southbound is disconnected": (
        having(southbound=("tcp:sb", "refused")),
        *("OVNMD-101", "OVN Southbound"),
    ),
    "OVS's database is disconnected": (
        having(vswitch_db=("unix:ovs", "refused")),
        *("OVNMD-102", "Open vSwitch"),
    ),
    "ovn-controller is dead": (
        with_daemon("ovn-controller", "dead"),
        *("OVNMD-106", "ovn-controller"),
    ),
    "ovn-controller has another Southbound, or none": (
        with_daemon("ovn-controller", "lost"),
        *("OVNMD-106", "ovn-controller"),
    ),
    "an interface of the same port without a device": (
        with_tap(rivals=["tapold"]),
        *("OVNMD-212", "instance's interface"),
    ),
    "tap with a small MTU": (
        with_tap(mtu=600),
        *("OVNMD-212", "instance's interface"),
    ),
    "tap with a queue that drops": (
        with_host(device={**END, "qdisc": "netem"}),
        *("OVNMD-212", "instance's interface"),
    ),
    "no ovn-installed": (
        with_tap(external_ids={}),
        *("OVNMD-206", "instance's interface"),
    ),
    "a failure after success": (
        with_entry(error="supervisord hangs", code="OVNMD-302"),
        *("OVNMD-302", "agent"),
    ),
    "no DHCP": (
        having(dhcp="28. udp\n    resubmit(,29)\n"),
        *("OVNMD-207", "route by DHCP"),
    ),
    "one address more": (
        with_host(addresses=[*HOST["addresses"], "192.0.2.9/24"]),
        *("OVNMD-209", "addresses"),
    ),
    "a sysctl that cuts nothing": (
        with_host(sysctls={"net/ipv4/conf/all/log_martians": "1"}),
        *("OVNMD-209", "sysctls"),
    ),
    "no neighbour": (with_host(neighbours=[]), "OVNMD-209", "neighbour"),
    "supervisord hangs": (
        having(programs=Unseen("supervisord hangs")),
        *("OVNMD-302", "supervisord"),
    ),
    "public socket taken": (
        having(foreign_socket="/metadata_proxy"),
        *("OVNMD-308", "gateway"),
    ),
    "one Nova of two": (
        having(nova=(DOWN, UP)),
        *("OVNMD-507", "Nova"),
    ),
    "only the gateway reaches Nova": (
        having(nova=(DOWN,)),
        *("OVNMD-507", "Nova"),
    ),
    "slow": (with_answer(200, answer_ms=8000.0), "OVNMD-508", "request"),
}


@pytest.mark.parametrize("code", KINDS)
def test_no_problem_is_its_own_consequence(code):
    assert code not in walk.causes_of(code)


def test_each_of_two_rivals_is_removed():
    """ovs-vsctl takes the first of two names for a bridge's."""
    hops, _ = walk.walk(with_tap(rivals=["a", "b"]))
    (hop,) = [each for each in hops if each.code == "OVNMD-212"]
    assert hop.remedy == "ovs-vsctl del-port a -- del-port b"


def test_healthy_path_is_whole():
    hops, behind = walk.walk(HEALTHY)
    assert [hop.step for hop in hops] == [step for step, *_ in STEPS]
    assert {hop.state for hop in hops} == {OK}
    assert walk.verdict(hops) == walk.WHOLE
    assert not behind
    text = "\n".join(hop.text for hop in hops)
    assert "somebody's" not in text
    for word in (
        *("c1", PORT, VM, "10.0.0.5", MAC, "blue", LOCAL, "tapvm", OUTER),
        *(SPACE, "169.254.169.254 by 10.0.0.2", "the router 10.0.0.1"),
        *("/c.conf", "/n.map", "/gateway.sock", "http://nova:8775", "200"),
    ):
        assert word in text


def test_isolated_network_needs_no_router():
    dhcp = DHCP.replace(".03.04.0a.00.00.01", "")
    hops, _ = walk.walk(having(dhcp=dhcp))
    assert "no router, and none is needed" in "".join(h.text for h in hops)


@pytest.mark.parametrize("name", BROKEN)
def test_first_broken_hop_is_named(name: str):
    facts, code, step, words = BROKEN[name]
    hops, behind = walk.walk(facts)
    last = hops[-1]
    assert (last.code, last.step, last.state) == (code, step, FAIL)
    assert words in last.text
    assert last.remedy
    assert [hop for hop in hops if hop.state == FAIL] == [last]
    order = [each for each, *_ in STEPS]
    assert not {*behind} & {*order[: order.index(step) + 1]}
    assert walk.verdict(hops) == walk.BROKEN


@pytest.mark.parametrize("name", WARNINGS)
def test_warning_does_not_end_the_walk(name: str):
    facts, code, step = WARNINGS[name]
    hops, behind = walk.walk(facts)
    found = [(hop.code, hop.step) for hop in hops if hop.state == WARN]
    assert found == [(code, step)]
    assert hops[-1].step == "request"
    assert not behind
    assert walk.verdict(hops) == walk.WARNINGS


def test_what_can_not_be_seen_is_not_called_broken():
    names = ("host", "there", "back", "dhcp", "answer", "map_text", "nova")
    facts = having(
        **{name: Unseen("why not") for name in (*names, "interfaces")},
        daemons={"ovs-vswitchd": "unknown", "ovn-controller": "unknown"},
    )
    hops, _ = walk.walk(facts)
    steps = {hop.step for hop in hops if hop.state == UNKNOWN}
    assert {"namespace", "flows to the instance"} <= steps
    assert {hop.step for hop in hops}.isdisjoint(("veth", "sysctls"))
    assert {hop.state for hop in hops} <= {OK, UNKNOWN}
    states = {hop.step: hop.state for hop in hops}
    assert {states["Nova"], states["request"]} == {UNKNOWN}
    assert walk.verdict(hops) == walk.UNSEEN


def test_each_look_without_an_answer_is_a_hop():
    """Two that are late have one reason, and are not one look."""
    names = ("interfaces", "host", "there", "back", "map_text", "nova")
    hung = threading.Event()
    found = gather._look(0, **dict.fromkeys(names, hung.wait))
    hung.set()
    hops, _ = walk.walk(having(**found))
    steps = [hop.step for hop in hops if hop.state == UNKNOWN]
    assert steps == [
        *("instance's interface", "namespace", "flows to the metadata port"),
        *("flows to the instance", "map", "Nova"),
    ]


def test_each_step_that_was_not_tried_is_a_hop():
    """Nothing is traced from an interface that could not be read."""
    none = {each.name: each.default for each in dataclasses.fields(Facts)}
    traces = {name: none[name] for name in ("there", "back", "dhcp")}
    hops, _ = walk.walk(having(interfaces=Unseen("why not"), **traces))
    steps = [hop.step for hop in hops if hop.state == UNKNOWN]
    assert steps == [
        *("instance's interface", "route by DHCP"),
        *("flows to the metadata port", "flows to the instance"),
    ]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"rules": 2}, WARN),
        ({"checksum": True}, OK),  # the kernel datapath fills them in
    ],
)
def test_what_others_put_into_the_namespace(changes, state):
    hops, _ = walk.walk(having(host={**HOST, **changes}))
    found = {hop.state: hop.code for hop in hops}
    assert state == OK or found[state] == "OVNMD-209"
    assert FAIL not in found


def test_a_queue_is_removed_where_it_is():
    queued = {**END, "qdisc": "tbf"}
    (*_, hop), _ = walk.walk(with_host(outer={**queued, "alias": SPACE}))
    assert hop.remedy == f"tc qdisc del dev {OUTER} root"
    (*_, hop), _ = walk.walk(with_host(inner=queued))
    inner = f"{OUTER[:-1]}1"
    assert hop.remedy == f"tc -n {SPACE} qdisc del dev {inner} root"


def test_refused_connection_is_looked_for_in_the_firewall():
    lost = Unseen("no connection within 2 s", "OVNMD-306")
    hops, _ = walk.walk(having(answer=lost))
    assert hops[-1].code == "OVNMD-306"
    assert "nft list ruleset" in hops[-1].remedy
    hops, _ = walk.walk(having(answer=lost, host={**HOST, "rules": 1}))
    assert (hops[-1].step, hops[-1].code) == ("neighbour", "OVNMD-209")


def test_external_port_has_no_interface_here():
    target = dataclasses.replace(
        HEALTHY.target, port=dataclasses.replace(VIF, is_external=True)
    )
    facts = having(
        target=target,
        interfaces={LOCAL: VETH},
        there=Unseen(),
        back=Unseen(),
        dhcp=Unseen(),
    )
    hops, _ = walk.walk(facts)
    assert {hop.state for hop in hops} <= {OK}
    assert walk.verdict(hops) == walk.WHOLE


def test_packets_are_those_of_the_instance_and_of_the_answer():
    found = packets(HEALTHY)
    assert {*found} == {"there", "back", "dhcp"}
    assert (found["there"]["in_port"], found["back"]["in_port"]) == (1, 2)
    assert (found["there"]["mac"], found["back"]["mac"]) == (MAC, LOCAL_MAC)
    assert found["there"]["destination"] == "169.254.169.254"
    assert packets(having(interfaces={})) == {}
    assert packets(with_network(localport=None)) == {}


def test_packets_of_a_subport_have_its_tag():
    port = dataclasses.replace(VIF, parent="trunk", tag=7)
    target = dataclasses.replace(HEALTHY.target, port=port)
    facts = having(target=target, interfaces={"trunk": TAP, LOCAL: VETH})
    assert packets(facts)["there"]["vlan"] == 7


def test_ovn_trace_gets_the_keys_for_tls():
    files = Path("/k"), Path("/c"), Path("/a")
    southbound = Southbound(("tcp:a:1",), *files, 1, 1, 1, "INFO")
    assert gather._keys(southbound) == ()
    remotes = ("ssl:a:1", "ssl:b:1")
    keys = gather._keys(dataclasses.replace(southbound, remotes=remotes))
    (trace, *_) = report.commands(having(keys=keys))
    assert shlex.split(trace)[2:5] == [
        *("--private-key=/k", "--certificate=/c", "--ca-cert=/a")
    ]


def test_what_is_to_be_copied_into_a_shell_is_quoted():
    """Whatever the databases call a port or a device."""
    evil = "x'$(reboot)'`id`;"
    facts = having(
        with_port(logical_port=evil),
        interfaces={evil: {**TAP, "name": evil}, LOCAL: VETH},
    )
    made = report.commands(facts)
    assert len(made) == 3
    for line in made:
        words = shlex.split(line)
        assert words[0] in ("ovn-trace", "ip", "tcpdump")
        assert not [w for w in words if "reboot" in w and evil not in w]
