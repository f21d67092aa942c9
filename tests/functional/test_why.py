"""agent-status why: whole paths, and each kind of fault, on a real chassis.

The faults themselves are in sandbox.faults; `test_faults` has all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ovn_metadata.agent.commands import client
from sandbox import Instance, Sandbox, host, subnet, wait_for
from sandbox.case import Case
from sandbox.daemons import CommandError, run
from sandbox.processes import send_signal

# Seconds, on a busy machine; the program's own start comes on top.
MOST_S = 10.0
TRIES = 3


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


def wait_whole(box: Sandbox, name: str) -> dict[str, Any]:
    """Return what `why` answers of NAME, once the path is whole.

    The agent notes that a network is served when its haproxy serves already.
    And a busy machine may take so long for one look that this is a warning.
    """

    def whole() -> dict[str, Any] | None:
        code, said = why(box, name)
        return said if code == 0 else None

    return wait_for(whole, timeout_s=60, what=f"a whole path of {name}") or {}


def wait_warned(box: Sandbox, name: str, *codes: str) -> None:
    """Wait until NAME's path is whole, with the warnings CODES."""

    def warned() -> bool:
        code, said = why(box, name)
        found = [hop["code"] for hop in said["hops"] if hop["code"]]
        return code == 5 and found == [*codes]

    wait_for(warned, timeout_s=60, what=f"a path of {name} with {codes}")


@pytest.fixture
def instance(box: Sandbox, case: Case) -> Instance:
    made = case.instance(case.network("why", "10.10.0.0/24", "fd00::/64"))
    wait_whole(box, made.port.id)
    return made


@pytest.fixture
def still(box: Sandbox, instance: Instance) -> Iterator[Instance]:
    """Give an instance whose path is whole at the end."""
    yield instance
    box.agent.reload()
    wait_whole(box, instance.port.id)


def fail_by(
    box: Sandbox,
    name: str,
    code: str,
    words: str = "",
    *,
    fault: Callable[[], object] = lambda: None,
) -> None:
    """Fail unless after FAULT NAME's path is broken with CODE and WORDS.

    The agent may visit the network just then, and mend a part of it; or an
    answer on which another hop depends takes too long: then again.
    """
    found = "", ""

    def attempt() -> bool:
        nonlocal found
        with contextlib.suppress(CommandError):
            fault()
        status, said = why(box, name)
        found = broken(said) if status == 3 else ("", said["verdict"])
        return found[0] == code and words in found[1]

    with contextlib.suppress(TimeoutError):
        wait_for(attempt, timeout_s=60, what=f"a broken path of {name}")
    assert found[0] == code, found
    assert words in found[1]


def test_whole_path_of_whatever_it_is_called(box: Sandbox, instance: Instance):
    port, took_s = instance.port, []
    for name in (
        *(port.instance_id, port.id, port.network.id, port.mac),
        *(str(port.ip4), str(port.ip6), str(port.link_local)),
    ):
        begun = time.monotonic()
        why(box, name)
        took_s.append(time.monotonic() - begun)
        said = wait_whole(box, name)
        assert said["verdict"] == "whole", said
        assert (said["port"], said["instance"]) == (
            port.id,
            port.instance_id,
        )
        assert {hop["state"] for hop in said["hops"]} == {"ok"}
    assert min(took_s) < MOST_S  # other tests run beside it
    last = said["hops"][-1]
    assert (last["step"], "200" in last["text"]) == ("request", True)
    assert f"agent-status asks {port.instance_id}" in said["hint"]["text"]


def test_commands_for_a_deeper_look_work(box: Sandbox, instance: Instance):
    port = instance.port
    said = wait_whole(box, port.id)
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
        said = wait_whole(box, instance.instance_id)
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
    for _ in range(TRIES):
        done = box.agent.status_to(writer, *words)
        # It takes an agent that needs more than 0.7 s for one that hangs.
        if "hangs" not in done.stderr:
            break
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

        def not_here(name: str = name, words: str = words) -> bool:
            """Tell whether it is said so; Southbound may be slow."""
            code, said = why(box, name)
            found = (code, said["verdict"]) == (4, "not here")
            return found and words in said["hops"][-1]["text"]

        wait_for(not_here, timeout_s=60, what=f"{words} of {name}")


def test_no_dhcp_is_a_warning(box: Sandbox, case: Case):
    network = case.network("quiet", subnet("10.10.0.0/24", dhcp=False))
    port = box.neutron.create_port(network)
    (instance,) = case.plug([port])
    # Flows may be there before the network is served.
    wait_warned(box, instance.instance_id, "OVNMD-207")


