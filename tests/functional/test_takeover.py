"""From Neutron's own agent in place to ours, and back.

It is neutron-ovn-metadata-agent, or neutron-ovn-agent with the metadata
extension. Both have the same files and the same state_path as ours. Networks
are isolated and routed, with IPv4 and IPv6; every instance is asked for all
the while.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Network, Sandbox, host, peer, wait_for
from sandbox.daemons import run
from sandbox.namespaces import NETNS_FOLDER
from sandbox.processes import Process, processes

NETWORKS = 5
OPTIONS = {
    # Neutron's runs as root and needs no help to become it; ours is started
    # as root, too, and then does not ask for it.
    ("AGENT", "root_helper"): "env",
    ("DEFAULT", "metadata_workers"): "0",
}
SOCKET = host.HOME / "metadata_proxy"
FLEET = Path("/run/ovn-metadata-fleet")
PIDS = host.HOME / "external" / "pids"
# Neutron's own haproxy says these while its agent is away.
UNANSWERED = ("status 502", "status 503")
# So too while its agent is busy, which has five requests wait for the one it
# answers: metadata_backlog counts for nothing there. Ours has another page.
BUSY = "status 503: b'<html>"


@dataclasses.dataclass
class Chassis:
    """Networks with an instance each, and the two agents to serve them."""

    box: Sandbox
    theirs: peer.NeutronAgent
    networks: list[Network]
    instances: list[Instance]

    def haproxies(self) -> list[Process]:
        """Return what runs in the networks."""
        marks = {network.id for network in self.networks}
        return [
            process
            for process in processes("haproxy")
            if any(mark in " ".join(process.cmdline) for mark in marks)
        ]

    def ours(self) -> list[Process]:
        """Return our networks' haproxies."""
        return [one for one in self.haproxies() if "-db" in one.cmdline]

    def of_neutron(self) -> list[Process]:
        """Return Neutron's haproxies."""
        return [one for one in self.haproxies() if "-db" not in one.cmdline]

    def kept(self) -> dict[str, tuple[int, int]]:
        """Return what is to stay: namespaces' inodes and veths' indexes."""
        return {
            network.id: (
                (NETNS_FOLDER / network.namespace).stat().st_ino,
                int(
                    run("cat", f"/sys/class/net/tap{network.id[:10]}0/ifindex")
                ),
            )
            for network in self.networks
        }

    def start_theirs(self) -> None:
        """Have Neutron's agent, and nobody else, serve all networks."""
        if self.theirs.running:
            return
        for tries_left in (2, 1, 0):
            self.theirs.start()
            self.theirs.wait_ready(timeout_s=180)
            try:
                self.wait_served(ipv6=False)
                break
            except TimeoutError:
                # On a busy machine, it did not serve one of its networks
                # within three minutes of its start.
                if not tries_left:
                    raise
                self.theirs.stop()
        for network, instance in zip(
            self.networks, self.instances, strict=True
        ):
            inner = f"tap{network.id[:10]}1"
            inside = ("ip", "netns", "exec", network.namespace)
            # On the userspace datapath Neutron's agent mends the checksums
            # of IPv4 only, and here is no other.
            run(*inside, "ethtool", "-K", inner, "tx", "off")
            # OVN 23.03 loses the instance's answer to who has the address;
            # what asks over IPv6 after a pause waits for seconds then.
            run(
                *("ip", "-n", network.namespace, "neighbour", "replace"),
                *(str(instance.port.link_local), "nud", "permanent"),
                *("lladdr", instance.port.mac, "dev", inner),
            )
        self.wait_served(ipv6=True)

    def start_ours(self) -> None:
        """Start our agent and wait until all is served by it."""
        self.box.agent._daemon.start()  # by the files that there are
        self.box.agent.wait_ready(timeout_s=180)
        wait_for(
            lambda: not self.of_neutron(),
            timeout_s=120,
            what="the end of Neutron's haproxies",
        )

    def end_ours(self) -> None:
        """Do what docs/how-to/migrate.md says: the agent, then its fleet."""
        self.box.agent.stop()
        self.box.agent.stop_fleet()
        shutil.rmtree(FLEET)

    def wait_served(self, *, ipv6: bool) -> None:
        """Wait until each instance has its metadata."""
        for instance in self.instances:
            wait_for(
                lambda i=instance: is_served(i, ipv6=ipv6),  # type: ignore[misc]
                timeout_s=60,
                what=f"metadata of {instance.port.name}, IPv6: {ipv6}",
            )

    @contextlib.contextmanager
    def asked(self, what: str) -> Iterator[Loads]:
        """Have every instance ask, and print what came of it.

        So seldom, and with so much time, that Neutron's agent has answered in
        time on a busy machine, too.
        """
        with (
            Loader(self.instances, rate=10, timeout_s=60) as v4,
            Loader(self.instances, rate=5, timeout_s=60, ipv6=True) as v6,
        ):
            made = Loads(v4, v6)
            made.go_on()
            yield made
            made.go_on()
        print(
            f"{what}: {len(made.failures())} of {v4.requests + v6.requests} "
            f"requests failed, longest gap {v4.longest_gap_s:.2f} s by IPv4, "
            f"{v6.longest_gap_s:.2f} s by IPv6; "
            f"{Counter(reason[:30] for reason in made.failures())}; when: "
            f"{[f'{f.at_s:.1f}' for f in (*v4.failures, *v6.failures)][:20]}"
        )


