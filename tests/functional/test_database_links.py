"""A Southbound by name and TLS that moves and fails, under load.

Each sort of failure by itself is in test_streams.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Sandbox, bare_southbound, wait_for
from sandbox.case import Host, new_instance, wait_served
from sandbox.daemons import Daemon
from sandbox.files import put
from sandbox.ovn import SB_REMOTE
from sandbox.processes import cpu_s
from sandbox.tls import Authority, Identity, running, server

NAME = "sb.example"
PORT = 6651
HOME, ELSEWHERE = "127.0.0.2", "127.0.0.3"
OPTIONS = ("ovn_sb_private_key", "ovn_sb_certificate", "ovn_sb_ca_cert")
SOON_S = 90.0
# Less would be mostly the work of a change, and not of waiting after it.
LASTS_S = 8.0
RATE = 20.0  # requests a second


@dataclasses.dataclass
class Cloud:
    """A served chassis and the relay of Southbound that it follows."""

    box: Sandbox
    authority: Authority
    client: Identity
    files: dict[str, Path]  # option -> the file that is configured
    relay: Daemon
    instance: Instance | None = None

    def serve(self, host: str, identity: Identity | None = None) -> None:
        """Have the relay at HOST alone; it shows IDENTITY."""
        self.follow(relay_at(self.box, self.authority, host, identity))

    def follow(self, relay: Daemon) -> None:
        """Have RELAY alone."""
        if relay.name != self.relay.name:
            relay.start()  # beside the old one
        self.relay.kill()
        self.relay = relay
        relay.start()

    def use(self, client: Identity) -> None:
        """Put the files of CLIENT in place, as a renewal does."""
        for option, file in zip(OPTIONS, client, strict=False):
            put(self.files[option], file.read_text())

    def wait_ready(self) -> None:
        """Wait until the agent is; each look costs it some CPU."""
        wait_for(
            lambda: self.box.agent.status().returncode in (0, 5),
            timeout_s=SOON_S,
            interval_s=0.5,
            what="an agent that is ready",
        )

    def check_follows(self) -> None:
        """Check that a new port is served, then remove it."""
        network = self.instance.port.network
        with new_instance(self.box, network, timeout_s=SOON_S):
            pass

    def wait_reason(self, reason: str) -> None:
        """Wait until agent-status waits and names REASON."""

        def said() -> bool:
            status = self.box.agent.status()
            return status.returncode == 2 and reason in status.stdout

        # Each call of agent-status costs the agent some CPU.
        wait_for(said, timeout_s=SOON_S, interval_s=0.5, what=reason)

    def wait_lasting(self, reason: str, load: Loader) -> None:
        """Wait for REASON, then for what LOAD asks in LASTS_S."""
        self.wait_reason(reason)
        wanted = load.requests + LASTS_S * RATE
        wait_for(
            lambda: load.requests >= wanted,
            timeout_s=10 * LASTS_S,
            interval_s=0.2,
            what="more requests",
        )

    @contextlib.contextmanager
    def undisturbed(self, *, most_cpu: float = 0.05) -> Iterator[Loader]:
        """Check that no request fails and the agent stays frugal.

        It may use a share of MOST_CPU.
        """
        agent = self.box.agent
        used, begun, logged = cpu_s(agent.pid), time.monotonic(), agent.mark()
        with Loader([self.instance], rate=RATE) as load:
            yield load
            used = cpu_s(agent.pid) - used
            share = used / (time.monotonic() - begun)
        assert load.requests
        assert load.failures == []
        assert share < most_cpu
        said = agent.log(logged)
        assert "Traceback" not in said
        assert len(said) < 10_000


def relay_at(
    box: Sandbox,
    authority: Authority,
    host: str,
    identity: Identity | None = None,
    *,
    source: str = SB_REMOTE,
) -> Daemon:
    return server(
        box.folder,
        f"{PORT}:{host}",
        identity or authority.issue("server"),
        authority.certificate,
        database=f"relay:OVN_Southbound:{source}",
    )


def set_addresses(*addresses: str) -> None:
    """Give NAME its ADDRESSES, in this sandbox alone."""
    file = Path("/etc/hosts")
    lines = [x for x in file.read_text().splitlines() if NAME not in x]
    lines += [f"{address} {NAME}" for address in addresses]
    put(file, "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def cloud(host: Host) -> Iterator[Cloud]:
    box = host.sandbox()
    authority = Authority(box.folder / "links")
    client = authority.issue("client")
    ours = authority.issue("ours")
    files = dict(zip(OPTIONS, (*ours, authority.certificate), strict=True))
    box.agent.configure(
        {
            ("ovs", "ovsdb_connection"): "tcp:localhost:6640",
            ("ovn", "ovn_sb_connection"): f"ssl:{NAME}:{PORT}",
            ("ovn", "ovsdb_retry_max_interval"): "2",
            **{("ovn", name): str(path) for name, path in files.items()},
        }
    )
    set_addresses("127.0.0.9", "::1", HOME)  # of which one is alive
    relay = relay_at(box, authority, HOME)
    made = Cloud(box, authority, client, files, relay)
    try:
        relay.start()
        box.agent.start()
        box.agent.wait_ready()
        network = box.neutron.create_network("n")
        made.instance = box.instance(box.neutron.create_port(network))
        wait_served(made.instance)
        yield made
    finally:
        made.relay.stop()
        set_addresses()


def test_check_knows_the_names(cloud):
    """As the running agent does."""
    agent = cloud.box.agent
    done = subprocess.run(
        [*agent.command(), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_database_moves_with_its_name(cloud):
    """The old server goes; later changes are followed."""
    with cloud.undisturbed(most_cpu=1.0):
        set_addresses(ELSEWHERE)
        cloud.serve(ELSEWHERE)
        cloud.check_follows()


def test_half_of_a_renewal(cloud):
    """The new certificate is there, and for some seconds not its key."""
    key, certificate = (cloud.files[option] for option in OPTIONS[:2])
    mismatch = f"ovn_sb_private_key {key}: KEY_VALUES_MISMATCH"
    with cloud.undisturbed() as load:
        put(certificate, cloud.client.certificate.read_text())
        cloud.serve(ELSEWHERE)
        cloud.wait_lasting(mismatch, load)
        cloud.use(cloud.client)
        cloud.wait_ready()
    cloud.check_follows()


def test_certificate_that_is_refused(cloud):
    """The server's, then ours: the log has each reason once."""
    agent, logged = cloud.box.agent, cloud.box.agent.mark()
    other = Authority(cloud.box.folder / "other", "other")
    stranger = other.issue("stranger")
    refused = "certificate verify failed: "
    refuses = f"it refuses ovn_sb_certificate {cloud.files[OPTIONS[1]]}: "
    with cloud.undisturbed() as load:
        cloud.serve(ELSEWHERE, stranger)
        cloud.wait_lasting(refused, load)
        cloud.use(stranger)
        cloud.serve(ELSEWHERE)
        cloud.wait_lasting(refuses, load)
        cloud.use(cloud.client)
        cloud.wait_ready()
    warned = [x for x in agent.log(logged).splitlines() if "WARNING" in x]
    for reason in (refused, refuses):
        assert len([x for x in warned if reason in x]) == 1
    cloud.check_follows()


