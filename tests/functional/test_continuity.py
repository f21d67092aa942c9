"""Whatever dies, restarts or hangs: instances keep getting their metadata.

Two networks are asked for 20 times a second in all while something is done
to the agent, its daemons, the haproxies or the databases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from sandbox import Instance, Loader, Network, Sandbox, host, wait_for
from sandbox.processes import send_signal

SIGKILL, SIGSTOP, SIGCONT = 9, 19, 18

CONFIG = host.HOME / "ovn-metadata-proxy"
OPTIONS = {("ovn_metadata_agent", "resync_interval"): "5"}
ONE_OF_EACH = {"agent": 1, "privsep": 1, "supervisord": 1}
PIDS = host.HOME / "external" / "pids"
BACK_S = 2.0  # the longest that a network may be without metadata
SETTLE_REQUESTS = 40  # two seconds of the load


@dataclasses.dataclass
class Chassis:
    """Two served networks, an instance each."""

    box: Sandbox
    networks: list[Network]
    instances: list[Instance]

    @property
    def keys(self) -> list[str]:
        """What has a haproxy here."""
        return [*(network.id for network in self.networks), "gateway"]

    def haproxies(self, key: str) -> tuple[list[int], list[int]]:
        """Return the PIDs of KEY's masters and of its workers."""
        file = str(CONFIG / f"{key}.conf")
        found = [
            process
            for process in self.box.agent.processes("haproxy")
            if file in process.cmdline
        ]
        pids = {process.pid for process in found}
        return (
            [one.pid for one in found if one.parent not in pids],
            [one.pid for one in found if one.parent in pids],
        )

    def fleet(self) -> dict[str, tuple[list[int], list[int]]]:
        """Return all that `haproxies` says."""
        return {key: self.haproxies(key) for key in self.keys}

    def kill(self, kind: str) -> int:
        """Kill the process of KIND with SIGKILL; return its old PID."""
        found = self.box.agent.processes(kind)
        # A haproxy that supervisord is starting is its copy for a moment.
        pids = {process.pid for process in found}
        (process,) = [one for one in found if one.parent not in pids]
        send_signal(process.pid, SIGKILL)
        return process.pid

    def wait_other(self, kind: str, pid: int) -> None:
        """Wait until exactly one process of KIND runs, and not PID."""

        def one_other() -> bool:
            found = self.box.agent.processes(kind)
            # While it detaches, there are two, or one with a parent.
            return len(found) == 1 and (
                found[0].pid != pid and found[0].parent == 1
            )

        wait_for(one_other, timeout_s=30, what=f"another {kind}")

    def wait_one_pair_each(self) -> None:
        """Wait until each haproxy is supervisord's master and a worker."""

        def in_order() -> bool:
            daemons = self.box.agent.processes("supervisord")
            found = self.box.agent.processes("haproxy")
            parents = {process.pid: process.parent for process in found}
            return (
                len(daemons) == 1
                and len(found) == 2 * len(self.keys)
                and all(
                    (len(masters), len(workers)) == (1, 1)
                    and parents.get(masters[0]) == daemons[0].pid
                    for masters, workers in self.fleet().values()
                )
            )

        wait_for(
            in_order,
            timeout_s=40,
            interval_s=0.1,
            what="one master and one worker each",
        )

    def is_well(self) -> bool:
        """Tell whether all runs and all are served."""
        kinds = Counter(p.kind for p in self.box.agent.processes())
        return (
            self.box.agent.running
            and kinds == {**ONE_OF_EACH, "haproxy": 2 * len(self.keys)}
            and self.box.agent.status().returncode == 0
            and all(i.fetch(timeout=2).status == 200 for i in self.instances)
        )

    @contextlib.contextmanager
    def stopped_agent(self) -> Iterator[None]:
        """Have no agent inside, and one that is ready afterwards."""
        self.box.agent.stop()
        yield
        self.box.agent.start()
        self.box.agent.wait_ready()

    def wait_content(self) -> None:
        """Wait until agent-status is content."""
        wait_for(
            lambda: self.box.agent.status().returncode == 0,
            timeout_s=60,
            interval_s=0.2,
            what="content agent-status",
        )


