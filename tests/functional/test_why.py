"""agent-status why: whole paths, and each kind of fault, on a real chassis.

The faults themselves are in sandbox.faults; `test_faults` has all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ovn_metadata.agent.commands import client
from sandbox import Instance, Sandbox, host, subnet, wait_for
from sandbox.case import Case
from sandbox.daemons import CommandError, run

# Seconds, on a busy machine; the program's own start comes on top.
MOST_S = 10.0


def why(box: Sandbox, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code of agent-status why, and what it answers."""
    done = box.agent.status("why", "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def broken(said: dict[str, Any]) -> tuple[str, str]:
    """Return the code and the text of the broken hop in SAID."""
    (hop,) = [hop for hop in said["hops"] if hop["state"] == "fail"]
    assert hop["remedy"]
    assert hop is said["hops"][-1]
    return hop["code"], hop["text"]


@pytest.fixture
def instance(case: Case) -> Instance:
    return case.instance(case.network("why", "10.10.0.0/24", "fd00::/64"))


@pytest.fixture
def still(box: Sandbox, instance: Instance) -> Iterator[Instance]:
    """Give an instance whose path is whole at the end."""
    yield instance
    box.agent.reload()
    wait_for(
        lambda: why(box, instance.port.id)[0] == 0,
        timeout_s=30,
        what="a whole path",
    )


def fail_by(
    box: Sandbox, name: str, fault: Callable[[], object]
) -> tuple[str, str]:
    """Return the broken hop of NAME's path after FAULT.

    The agent may visit the network just then, and mend it: then again.
    """

    def attempt() -> dict[str, Any] | None:
        with contextlib.suppress(CommandError):
            fault()
        code, said = why(box, name)
        return said if code == 3 else None

    said = wait_for(attempt, timeout_s=20, what=f"a broken path of {name}")
    return broken(said)


def test_whole_path_of_whatever_it_is_called(box: Sandbox, instance: Instance):
    port, took_s = instance.port, []
    for name in (
        *(port.instance_id, port.id, port.network.id, port.mac),
        *(str(port.ip4), str(port.ip6), str(port.link_local)),
    ):
        begun = time.monotonic()
        code, said = why(box, name)
        took_s.append(time.monotonic() - begun)
        assert (code, said["verdict"]) == (0, "whole"), said
        assert (said["port"], said["instance"]) == (
            port.id,
            port.instance_id,
        )
        assert {hop["state"] for hop in said["hops"]} == {"ok"}
    assert min(took_s) < MOST_S  # other tests run beside it
    last = said["hops"][-1]
    assert (last["step"], "200" in last["text"]) == ("request", True)
    instance.fetch()
    said = hint(box, port.id)
    assert re.match(r"requests it has sent: \d+, last \d+ s ago", said), said


def hint(box: Sandbox, name: str) -> str:
    """Return what `why` says of the guest when the path is whole."""
    return str(why(box, name)[1]["hint"]["text"])


def test_commands_for_a_deeper_look_work(box: Sandbox, instance: Instance):
    port = instance.port
    _, said = why(box, port.id)
    trace, inside, outside = said["commands"]
    assert 'type "localport"' in run("sh", "-c", trace)
    for capture, device in (
        (inside, f"tap{port.network.id[:10]}1"),
        (outside, f"tap{port.id[:11]}"),
    ):
        command, _, of_tcpdump = capture.partition("tcpdump")
        assert f" {device} " in of_tcpdump
        run("sh", "-c", f"{command} ip link show {device}")


def test_routed_and_isolated(box: Sandbox, case: Case):
    for name, gateway, words in (
        ("routed", True, "the router 10.10.0.1 is not on the way"),
        ("isolated", False, "no router, and none is needed"),
    ):
        network = case.network(name, subnet("10.10.0.0/24", gateway=gateway))
        address = ["10.10.0.11"]
        port = box.neutron.create_port(network, addresses=address)
        (instance,) = case.plug([port])
        code, said = why(box, instance.instance_id)
        assert code == 0, said
        assert words in "".join(hop["text"] for hop in said["hops"])
        assert said["network_name"] == name
    code, said = why(box, str(instance.port.ip4))
    assert (code, said["verdict"]) == (64, "ambiguous")
    assert len(said["candidates"]) == 2


@pytest.mark.parametrize("words", [[], ["--json"], ["why", "--json"]])
def test_a_reader_that_leaves_is_no_fault(box: Sandbox, instance, words):
    """As `head` does: the program ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [*words, instance.port.id] if "why" in words else words
    done = box.agent.status_to(writer, *words)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_what_is_not_here(box: Sandbox, case: Case, instance: Instance):
    network = instance.port.network
    unbound = box.neutron.create_port(network)
    box.ovn.sync()
    for name, words in (
        (unbound.id, "bound to no chassis"),
        ("10.10.0.250", "no port on this host"),
        ("nothing", "has no port, instance or network"),
    ):
        code, said = why(box, name)
        assert (code, said["verdict"]) == (4, "not here"), said
        assert words in said["hops"][-1]["text"]


def test_no_dhcp_is_a_warning(box: Sandbox, case: Case):
    network = case.network("quiet", subnet("10.10.0.0/24", dhcp=False))
    port = box.neutron.create_port(network)
    (instance,) = case.plug([port])
    name = instance.instance_id
    # Flows may be there before the network is served.
    wait_for(lambda: why(box, name)[0] == 5, timeout_s=30, what="a path")
    code, said = why(box, name)
    assert code == 5, said
    assert [hop["code"] for hop in said["hops"] if hop["code"]] == [
        "OVNMD-207"
    ]


def test_all_networks(box: Sandbox, case: Case, instance: Instance):
    other = case.instance(case.network("second"))
    code, said = why(box, "--all")
    assert code == 0, said
    found = {each["instance"] for each in said["networks"]}
    assert {instance.instance_id, other.instance_id} <= found
    text = box.agent.status("why", "--all").stdout
    assert f"{len(said['networks'])} networks, 0 broken" in text


INSIDE = {
    "veth down": ("ip link set {inner} down", "OVNMD-209", "set down"),
    "address": (
        "ip address del 169.254.169.254/32 dev {inner}",
        *("OVNMD-209", "lacks 169.254.169.254/32"),
    ),
    "sysctl": (
        "sysctl -qw net.ipv4.conf.all.arp_ignore=8",
        *("OVNMD-209", "arp_ignore=8"),
    ),
    "neighbour": (
        "ip neighbour replace {ip} lladdr 02:00:00:00:00:01 dev {inner} "
        "nud permanent",
        *("OVNMD-209", "02:00:00:00:00:01"),
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_fault_in_the_namespace(box: Sandbox, still: Instance, name: str):
    command, code, words = INSIDE[name]
    port = still.port
    inner = f"tap{port.network.id[:10]}1"
    line = command.format(inner=inner, ip=port.ip4)
    where = ("ip", "netns", "exec", port.network.namespace)
    found = fail_by(box, port.id, lambda: run(*where, *line.split()))
    assert found[0] == code
    assert words in found[1]


def test_hanging_ovs_vswitchd(box: Sandbox, still: Instance):
    box.ovn.freeze("ovs-vswitchd")
    try:
        _, said = why(box, still.port.id)
    finally:
        box.ovn.thaw("ovs-vswitchd")
    assert broken(said)[0] == "OVNMD-107"


def test_hanging_ovn_controller_is_a_warning(box: Sandbox, still: Instance):
    box.ovn.freeze("ovn-controller")
    try:
        code, said = why(box, still.port.id)
    finally:
        box.ovn.thaw("ovn-controller")
    assert code == 5
    assert [hop["code"] for hop in said["hops"] if hop["code"]] == [
        "OVNMD-106"
    ]


@pytest.mark.parametrize("kind", ["privsep", "supervisord"])
def test_hanging_process_of_root(box: Sandbox, still: Instance, kind: str):
    (process,) = box.agent.processes(kind)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        code, said = why(box, still.port.id)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    if kind == "privsep":
        assert (code, broken(said)[0]) == (3, "OVNMD-401")
    else:
        codes = [hop["code"] for hop in said["hops"] if hop["code"]]
        assert (code, codes) == (5, ["OVNMD-302"])


def test_flow_that_drops(box: Sandbox, still: Instance):
    port = still.port
    box.ovn.nbctl(
        *("acl-add", port.network.switch, "from-lport", "1002"),
        *(f'inport == "{port.id}" && ip4.dst == 169.254.169.254', "drop"),
    )
    box.ovn.sync()
    try:
        _, said = why(box, port.id)
    finally:
        box.ovn.nbctl("acl-del", port.network.switch)
        box.ovn.sync()
    assert broken(said)[0] == "OVNMD-206"


def test_tap_that_is_down(box: Sandbox, still: Instance):
    device = f"tap{still.port.id[:11]}"
    link = ("ip", "link", "set", device)
    try:
        found = fail_by(box, still.port.id, lambda: run(*link, "down"))
    finally:
        run(*link, "up")
    assert found == ("OVNMD-212", f"{device} is set down")


def test_edited_map(box: Sandbox, still: Instance):
    file, port = host.map_of(still.port.network.id), still.port
    text = file.read_text().replace(still.instance_id, port.id)
    found = fail_by(box, port.id, lambda: file.write_text(text))
    assert found[0] == "OVNMD-309"
    assert port.id in found[1]


def test_refusing_nova(box: Sandbox, still: Instance):
    network = still.port.network.id
    secret = ("DEFAULT", "metadata_proxy_shared_secret")
    good = box.nova.secret
    box.agent.configure({secret: "another"})
    try:
        found = fail_by(box, network, box.agent.reload)
    finally:
        box.agent.configure({secret: good})
    assert found[0] == "OVNMD-504"


def test_nova_that_is_down(own_box: Sandbox):
    with own_box.agent:
        network = own_box.neutron.create_network("n")
        instance = own_box.instance(own_box.neutron.create_port(network))
        own_box.agent.status("--wait", "--instance", instance.instance_id)
        own_box.nova.__exit__(None, None, None)
        _, said = why(own_box, instance.instance_id)
        assert broken(said)[0] == "OVNMD-501"
        own_box.agent.kill9()
        code, said = why(own_box, instance.instance_id)
        assert (code, broken(said)[0]) == (1, "OVNMD-407")


# WHY_RUNS=1000 for the number that the project promises.
RUNS = int(os.environ.get("WHY_RUNS", "200"))
SOCKET = host.HOME / "ovn-metadata-agent.sock"


def test_no_false_word_on_a_busy_host(box: Sandbox, case: Case):
    """Networks come and go meanwhile, and the instance asks."""
    steady = case.instance(case.network("steady"))
    network = case.network("busy", "10.20.0.0/24")
    for number in range(RUNS):
        if number % 10 == 0:
            moving = case.box.neutron.create_port(network)
            (made,) = box.plug([moving], wait=False)
        if number % 10 == 5:
            box.unplug([made])
            box.neutron.delete_port(moving)
        assert steady.fetch("/openstack").status == 200
        said = client.ask_handler(
            SOCKET, {"why": steady.instance_id}, timeout_s=30
        )
        assert said["verdict"] == "whole", [
            hop for hop in said["hops"] if hop["state"] != "ok"
        ]
        assert said["took_ms"] < MOST_S * 1000
