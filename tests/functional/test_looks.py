"""What the privileged daemon sees when it is asked to look at the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_privsep import capabilities

from ovn_metadata.privsep.context import CAPABILITIES
from sandbox import Instance, Sandbox, host, privileged_calls, wait_for
from sandbox.case import Case
from sandbox.daemons import run
from sandbox.sockets import status

CODE = Path(privileged_calls.__file__).read_text()
NAMES = [
    capabilities.Capabilities(each).name.lower().removeprefix("cap_")
    for each in CAPABILITIES
]
BOTH = {"ovs-vswitchd": "answers", "ovn-controller": "answers"}


def call(
    name: str, env: dict[str, str] | None = None, **arguments: Any
) -> Any:
    """Return what the call NAME returns, with the daemon's capabilities."""
    done = subprocess.run(
        [
            *("setpriv", f"--bounding-set=-all,+{',+'.join(NAMES)}"),
            *(sys.executable, "-I", "-c", CODE, "call"),
        ],
        input=json.dumps([str(host.PRIVILEGED), name, arguments]),
        env={"SUDO_UID": str(host.ids(host.SERVICE_USER)[0]), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def instance(box: Sandbox, case: Case) -> Iterator[Instance]:
    """Give an instance that is served; the agent mends nothing meanwhile."""
    made = case.instance(case.network("looks", "10.10.0.0/24", "fd00::/64"))
    wait_for(  # it serves a moment before it has done all
        lambda: not status()["queue"]["length"],
        timeout_s=60,
        what="an agent that has done all",
    )
    os.kill(box.agent.pid, signal.SIGSTOP)
    yield made
    os.kill(box.agent.pid, signal.SIGCONT)


def inside(instance: Instance, *command: str) -> None:
    run("ip", "netns", "exec", instance.port.network.namespace, *command)


def test_namespace_is_as_the_agent_made_it(instance: Instance):
    port, network = instance.port, instance.port.network
    seen = call("look", network=network.id, device="")
    assert seen["namespace"] == "there"
    assert seen["sysctls"] == {}
    assert seen["listeners"] == ["169.254.169.254", "fe80::a9fe:a9fe"]
    assert seen["inner"]["mac"] == network.metadata.mac
    for end in ("inner", "outer"):
        assert seen[end]["up"]
        assert seen[end]["mtu"] == network.mtu
    assert seen["outer"]["alias"] == network.namespace
    assert f"{network.metadata.ip4}/24" in seen["addresses"]
    assert [str(port.ip4), port.mac] in seen["neighbours"]
    assert [str(port.link_local), port.mac] in seen["neighbours"]


BREAKS = {
    "veth down": "ip link set {inner} down",
    "address": "ip address del 169.254.169.254/32 dev {inner}",
    "sysctl": "sysctl -qw net.ipv4.conf.all.rp_filter=1",
    "neighbour": "ip neighbour del {ip} dev {inner}",
    "routes": "ip route flush table main",
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_inside_is_seen(instance: Instance, name: str):
    port, own = instance.port, instance.port.network.metadata.ip4
    inner = f"tap{port.network.id[:10]}1"
    words = BREAKS[name].format(inner=inner, ip=port.ip4)
    inside(instance, *words.split())

    def seen_now() -> Any:
        return call("look", network=port.network.id, device="")

    if name == "routes":  # the routes of a new address may come later
        wait_for(
            lambda: f"{own}/24" not in seen_now()["addresses"],
            timeout_s=60,
            what="an address without its routes",
        )
    seen = seen_now()
    wrong = {
        "veth down": not seen["inner"]["up"],
        "address": "169.254.169.254/32" not in seen["addresses"],
        "sysctl": seen["sysctls"] == {"net/ipv4/conf/all/rp_filter": "1"},
        "neighbour": [str(port.ip4), port.mac] not in seen["neighbours"],
        "routes": f"{own}/24" not in seen["addresses"],
    }
    assert [what for what, is_so in wrong.items() if is_so] == [name] or (
        # A link that goes down takes its neighbours with it.
        name == "veth down" and wrong[name]
    )


@pytest.mark.parametrize("protocol", ["boot", "static"])
def test_a_route_of_somebody_elses_is_seen(instance: Instance, protocol: str):
    """NetworkManager's are static, as ours are."""
    network = instance.port.network
    inner = f"tap{network.id[:10]}1"
    route = ("192.0.2.0/24", "dev", inner, "proto", protocol)
    inside(instance, "ip", "route", "add", *route)
    try:
        seen = call("look", network=network.id, device="")
    finally:
        inside(instance, "ip", "route", "del", *route)
    assert seen["strays"] == ["route 192.0.2.0/24"]


def test_what_is_missing_is_seen(instance: Instance):
    network = instance.port.network
    run("ip", "link", "delete", f"tap{network.id[:10]}0")
    seen = call("look", network=network.id, device="")
    assert (seen["outer"], seen["inner"]) == ({}, {})
    run("ip", "netns", "delete", network.namespace)
    assert (
        call("look", network=network.id, device="")["namespace"] == "missing"
    )
    file = Path("/run/netns", network.namespace)
    file.touch(mode=0)
    assert call("look", network=network.id, device="")["namespace"] == "lost"
    said = call(
        "ask", network=network.id, source="10.10.0.3", path="/", timeout_s=1
    )
    assert said.startswith("AskError: ")
    file.unlink()


def wait_daemons(wanted: dict[str, str]) -> None:
    """Wait until the daemons are seen as WANTED: one may be too slow."""
    wait_for(lambda: call("daemons") == wanted, timeout_s=60, what=f"{wanted}")


def test_daemon_that_answers_hangs_or_is_dead_is_told_apart(
    box: Sandbox, instance: Instance
):
    wait_daemons(BOTH)
    for name in BOTH:
        box.ovn.freeze(name)
        try:
            wait_daemons({**BOTH, name: "silent"})
        finally:
            box.ovn.thaw(name)
    box.ovn.kill("ovs-vswitchd")
    try:
        wait_daemons({**BOTH, "ovs-vswitchd": "dead"})
    finally:
        box.ovn.start("ovs-vswitchd")


def test_daemon_elsewhere_is_unknown(instance: Instance, tmp_path: Path):
    elsewhere = {"OVS_RUNDIR": str(tmp_path), "OVN_RUNDIR": "/nowhere"}
    assert call("daemons", elsewhere) == dict.fromkeys(BOTH, "unknown")


def numbers(box: Sandbox) -> dict[str, int]:
    """Return iface-id -> the OpenFlow port that has it."""
    rows = box.ovn.ovs.select("Interface", [], ["external_ids", "ofport"])
    return {row["external_ids"].get("iface-id"): row["ofport"] for row in rows}


def wait_traced(number: int, **packet: Any) -> None:
    """Wait until PACKET goes to port NUMBER: the switch may be slow."""
    wait_for(
        lambda: f"output:{number}\n" in call("trace", **packet),
        timeout_s=60,
        what=f"a trace to {number}",
    )


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_packets_are_traced_both_ways(
    box: Sandbox, instance: Instance, ipv6: bool
):
    port, metadata = instance.port, instance.port.network.metadata
    by_name = numbers(box)
    here = str(port.link_local if ipv6 else port.ip4)
    there = "fe80::a9fe:a9fe" if ipv6 else "169.254.169.254"
    packet = {"bridge": box.ovn.bridge, "vlan": 0}
    wait_traced(
        by_name[metadata.id],
        **packet,
        in_port=by_name[port.id],
        mac=port.mac,
        to_mac=metadata.mac,
        source=here,
        destination=there,
        kind="request",
    )
    wait_traced(
        by_name[port.id],
        **packet,
        in_port=by_name[metadata.id],
        mac=metadata.mac,
        to_mac=port.mac,
        source=there,
        destination=here,
        kind="answer",
    )


def test_trace_of_a_silent_switch_ends(box: Sandbox, instance: Instance):
    box.ovn.freeze("ovs-vswitchd")
    try:
        said = call(
            "trace", **{**privileged_calls.PACKET, "mac": instance.port.mac}
        )
    finally:
        box.ovn.thaw("ovs-vswitchd")
    assert "timed out" in said
    said = call(
        "trace",
        **{
            **privileged_calls.PACKET,
            "bridge": "br-none",
            "mac": instance.port.mac,
        },
    )
    assert said.startswith("AskError: ovs-vswitchd refuses: ")


def test_request_gets_an_answer_from_the_listener(instance: Instance):
    port = instance.port
    for source in (port.ip4, port.link_local):
        said = call(
            "ask",
            network=port.network.id,
            source=str(source),
            path="/",
            timeout_s=12,
        )
        assert said["head"].startswith(f"HTTP/1.1 {said['status']} ")
        assert 0 < said["connect_ms"] < 12_000
        assert 0 < said["answer_ms"] < 12_000
        assert said["body_bytes"] > 0


def test_request_that_nobody_answers_says_why(instance: Instance):
    port = instance.port
    inside(instance, *("ip", "link", "set", "lo", "down"))
    question = {
        "network": port.network.id,
        "source": str(port.ip4),
        "path": "/",
        "timeout_s": 1,
    }
    assert call("ask", **question).startswith("AskError: ")