def make_chassis(box: Sandbox) -> Chassis:
    """Start the agent of BOX and return two networks that are served."""
    box.agent.start()
    box.agent.wait_ready()
    networks = [box.neutron.create_network(name) for name in ("n1", "n2")]
    ports = [box.neutron.create_port(network) for network in networks]
    made = Chassis(box, networks, box.plug(ports))
    for instance in made.instances:
        wait_for(
            lambda i=instance: i.fetch(timeout=1).status == 200,  # type: ignore[misc]
            timeout_s=30,
            what="first answer",
        )
    made.wait_one_pair_each()
    return made


@pytest.fixture(scope="module")
def known() -> list[Chassis]:
    """Remember the last test's chassis."""
    return []


@pytest.fixture
def chassis(host, known: list[Chassis]) -> Chassis:
    """Give a chassis that is well: the last test's if it left it so."""
    if not (known and known[-1].is_well()):
        known.append(make_chassis(host.sandbox(OPTIONS)))
    return known[-1]


def requests(load: Loader, count: int = SETTLE_REQUESTS) -> None:
    """Wait until LOAD has asked COUNT more times."""
    wanted = load.requests + count
    wait_for(
        lambda: load.requests >= wanted, timeout_s=60, what="more requests"
    )


def pause(seconds: float) -> None:
    """Let the load go on for so long."""
    end = time.monotonic() + seconds
    wait_for(
        lambda: time.monotonic() > end, timeout_s=2 * seconds, what="the end"
    )


def report(what: str, load: Loader) -> None:
    """Print the figures of LOAD (`pytest -s` shows them)."""
    print(
        f"{what}: {len(load.failures)} of {load.requests} requests failed, "
        f"longest gap {load.longest_gap_s:.2f} s"
    )


def stats(key: str, command: str) -> str:
    """Return what KEY's haproxy answers to COMMAND."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(host.stats_of(key)))
        link.sendall(command.encode() + b"\n")
        with link.makefile("rb") as stream:
            return stream.read().decode()


def digest(key: str) -> str:
    """Return the digest that KEY's haproxy runs on."""
    for line in stats(key, "show info").splitlines():
        if line.startswith("description: "):
            return line
    return ""


# -- the control plane ------------------------------------------------------


def kill_agent(chassis: Chassis) -> None:
    """Kill the agent; systemd starts it again."""
    chassis.box.agent.kill9()
    chassis.box.agent.start()
    chassis.box.agent.wait_ready()


def restart_agent(chassis: Chassis) -> None:
    """Stop the agent and start it, as an upgrade does."""
    chassis.box.agent.stop()
    chassis.box.agent.start()
    chassis.box.agent.wait_ready()


def kill_privsep(chassis: Chassis) -> None:
    """Kill the privsep daemon; the next call has a new one."""
    chassis.wait_other("privsep", chassis.kill("privsep"))


def freeze_privsep(chassis: Chassis) -> None:
    """Have the privsep daemon hang for some seconds."""
    (process,) = chassis.box.agent.processes("privsep")
    send_signal(process.pid, SIGSTOP)
    pause(4)
    send_signal(process.pid, SIGCONT)


def kill_agent_and_privsep(chassis: Chassis) -> None:
    """Kill both at once, as a container's end does."""
    chassis.kill("privsep")
    kill_agent(chassis)


def restart_southbound(chassis: Chassis) -> None:
    """Restart the Southbound database: the agent connects again."""
    chassis.box.ovn.restart("sb")


def restart_switch_database(chassis: Chassis) -> None:
    """Restart Open vSwitch's database: the agent connects again."""
    chassis.box.ovn.restart("ovsdb-server")


