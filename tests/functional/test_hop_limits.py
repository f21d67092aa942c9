"""Answers that reach the instance, and nothing behind it."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, namespaces, wait_for
from sandbox.case import Case, wait_served
from sandbox.daemons import CommandError
from sandbox.hoststate import haproxies, reload
from sandbox.inside import ask
from sandbox.metrics import parse, scrape, value
from sandbox.shielded import DOCUMENT, ID

ENDED = "shield_ended_at_hop_limit"


def hops_seen(vm: Instance, *, ipv6: bool) -> dict[str, set[int]]:
    """Return the hop limits of what comes to VM, by kind of packet."""
    everything = socket.htons(3)
    with namespaces.inside(vm.namespace):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, everything)
    found: dict[str, set[int]] = {"tcp": set(), "neighbours": set()}
    with tap:
        tap.settimeout(0.5)
        vm.execute("ip", "neigh", "flush", "all")
        vm.fetch(DOCUMENT, ipv6=ipv6)
        while True:
            try:
                packet, (_, _, kind, *_) = tap.recvfrom(2048)
            except TimeoutError:
                return found
            if kind == socket.PACKET_OUTGOING:
                continue
            if packet[0] >> 4 == 4 and packet[9] == 6:
                found["tcp"].add(packet[8])
            elif packet[0] >> 4 == 6 and packet[6] == 6:
                found["tcp"].add(packet[7])
            elif packet[0] >> 4 == 6 and packet[6] == 58:
                found["neighbours"].add(packet[7])


@pytest.fixture(scope="module")
def near(shielded_case: Case) -> Instance:
    """Return an instance that alone has a hop limit of 1."""
    network = shielded_case.network("near", "10.20.0.0/24", "fd00:20::/64")
    neutron = shielded_case.box.neutron
    port = neutron.create_port(network, project_id="near")
    (vm,) = shielded_case.plug([port])
    wait_served(vm, ipv6=True)
    return vm


@pytest.mark.parametrize("ipv6", [False, True], ids=["4", "6"])
def test_answers_have_the_hop_limit(vms, near, ipv6):
    """The one of a network in which others have more is theirs."""
    seen = hops_seen(near, ipv6=ipv6)
    assert seen["tcp"] == {1}
    assert seen["neighbours"] <= {255}
    assert hops_seen(vms["off"], ipv6=ipv6)["tcp"] == {64}
    port = near.port
    source = str(port.link_local if ipv6 else port.ip4)
    assert ask(port.network, source, ID) == (200, near.instance_id)


@pytest.fixture(params=["routed", "bridge"])
def container(request, near: Instance) -> Iterator[str]:
    """Provide the namespace of a container behind NAT in `near`.

    It has an interface of the instance's for itself, or is with others on a
    bridge, as those of Docker and pods are.
    """
    name = "box-1"
    subprocess.run(("ip", "netns", "add", name), check=True)
    try:
        near.execute(
            *("ip", "link", "add", "c0", "type", "veth"),
            *("peer", "name", "eth0", "netns", name),
        )
        near.execute("ip", "link", "set", "c0", "up")
        gate = "c0"
        if request.param == "bridge":
            gate = "pods"
            near.execute("ip", "link", "add", gate, "type", "bridge")
            near.execute("ip", "link", "set", "c0", "master", gate)
            near.execute("ip", "link", "set", gate, "up")
        near.execute("ip", "addr", "add", "172.17.0.1/16", "dev", gate)
        near.execute("sysctl", "-qw", "net.ipv4.ip_forward=1")
        rule = ("POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE")
        near.execute("iptables", "-t", "nat", "-A", *rule)
        for words in (
            ("addr", "add", "172.17.0.2/16", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", "172.17.0.1"),
        ):
            subprocess.run(("ip", "-n", name, *words), check=True)
        yield name
        near.execute("iptables", "-t", "nat", "-D", *rule)
    finally:
        # With the namespace alone it would go a moment later, and its name is
        # needed at once.
        with contextlib.suppress(CommandError):
            near.execute("ip", "link", "del", "c0")
        subprocess.run(("ip", "netns", "del", name), check=True)
        if request.param == "bridge":
            near.execute("ip", "link", "del", gate)


def asks(container: str, seconds: int) -> tuple[int, str]:
    """Return how curl ended in CONTAINER, and what it got."""
    done = subprocess.run(
        (
            *("ip", "netns", "exec", container, "curl", "-sS"),
            *("-m", str(seconds), f"http://169.254.169.254{ID}"),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def ended() -> float:
    """Return how many answers the metrics say have ended; raise OSError."""
    try:
        return value(parse(scrape()), ENDED)
    except subprocess.CalledProcessError as error:
        raise ConnectionError(f"no metrics: {error}") from None


def test_a_container_gets_nothing(shielded, near, container):
    """It is counted, by what the instance's kernel sends back."""
    before = wait_for(lambda: [ended()], timeout_s=60, what="metrics")[0]
    assert asks(container, 3) == (28, "")  # a timeout
    assert near.fetch(ID).text == near.instance_id
    wait_for(lambda: ended() > before, timeout_s=60, what="a count")
    # It is the kernel's: none is counted again for another haproxy.
    network = near.port.network
    old = {*haproxies(shielded, network.id)}
    reload(network.id)
    wait_for(
        lambda: old.isdisjoint(haproxies(shielded, network.id)),
        timeout_s=120,
        what="another haproxy",
    )
    seen = wait_for(ended, timeout_s=60, what="metrics")
    with namespaces.inside(network.namespace):
        text = Path("/proc/thread-self/net/snmp").read_text()
    names, counted = (
        line.split() for line in text.splitlines() if line.startswith("Icmp:")
    )
    assert 0 < seen <= int(counted[names.index("InTimeExcds")])