@dataclasses.dataclass
class Loads:
    """What asks over IPv4 and over IPv6."""

    v4: Loader
    v6: Loader

    def go_on(self) -> None:
        """Wait until some more have asked."""
        wanted = self.v4.requests + 30
        wait_for(
            lambda: self.v4.requests >= wanted,
            timeout_s=120,
            what="more requests",
        )

    def failures(self) -> list[str]:
        """Return why requests failed."""
        return [f.reason for load in (self.v4, self.v6) for f in load.failures]


def is_served(instance: Instance, *, ipv6: bool) -> bool:
    """Tell whether INSTANCE gets its own id."""
    answer = instance.fetch(timeout=5, ipv6=ipv6)
    return (answer.status, answer.text) == (200, instance.instance_id)


def make_networks(box: Sandbox) -> list[Network]:
    """Make networks, every other of them behind a router."""
    made = []
    for number in range(NETWORKS):
        routed = number % 2 == 1
        network = box.neutron.create_network(
            f"n{number}",
            subnets=(f"10.{number}.0.0/24", f"fd00:{number}::/64"),
            gateway=routed,
        )
        if routed:
            box.neutron.create_router(f"r{number}", [network])
        made.append(network)
    return made


@pytest.fixture(
    scope="module",
    params=["", "metadata"],
    ids=["neutron-ovn-metadata-agent", "neutron-ovn-agent"],
)
def chassis(request, host) -> Iterator[Chassis]:
    """Provide a chassis that either agent may serve, as the last test left.

    The parameter has the extensions of neutron-ovn-agent.
    """
    prefix = peer.default_prefix()
    if not peer.is_installed(prefix):
        pytest.skip(f"no Neutron in {prefix}: make peer")
    box = host.sandbox(OPTIONS)
    command = box.agent.command()
    as_root = command[command.index("--init-groups") + 1 :]
    box.agent._daemon.command = as_root
    theirs = peer.NeutronAgent(
        box.folder,
        box.ovn,
        box.nova,
        shares=box.agent,
        extensions=request.param,
    )
    # Either test may be the first one, and ours the first agent.
    box.agent.configure()
    networks = make_networks(box)
    ports = [box.neutron.create_port(n, name=n.name) for n in networks]
    try:
        yield Chassis(box, theirs, networks, box.plug(ports))
    finally:
        box.agent.close()
        theirs.close()
        host.clear()