def test_reason_why_open_vswitchs_database_is_gone(cloud):
    """No load: ovs-vswitchd and ovn-controller may drop what passes."""
    ovn = cloud.box.ovn
    ovn.stop("ovsdb-server")
    cloud.wait_reason("tcp:localhost:6640: Connection refused")
    ovn.start("ovsdb-server")
    cloud.box.agent.wait_ready()
    cloud.check_follows()


def test_relay_that_lost_its_source(cloud):
    """It is connected, and lacks what ovn-controller has bound meanwhile."""
    box, port = cloud.box, f"{PORT + 1}"
    source = bare_southbound.relay(
        box.folder, "source", SB_REMOTE, f"ptcp:{port}"
    )
    remote = f"tcp:127.0.0.1:{port}"
    with running(source):
        set_addresses(ELSEWHERE)
        cloud.follow(relay_at(box, cloud.authority, ELSEWHERE, source=remote))
        cloud.check_follows()
        source.signal(signal.SIGSTOP)
        try:
            network = cloud.instance.port.network
            # It waits until ovn-controller has its flows in place.
            (new,) = box.plug([box.neutron.create_port(network)])
            answer = new.fetch(timeout=20)
            assert box.agent.status().returncode in (0, 5)
        finally:
            source.signal(signal.SIGCONT)
        assert answer.status == 503
        wait_served(new)
        box.unplug([new])
        cloud.serve(HOME)
        set_addresses(HOME)