def test_all_networks(box: Sandbox, case: Case, instance: Instance):
    other = case.instance(case.network("second"))
    wanted = {instance.instance_id, other.instance_id}

    def all_whole() -> bool:
        """Tell whether it is said so; networks of others may just go."""
        code, said = why(box, "--all")
        found = {each["instance"] for each in said["networks"]}
        text = box.agent.status("why", "--all").stdout
        told = f"{len(said['networks'])} networks, 0 broken" in text
        return code == 0 and wanted <= found and told

    wait_for(all_whole, timeout_s=120, what="whole paths of all")


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
    fault = partial(run, *where, *line.split())
    fail_by(box, port.id, code, words, fault=fault)


def test_hanging_ovs_vswitchd(box: Sandbox, still: Instance):
    box.ovn.freeze("ovs-vswitchd")
    try:
        fail_by(box, still.port.id, "OVNMD-107")
    finally:
        box.ovn.thaw("ovs-vswitchd")


def test_hanging_ovn_controller_is_a_warning(box: Sandbox, still: Instance):
    box.ovn.freeze("ovn-controller")
    try:
        wait_warned(box, still.port.id, "OVNMD-106")
    finally:
        box.ovn.thaw("ovn-controller")


@pytest.mark.parametrize("kind", ["privsep", "supervisord"])
def test_hanging_process_of_root(box: Sandbox, still: Instance, kind: str):
    (process,) = box.agent.processes(kind)
    send_signal(process.pid, signal.SIGSTOP)
    try:
        if kind == "privsep":
            fail_by(box, still.port.id, "OVNMD-401")
        else:
            wait_warned(box, still.port.id, "OVNMD-302")
    finally:
        send_signal(process.pid, signal.SIGCONT)


def test_flow_that_drops(box: Sandbox, still: Instance):
    port = still.port
    box.ovn.nbctl(
        *("acl-add", port.network.switch, "from-lport", "1002"),
        *(f'inport == "{port.id}" && ip4.dst == 169.254.169.254', "drop"),
    )
    box.ovn.sync()
    try:
        fail_by(box, port.id, "OVNMD-206")
    finally:
        box.ovn.nbctl("acl-del", port.network.switch)
        box.ovn.sync()


def test_tap_that_is_down(box: Sandbox, still: Instance):
    device = f"tap{still.port.id[:11]}"
    link = ("ip", "link", "set", device)
    down, words = partial(run, *link, "down"), f"{device} is set down"
    try:
        fail_by(box, still.port.id, "OVNMD-212", words, fault=down)
    finally:
        run(*link, "up")


def test_edited_map(box: Sandbox, still: Instance):
    file, port = host.map_of(still.port.network.id), still.port
    text = file.read_text().replace(still.instance_id, port.id)
    fault = partial(file.write_text, text)
    fail_by(box, port.id, "OVNMD-309", port.id, fault=fault)


def test_refusing_nova(box: Sandbox, still: Instance):
    network = still.port.network.id
    secret = ("DEFAULT", "metadata_proxy_shared_secret")
    good = box.nova.secret
    box.agent.configure({secret: "another"})
    try:
        fail_by(box, network, "OVNMD-504", fault=box.agent.reload)
    finally:
        box.agent.configure({secret: good})


def test_nova_that_is_down(own_box: Sandbox):
    with own_box.agent:
        network = own_box.neutron.create_network("n")
        instance = own_box.instance(own_box.neutron.create_port(network))
        wait_whole(own_box, instance.instance_id)
        own_box.nova.__exit__(None, None, None)
        fail_by(own_box, instance.instance_id, "OVNMD-501")
        own_box.agent.kill9()
        code, said = why(own_box, instance.instance_id)
        assert (code, broken(said)[0]) == (1, "OVNMD-407")


# WHY_RUNS=1000 for the number that the project promises.
RUNS = int(os.environ.get("WHY_RUNS", "200"))
SOCKET = host.HOME / "ovn-metadata-agent.sock"


def test_no_false_word_on_a_busy_host(box: Sandbox, case: Case):
    """Networks come and go meanwhile, and the instance asks.

    That a look or an answer took long is no false word, if few do.
    """
    steady = case.instance(case.network("steady"))
    wait_whole(box, steady.instance_id)
    took_ms, late = [], 0
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
        odd = [hop for hop in said["hops"] if hop["state"] != "ok"]
        assert all(
            hop["code"] == "OVNMD-508" or "no answer within" in hop["text"]
            for hop in odd
        ), odd
        late += odd != []
        took_ms.append(said["took_ms"])
    assert late <= RUNS / 10
    assert statistics.quantiles(took_ms, n=10)[-1] < MOST_S * 1000