def test_ours_beside_theirs_takes_all_over_without_a_failure(chassis):
    """Theirs is stopped when nothing of it is needed any more."""
    chassis.start_theirs()
    box, kept = chassis.box, chassis.kept()
    plugged = ports_of(chassis)
    registered = chassis.theirs.registration()[chassis.theirs.registered]
    with chassis.asked("ours beside theirs, then theirs stopped") as load:
        chassis.start_ours()
        # All is served, and its name is Neutron's until nobody needs it.
        wait_for(
            lambda: "stop Neutron's agent" in box.agent.status().stdout,
            timeout_s=60,
            what="what is left to do, in agent-status",
        )
        assert not SOCKET.is_symlink()
        load.go_on()
        busy = Counter(f for f in load.failures() if f.startswith(BUSY))
        chassis.theirs.stop()
        wait_for(SOCKET.is_symlink, timeout_s=60, what="our socket's name")
    assert Counter(load.failures()) == busy
    assert chassis.kept() == kept
    check_only_ours(chassis)
    for network in chassis.networks:
        before, after = plugged[network.id], ports_of(chassis)[network.id]
        assert before.items() <= after.items()
    ids = chassis.theirs.registration()
    assert ids[chassis.theirs.registered] == registered
    assert peer.REGISTERED in ids


def test_back_to_theirs(chassis):
    """Ours is stopped with its fleet; theirs serves all in the same places."""
    if not chassis.box.agent.running:
        chassis.start_ours()
    chassis.theirs.stop()
    kept = chassis.kept()
    with chassis.asked("back: ours stopped, theirs started"):
        chassis.end_ours()
        assert processes() == []
        chassis.start_theirs()
    assert chassis.kept() == kept
    assert not chassis.ours()
    # One that starts is two for a moment.
    wait_for(
        lambda: (
            [one.user for one in chassis.of_neutron()] == ["root"] * NETWORKS
        ),
        timeout_s=60,
        what="a haproxy of root's for each network",
    )
    assert not SOCKET.is_symlink()


def test_theirs_stopped_first_and_state_path_lost(chassis):
    """Namespaces without any file are adopted.

    Neutron's haproxies refuse nothing, and nobody is told that there is no
    metadata; they say that nobody answers, and instances try again.
    """
    chassis.start_theirs()
    kept = chassis.kept()
    # Their agent may make or remove a file meanwhile.
    wait_for(
        lambda: empty(host.HOME),
        timeout_s=60,
        what="a state_path that is lost",
    )
    with chassis.asked(
        "state_path lost, theirs stopped, ours started"
    ) as load:
        chassis.theirs.stop()
        chassis.start_ours()
    odd = [f for f in load.failures() if not f.startswith(UNANSWERED)]
    assert odd == []
    assert load.failures()  # or nothing of this was tried
    assert chassis.kept() == kept
    check_only_ours(chassis)


def empty(folder: Path) -> bool:
    """Remove all that is in FOLDER; return True."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return True


def ports_of(chassis: Chassis) -> dict[str, dict[str, str]]:
    """Return network -> external ids of its port on the bridge."""
    rows = chassis.box.ovn.ovs.select(
        "Interface", (), ["name", "external_ids"]
    )
    by_name = {row["name"]: dict(row["external_ids"]) for row in rows}
    return {n.id: by_name[f"tap{n.id[:10]}0"] for n in chassis.networks}


def check_only_ours(chassis: Chassis) -> None:
    """Fail unless all is ours, and nothing of Neutron's agent is left."""
    wait_for(
        lambda: len(chassis.ours()) == NETWORKS,
        timeout_s=60,
        what="a haproxy for each network",
    )
    assert chassis.of_neutron() == []
    assert "root" not in {process.user for process in chassis.ours()}
    files = [PIDS / f"{n.id}.pid.haproxy" for n in chassis.networks]
    wait_for(
        lambda: (
            {file.read_text().strip() for file in files}
            == {str(process.pid) for process in chassis.ours()}
        ),
        timeout_s=60,
        what="the pid of each network's haproxy in its file",
    )
    wait_for(SOCKET.is_symlink, timeout_s=60, what="our socket's name")
    wait_for(
        lambda: chassis.box.agent.status().returncode == 0,
        timeout_s=60,
        what="content agent-status",
    )
    for ipv6 in (False, True):
        chassis.wait_served(ipv6=ipv6)
