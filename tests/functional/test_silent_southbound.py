"""The Southbound's server goes silent: nothing closes the connection.

Two hosts lead to it, each a balancer (haproxy) in a namespace of its own. The
agent is connected to one of them, and an instance asks all the time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Sandbox, holds, wait_for
from sandbox.case import Host, new_instance, ready, wait_served
from sandbox.daemons import Daemon, run
from sandbox.sockets import stats, status

BRIDGE, HOME = "br-sb", "192.0.2.1/24"
PORT = 6642
ADDRESSES = ("192.0.2.10", "192.0.2.11")
OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "600",
    ("ovn", "ovn_sb_connection"): ",".join(
        f"tcp:{address}:{PORT}" for address in ADDRESSES
    ),
}
# A new port is served within 20 s; more is for a machine that is slow.
MOST_S = 30.0
PROBE_S = 8.0  # ovsdb_probe_interval
BALANCER = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen southbound
    bind 0.0.0.0:{port}
    server southbound unix@{socket}
"""


@dataclasses.dataclass
class Balancer:
    """A host that leads to the Southbound database."""

    namespace: str
    own: str  # its address
    daemon: Daemon

    def ip(self, *arguments: str) -> None:
        run("ip", "-n", self.namespace, *arguments)

    def has(self, address: str) -> None:
        """Have ADDRESS, and no other."""
        self.ip("address", "flush", "dev", "eth0")
        self.ip("address", "add", f"{address}/24", "dev", "eth0")

    def link(self, state: str) -> None:
        self.ip("link", "set", "eth0", state)


@dataclasses.dataclass
class Chassis:
    """A chassis whose agent is connected to one of two balancers."""

    box: Sandbox
    instance: Instance
    balancers: list[Balancer]

    def connected(self) -> Balancer | None:
        """Return the balancer that the agent is connected to."""
        lines = run("ss", "-tnHp", "state", "established").splitlines()
        own = f"pid={self.box.agent.pid},"
        for balancer in self.balancers:
            peer = f" {balancer.own}:{PORT} "
            if any(peer in line and own in line for line in lines):
                return balancer
        return None

    def both(self) -> tuple[Balancer, Balancer]:
        """Return the balancer of the agent, and the other one."""
        used = wait_for(self.connected, timeout_s=60, what="a connection")
        (other,) = [one for one in self.balancers if one is not used]
        return used, other

    def new_port_takes_s(self) -> float:
        """Return after how long a port that is plugged now is served."""
        begun, network = time.monotonic(), self.instance.port.network
        with new_instance(self.box, network, timeout_s=3 * MOST_S):
            return time.monotonic() - begun


def make_balancer(box: Sandbox, number: int, folder: Path) -> Balancer:
    """Make the host NUMBER and start its balancer."""
    name, address = f"balancer{number}", ADDRESSES[number]
    run("ip", "netns", "add", name)
    outer = f"sb{number}"
    run(
        *("ip", "link", "add", outer, "type", "veth"),
        *("peer", "name", "eth0", "netns", name),
    )
    run("ip", "link", "set", outer, "master", BRIDGE, "up")
    file = folder / f"{name}.cfg"
    (member,) = box.ovn.southbound.members
    file.write_text(BALANCER.format(port=PORT, socket=member.socket))
    made = Balancer(
        name,
        address,
        Daemon(
            name,
            ("ip", "netns", "exec", name, "haproxy", "-db", "-f", str(file)),
            folder / f"{name}.out",
        ),
    )
    made.has(address)
    made.link("up")
    made.daemon.start()
    return made


@pytest.fixture(scope="module")
def shared(host: Host, tmp_path_factory) -> Iterator[Chassis]:
    box = host.sandbox(OPTIONS)
    folder = tmp_path_factory.mktemp("balancers")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", HOME, "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    balancers = [make_balancer(box, number, folder) for number in (0, 1)]
    try:
        ready(box)
        network = box.neutron.create_network("n")
        (instance,) = box.plug([box.neutron.create_port(network)])
        wait_served(instance)
        yield Chassis(box, instance, balancers)
    finally:
        for balancer in balancers:
            balancer.daemon.kill()
            run("ip", "netns", "delete", balancer.namespace)
        run("ip", "link", "delete", BRIDGE)


@pytest.fixture
def chassis(shared: Chassis) -> Iterator[Chassis]:
    """Give it under load; each request has to be answered."""
    with Loader([shared.instance]) as load:
        yield shared
    assert not load.failures
    shared.box.agent.wait_ready()


def test_a_server_that_hangs(chassis: Chassis):
    """Its kernel answers and it does not. The status shows for how long.

    What the agent has read is not confirmed to the gateway for longer than
    until the probe.
    """
    assert holds(lambda: hangs_s(chassis) < MOST_S)
    assert "OVN Southbound: tcp:" in chassis.box.agent.status().stdout


def hangs_s(chassis: Chassis) -> float:
    """Have the agent's server hang; return how soon the agent leaves it."""
    used, _ = chassis.both()
    # The gateway may be so new that nothing has been confirmed to it.
    wait_for(
        lambda: time.time() - confirmed_until() < PROBE_S,
        timeout_s=60,
        what="a confirmation",
    )
    used.daemon.signal(19)  # SIGSTOP
    silent_s = confirmed_s = 0.0
    begun = time.monotonic()

    def is_left() -> bool:
        nonlocal silent_s, confirmed_s
        now_s = status()["southbound"]["silent_s"]
        # What the server sent before may be read late.
        if now_s < silent_s and chassis.connected() is not used:
            return True
        silent_s = max(silent_s, now_s)
        confirmed_s = max(confirmed_s, time.time() - confirmed_until())
        return False

    try:
        wait_for(is_left, timeout_s=3 * MOST_S, what="another server")
        left_s = time.monotonic() - begun
        took_s = left_s + chassis.new_port_takes_s()
    finally:
        used.daemon.signal(18)  # SIGCONT
    print(
        f"hangs: silent for {silent_s:.1f} s, served after {took_s:.1f} s; "
        f"last confirmed {confirmed_s:.1f} s before"
    )
    assert silent_s > 1.5 * PROBE_S
    assert confirmed_s > 0.5 * PROBE_S
    return left_s


def test_a_host_that_loses_its_power(chassis: Chassis):
    """No packet of it comes any more; the other one is well."""

    def attempt() -> float:
        used, _ = chassis.both()
        used.link("down")
        try:
            return chassis.new_port_takes_s()
        finally:
            used.link("up")

    assert holds(lambda: attempt() < MOST_S)


def test_an_address_that_moves(chassis: Chassis):
    """The other host has it now, and has none of its own."""

    def attempt() -> float:
        used, other = chassis.both()
        used.link("down")
        other.link("down")
        try:
            other.has(used.own)
            # So it announces the address, as keepalived does.
            announce = "net.ipv4.conf.eth0.arp_notify=1"
            inside = ("ip", "netns", "exec", other.namespace)
            run(*inside, "sysctl", "-w", announce)
            other.link("up")
            return chassis.new_port_takes_s()
        finally:
            other.has(other.own)
            other.link("up")
            used.link("up")

    assert holds(lambda: attempt() < MOST_S)
    # It is connected again.
    assert holds(lambda: chassis.new_port_takes_s() < MOST_S)


def confirmed_until() -> float:
    """Return until when (since the epoch) the gateway has confirmed rows."""
    file = "/run/ovn-metadata-fleet/read/gateway/gateway.map"
    for line in stats("gateway", f"show map {file}").splitlines():
        if " confirmed " in line:
            return int(line.split()[-1]) / 1000
    raise LookupError("the gateway has confirmed nothing")
