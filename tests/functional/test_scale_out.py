"""A clustered Southbound database: its servers die, hang and come back.

Three servers (raft) for the module; a network whose one instance is asked
for all the time and to which nothing ever happens, and another that gets a
new port whenever it is to be seen that the agent still follows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
from collections.abc import Iterator

import pytest

from sandbox import Instance, Loader, Network, Sandbox, wait_for
from sandbox.case import Host, wait_served
from sandbox.controller import HEARTBEAT
from sandbox.rows_held import rows_held
from sandbox.silent_server import silent_server
from sandbox.southbound import Member

DEAD = "tcp:127.0.0.1:6699"
HANGING_PORT = 6698
FOREIGN_PORTS = 200
# A heartbeat may wait for a third of agent_down_time, but no less than 3 s.
OPTIONS = {
    ("DEFAULT", "agent_down_time"): "9",
    ("ovn", "ovsdb_retry_max_interval"): "1",
}


@dataclasses.dataclass
class Cloud:
    """The chassis, with what must not change while servers come and go."""

    box: Sandbox
    quiet: Network
    instance: Instance
    busy: Network

    @property
    def members(self) -> list[Member]:
        return self.box.ovn.southbound.members

    def followed(self) -> Member:
        """Return the server that the agent is connected to."""
        return wait_for(
            lambda: self.box.ovn.southbound.followed_by(self.box.agent.pid),
            timeout_s=60,
            interval_s=0.1,
            what="connection of the agent's",
        )

    @contextlib.contextmanager
    def without_ovn(self) -> Iterator[None]:
        """Have no OVN daemon ask for a server until one leads again.

        Having met none that does, they would stay away for up to 15 s.
        """
        ovn = self.box.ovn
        ovn.stop("northd")
        ovn.freeze("ovn-controller")
        try:
            yield
            ovn.southbound.leader()
        finally:
            ovn.thaw("ovn-controller")
            ovn.start("northd")

    def kill(self, member: Member) -> None:
        """Kill MEMBER with SIGKILL; return once another one leads."""
        with self.without_ovn():
            self.box.ovn.kill(member.name)

    def wait_followed(self) -> None:
        """Return once a new port is served."""
        box = self.box
        wait_served(box.instance(box.neutron.create_port(self.busy)))

    def wait_heartbeat(self) -> None:
        """Return once the agent has told the newest nb_cfg."""
        ovn = self.box.ovn
        ovn.sync()
        wanted = int(ovn.sbctl("get", "SB_Global", ".", "nb_cfg"))

        def told() -> bool:
            row = ("Chassis_Private", ovn.system_id)
            key = f'external_ids:"{HEARTBEAT}"'
            said = (
                ovn.sbctl("--if-exists", "get", *row, key).strip().strip('"')
            )
            return bool(said) and int(said) >= wanted

        wait_for(told, timeout_s=90, interval_s=0.2, what="heartbeat")

    def haproxies(self) -> list[int]:
        """Return the PIDs that serve the quiet network, and the gateway's."""
        return [
            process.pid
            for process in self.box.agent.processes("haproxy")
            if self.busy.id not in " ".join(process.cmdline)
        ]

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[Loader]:
        """See to it that nothing happens to the quiet network meanwhile."""
        before = self.haproxies()
        logged = self.box.agent.mark()
        assert len(before) == 2
        with Loader([self.instance]) as load:
            yield load
            asked = load.requests
            wait_for(
                lambda: load.requests > asked + 20,
                timeout_s=90,
                what="more requests",
            )
        assert load.failures == []
        assert self.haproxies() == before
        lines = self.box.agent.log(logged).splitlines()
        assert [line for line in lines if self.quiet.id in line] == []
        assert [line for line in lines if "Traceback" in line] == []


@pytest.fixture(scope="module")
def cloud(host: Host) -> Cloud:
    """Provide the agent on a cluster of which one server is down."""
    box = host.sandbox(OPTIONS, sb_members=3)
    southbound = box.ovn.southbound
    leader = southbound.leader()
    down = next(m for m in southbound.members if m != leader)
    box.ovn.kill(down.name)
    remotes = {("ovn", "ovn_sb_connection"): southbound.remote}
    box.agent.configure(remotes)
    box.agent.start()
    box.agent.wait_ready()
    quiet, busy = (box.neutron.create_network(n) for n in ("quiet", "busy"))
    instance, other = box.plug(
        [box.neutron.create_port(network) for network in (quiet, busy)]
    )
    for each in (instance, other):
        wait_served(each)
    box.ovn.start(down.name)
    return Cloud(box, quiet, instance, busy)


def test_server_killed_is_left_for_another(cloud):
    """First the leader, then the one that the agent follows."""
    ovn = cloud.box.ovn
    with cloud.undisturbed():
        for find in (ovn.southbound.leader, cloud.followed):
            victim = find()
            cloud.kill(victim)
            cloud.wait_followed()
            cloud.wait_heartbeat()
            assert cloud.followed() != victim
            ovn.start(victim.name)


def test_all_servers_killed_and_back(cloud):
    """What is served is served on, and then it follows again."""
    box = cloud.box
    with cloud.undisturbed() as load:
        with cloud.without_ovn():
            for member in cloud.members:
                box.ovn.kill(member.name)
            asked = load.requests
            wait_for(
                lambda: load.requests > asked + 40,
                timeout_s=90,
                what="requests while there is no server",
            )
            for member in cloud.members:
                box.ovn.start(member.name)
        cloud.wait_followed()
        cloud.wait_heartbeat()
        box.agent.wait_ready()


def test_rows_of_other_chassis_are_not_asked_for(cloud):
    """On the very network of an instance here: two rows for each of ours."""
    box = cloud.box
    before = rows_held(box)
    box.neutron.add_foreign_ports(FOREIGN_PORTS, cloud.quiet)
    where = [["name", "==", cloud.quiet.switch]]
    (switch,) = box.ovn.nb.select("Logical_Switch", where, ["ports"])
    assert len(switch["ports"]) > FOREIGN_PORTS
    with cloud.undisturbed():
        box.ovn.sync()
        assert rows_held(box) == before


@pytest.fixture
def hanging() -> Iterator[list[socket.socket]]:
    """Provide what a server that says nothing has taken."""
    taken: list[socket.socket] = []
    with silent_server(HANGING_PORT, taken):
        yield taken


def test_dead_and_hanging_servers_are_passed_over(cloud, hanging):
    """At the start and, when the good one is restarted, on the way back."""
    box = cloud.box
    good = cloud.members[0]
    remotes = f"{DEAD},tcp:127.0.0.1:{HANGING_PORT},{good.remote}"
    box.agent.stop()
    box.agent.configure({("ovn", "ovn_sb_connection"): remotes})
    with cloud.undisturbed():
        box.agent.start()
        box.agent.wait_ready(timeout_s=120)
        tried = len(hanging)
        assert tried  # for the schema at least
        cloud.kill(good)
        # It takes its turn after the others, whatever their order.
        wait_for(
            lambda: len(hanging) > tried,
            timeout_s=90,
            what="try of the server that hangs",
        )
        box.ovn.start(good.name)
        cloud.wait_followed()
        assert cloud.followed() == good
    said = re.findall(r"not reachable at .*", box.agent.log())
    assert said == []