def kill_southbound(chassis: Chassis) -> None:
    """Have no Southbound database for three seconds."""
    chassis.box.ovn.kill("sb")
    pause(3)
    chassis.box.ovn.start("sb")


def kill_both_databases(chassis: Chassis) -> None:
    """Have neither database while the agent starts."""
    chassis.box.agent.kill9()
    for name in ("sb", "ovsdb-server"):
        chassis.box.ovn.kill(name)
    chassis.box.agent.start()
    pause(2)
    for name in ("ovsdb-server", "sb"):
        chassis.box.ovn.start(name)


ACTS: list[Callable[[Chassis], None]] = [
    kill_agent,
    restart_agent,
    kill_privsep,
    freeze_privsep,
    kill_agent_and_privsep,
    restart_southbound,
    restart_switch_database,
    kill_southbound,
    kill_both_databases,
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_control_plane_is_not_in_the_way_of_requests(chassis, act):
    """No request fails, no haproxy is reloaded, and the agent goes on."""
    before = chassis.fleet()
    with Loader(chassis.instances) as load:
        requests(load, 10)
        act(chassis)
        chassis.wait_content()
        requests(load)
    report(act.__name__, load)
    assert load.failures == []
    assert chassis.fleet() == before
    kinds = Counter(p.kind for p in chassis.box.agent.processes())
    assert kinds == {**ONE_OF_EACH, "haproxy": 2 * len(chassis.keys)}
    # It still follows: a new port is served.
    port = chassis.box.neutron.create_port(chassis.networks[0])
    instance = chassis.box.instance(port)
    wait_for(
        lambda: instance.fetch(timeout=1).status == 200,
        timeout_s=20,
        what="answer for a port made afterwards",
    )
    assert chassis.fleet() == before
    chassis.box.unplug([instance])


def kill_supervisord(chassis: Chassis) -> None:
    """Kill supervisord; the agent sees to another one."""
    chassis.wait_other("supervisord", chassis.kill("supervisord"))


def kill_supervisord_twice(chassis: Chassis) -> None:
    """Kill the second one too, before its haproxies have taken over."""
    kill_supervisord(chassis)
    kill_supervisord(chassis)


def kill_supervisord_without_agent(chassis: Chassis) -> None:
    """Kill supervisord while no agent runs; the agent comes later."""
    chassis.box.agent.kill9()
    killed = chassis.kill("supervisord")
    chassis.box.agent.start()
    chassis.wait_other("supervisord", killed)
    chassis.box.agent.wait_ready()


def kill_supervisord_and_lose_pid_files(chassis: Chassis) -> None:
    """Kill supervisord when nobody wrote down what it had started."""
    for file in PIDS.iterdir():
        file.unlink()
    kill_supervisord(chassis)


def kill_supervisord_and_change_configuration(chassis: Chassis) -> None:
    """Kill supervisord; its successor's haproxies get another file."""
    chassis.box.agent.stop()
    killed = chassis.kill("supervisord")
    chassis.box.agent.options[("metadata_haproxy", "timeout_server")] = "43"
    chassis.box.agent.start()
    chassis.wait_other("supervisord", killed)
    chassis.box.agent.wait_ready()


@pytest.mark.parametrize(
    "act",
    [
        kill_supervisord,
        kill_supervisord_twice,
        kill_supervisord_without_agent,
        kill_supervisord_and_change_configuration,
        kill_supervisord_and_lose_pid_files,
    ],
    ids=lambda act: act.__name__,
)
def test_supervisord_killed_hands_its_haproxies_over(chassis, act):
    """A new one is there soon; its haproxies take over; none is left."""
    before = chassis.fleet()
    with Loader(chassis.instances) as load:
        requests(load, 10)
        act(chassis)
        chassis.wait_one_pair_each()
        chassis.wait_content()
        requests(load)
    report(act.__name__, load)
    assert load.failures == []
    for key, (masters, _) in chassis.fleet().items():
        assert masters != before[key][0]
        assert (PIDS / f"{key}.pid.haproxy").read_text().split() == [
            str(masters[0])
        ]
        assert digest(key), key


# -- the data plane ---------------------------------------------------------


@pytest.mark.parametrize("which", ["master", "worker", "both"])
def test_haproxy_killed_is_back_within_two_seconds(chassis, which):
    """It is started again at once; the other network sees nothing."""
    victim, other = chassis.networks[0].id, chassis.networks[1].id
    before = chassis.haproxies(other)
    masters, workers = chassis.haproxies(victim)
    chosen = {"master": masters, "worker": workers, "both": masters + workers}
    with Loader(chassis.instances, timeout_s=2) as load:
        requests(load, 10)
        for pid in chosen[which]:
            send_signal(pid, SIGKILL)
        requests(load, 2 * SETTLE_REQUESTS)
    report(f"haproxy's {which} killed", load)
    assert load.gaps_s[chassis.instances[0].instance_id] < BACK_S
    untouched = chassis.instances[1].instance_id
    assert [f for f in load.failures if f.instance_id == untouched] == []
    assert chassis.haproxies(other) == before
    chassis.wait_one_pair_each()


@pytest.mark.parametrize("which", ["master", "worker", "both"])
def test_gateway_killed_is_not_noticed(chassis, which):
    """Who asks waits for the next one, which has the old one's socket."""
    masters, workers = chassis.haproxies("gateway")
    chosen = {"master": masters, "worker": workers, "both": masters + workers}
    with Loader(chassis.instances, rate=100) as load:
        requests(load, 50)
        for pid in chosen[which]:
            send_signal(pid, SIGKILL)
        requests(load, 300)
    report(f"gateway's {which} killed", load)
    assert load.failures == []
    assert load.longest_gap_s < BACK_S
    chassis.wait_one_pair_each()


def test_gateway_that_cannot_start_is_503_at_once(chassis):
    """Nobody waits for it; once it can start again all is as before."""
    config = host.config_of("gateway")
    text = config.read_text()
    instance = chassis.instances[0]
    masters, _ = chassis.haproxies("gateway")
    with chassis.stopped_agent():
        config.write_text("nonsense\n")
        send_signal(masters[0], SIGKILL)
        wait_for(
            lambda: (
                (answer := instance.fetch(timeout=15)).status == 503 and answer
            ),
            timeout_s=20,
            what="503",
        )
        # All through its tries, which come less and less often.
        for _ in range(20):
            answer = instance.fetch(timeout=15)
            assert answer.status == 503
            assert answer.seconds < 1
            pause(0.2)
        config.write_text(text)
    wait_for(
        lambda: instance.fetch(timeout=5).status == 200,
        timeout_s=30,
        what="metadata",
    )
    chassis.wait_one_pair_each()


def test_configuration_change_reaches_haproxy_without_a_loss(chassis):
    """SIGHUP: the master stays, the digest changes, no connection fails."""
    before = chassis.fleet()
    digests = {key: digest(key) for key in chassis.keys}
    change = {("metadata_haproxy", "timeout_client"): "41"}
    with Loader(chassis.instances[:1], rate=150) as load:
        requests(load, 100)
        chassis.box.agent.options.update(change)
        restart_agent(chassis)
        wait_for(
            lambda: all(digest(key) != digests[key] for key in chassis.keys),
            timeout_s=20,
            what="new configuration everywhere",
        )
        requests(load, 300)
    report("configuration changed", load)
    assert load.failures == []
    chassis.wait_one_pair_each()
    for key, (masters, workers) in chassis.fleet().items():
        assert masters == before[key][0], key
        assert workers != before[key][1], key
        text = (CONFIG / f"{key}.conf").read_text()
        assert "timeout client 41s" in text
