"""Whatever dies, restarts or hangs: instances keep getting their metadata.

Twenty networks are asked for 100 times a second in all while something is
done to the agent, its daemons, the haproxies, the databases or Nova. What
it came to is printed in the end, and is in docs/explanation/continuity.md.
"""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Agent, Nova, holds, host, release, wait_for
from sandbox.case import wait_served
from sandbox.continuity import (
    PIDS,
    SIGKILL,
    SIGSTOP,
    Chassis,
    Measure,
    digest,
    fleet_service,
    hanging,
    heartbeat_is_true,
    make_chassis,
    pause,
    requests,
)
from sandbox.controller import HEARTBEAT, registration
from sandbox.hoststate import programs
from sandbox.namespaces import NETNS_FOLDER
from sandbox.processes import descriptors, send_signal
from sandbox.sockets import network_status, status

SECOND_NOVA = 8776
OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "5",
    ("ovn_metadata_agent", "spare_networks"): "64",  # as it is by default
    ("DEFAULT", "agent_down_time"): "9",  # heartbeats within three seconds
}
SUPERVISORD_LOG = host.FLEET / "log" / "supervisord.log"
_GATEWAY_RUNS = "success: haproxy-gateway entered RUNNING"
_GATEWAY_STARTS = re.compile(r"spawned: 'haproxy-gateway' with pid (\d+)\n")
# How a client sees the end of a haproxy that has its connection.
IN_HAND = ("ConnectionResetError", "RemoteDisconnected")
LATE = repr(TimeoutError("timed out"))  # and of one that takes too long
BACK_S = 2.0  # the longest without metadata, on a busy machine
CALL_TIMEOUT_S = 30  # privsep.context


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


@pytest.fixture
def measure(record_property, chassis) -> Measure:
    """Give a way to load the chassis and note what came of it."""
    return Measure(record_property, chassis)


# -- the control plane ------------------------------------------------------


def stop_agent(chassis: Chassis) -> None:
    """Stop the agent, start it two seconds later."""
    chassis.box.agent.stop()
    pause(2)
    chassis.box.agent.start()
    chassis.box.agent.wait_ready()


def kill_agent(chassis: Chassis) -> None:
    """Kill the agent, start it again."""
    chassis.box.agent.kill9()
    chassis.box.agent.start()
    chassis.box.agent.wait_ready()


def kill_privsep(chassis: Chassis) -> None:
    """Kill the privsep daemon."""
    chassis.wait_other("privsep", chassis.kill("privsep"))


def kill_agent_and_privsep(chassis: Chassis) -> None:
    """Kill the agent and its privsep daemon at once."""
    chassis.kill("privsep")
    kill_agent(chassis)


def restart_southbound(chassis: Chassis) -> None:
    """Restart the Southbound database."""
    chassis.box.ovn.restart("sb")


def kill_southbound(chassis: Chassis) -> None:
    """Kill the Southbound database, start it after 3 s."""
    chassis.box.ovn.kill("sb")
    pause(3)
    chassis.box.ovn.start("sb")


def restart_controller(chassis: Chassis) -> None:
    """Restart ovn-controller."""
    chassis.box.ovn.restart("ovn-controller")


def restart_switch_database(chassis: Chassis) -> None:
    """Restart Open vSwitch's database."""
    chassis.box.ovn.restart("ovsdb-server")


def kill_both_databases(chassis: Chassis) -> None:
    """Have neither database while the agent starts."""
    chassis.box.agent.kill9()
    for name in ("sb", "ovsdb-server"):
        chassis.box.ovn.kill(name)
    chassis.box.agent.start()
    pause(2)
    for name in ("ovsdb-server", "sb"):
        chassis.box.ovn.start(name)


def restart_switch(chassis: Chassis) -> None:
    """Restart ovs-vswitchd, which forwards every packet here."""
    chassis.box.ovn.restart("ovs-vswitchd")


ACTS: list[Callable[[Chassis], None]] = [
    stop_agent,
    kill_agent,
    kill_privsep,
    kill_agent_and_privsep,
    restart_southbound,
    kill_southbound,
    restart_controller,
    restart_switch_database,
    kill_both_databases,
    restart_switch,
]


def words(act: Callable[[Chassis], None]) -> str:
    """Return what ACT does, in the words of the table."""
    return str(act.__doc__).rstrip(".")


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_control_plane_is_not_in_the_way_of_requests(chassis, measure, act):
    """No request fails, no haproxy is reloaded, and the agent goes on."""
    before = chassis.fleet()

    def none_fails() -> bool:
        with measure.load(words(act)) as load:
            act(chassis)
            chassis.wait_content()
        # What it does not forward is sent again after 1, 3 and 7 s.
        reasons = {failure.reason for failure in load.failures}
        assert not reasons or (act is restart_switch and reasons == {LATE})
        return not reasons

    assert holds(none_fails)
    # What was killed may still be ending.
    wait_for(chassis.has_one_of_each, timeout_s=60, what="one of each")
    chassis.check_follows()
    assert chassis.fleet() == before


def kill_privsep_at_work(chassis: Chassis) -> bool:
    """Kill it while it provisions a network; return whether that failed.

    On a busy machine the daemon may be done before it is killed. Whatever
    happened, the network is served and torn down.
    """
    box = chassis.box
    network = box.neutron.create_network("half")
    there = NETNS_FOLDER / network.namespace
    pid = chassis.process("privsep").pid
    (instance,) = box.plug([box.neutron.create_port(network)], wait=False)
    wait_for(there.exists, timeout_s=60, what="half", interval_s=0)
    send_signal(pid, SIGSTOP)
    send_signal(pid, SIGKILL)
    wait_served(instance)
    chassis.wait_content()
    failures = network_status(network.id)["failures"]
    box.unplug([instance])
    box.neutron.delete_network(network)
    wait_for(
        lambda: not there.exists(), timeout_s=60, what="the network's end"
    )
    return failures > 0


def test_privsep_daemon_killed_in_the_middle_of_a_call(chassis, measure):
    """What it left half-made is made whole by the next one."""
    before = chassis.fleet()
    what = "Kill the privsep daemon in the middle of a call"
    with measure.load(what) as load:
        assert any(kill_privsep_at_work(chassis) for _ in range(40))
    assert load.failures == []
    assert chassis.fleet() == before


def test_privsep_daemons_that_are_killed_leave_nothing_open(chassis):
    """The agent closes its side of the connection to each."""
    kill_privsep(chassis)  # some libraries open something once a thread
    chassis.wait_content()  # the agent has its connection to the next one
    before = descriptors(chassis.box.agent.pid)
    for _ in range(2):
        kill_privsep(chassis)
    wait_for(
        lambda: descriptors(chassis.box.agent.pid) <= before,
        timeout_s=60,
        what=f"no more than {before}",
    )


def test_privsep_daemon_hangs_for_longer_than_a_call_may(chassis, measure):
    """Calls time out and are tried again; Neutron sees the agent alive."""
    box = chassis.box
    before = chassis.fleet()
    network = box.neutron.create_network("late")
    what = f"Have the privsep daemon hang for more than {CALL_TIMEOUT_S} s"
    with measure.load(what) as load:
        with hanging("privsep"):
            ports = [box.neutron.create_port(network)]
            (instance,) = box.plug(ports, wait=False)

            def given_up() -> bool:
                entry = status()["networks"].get(network.id, {})
                return "did not answer" in entry.get("error", "")

            beats = []
            while not beats or not given_up():
                box.ovn.sync()
                wait_for(heartbeat_is_true(chassis), **HEARD)
                beats.append(registration(box)[HEARTBEAT])
                assert len(beats) < 2 * CALL_TIMEOUT_S
        wait_served(instance, timeout_s=120)
        chassis.wait_content()
    assert load.failures == []
    assert len(set(beats)) == len(beats) > CALL_TIMEOUT_S / 10
    assert chassis.fleet() == before
    box.unplug([instance])
    box.neutron.delete_network(network)


HEARD = {"timeout_s": 30, "what": "a heartbeat"}


# -- supervisord ------------------------------------------------------------


def kill_supervisord(chassis: Chassis) -> None:
    """Kill supervisord."""
    chassis.wait_other("supervisord", chassis.kill("supervisord"))


def kill_supervisord_twice(chassis: Chassis) -> None:
    """Kill supervisord and, before it is done, the next."""
    kill_supervisord(chassis)
    kill_supervisord(chassis)


def kill_supervisord_without_agent(chassis: Chassis) -> None:
    """Kill supervisord and the agent, start the agent."""
    chassis.box.agent.kill9()
    killed = chassis.kill("supervisord")
    chassis.box.agent.start()
    chassis.wait_other("supervisord", killed)
    chassis.box.agent.wait_ready()


def kill_supervisord_and_lose_pid_files(chassis: Chassis) -> None:
    """Kill supervisord and the agent, lose the PID files."""
    # The agent links them once in each pass over a network. A pass that is
    # under way might have done that already.
    chassis.box.agent.kill9()
    for file in PIDS.iterdir():
        file.unlink()
    killed = chassis.kill("supervisord")
    chassis.box.agent.start()
    chassis.wait_other("supervisord", killed)
    chassis.box.agent.wait_ready()


def kill_supervisord_and_change_configuration(chassis: Chassis) -> None:
    """Kill supervisord, change all configurations."""
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
def test_supervisord_killed_hands_its_haproxies_over(chassis, measure, act):
    """A new one is there soon; its haproxies take over; none is left."""
    before = chassis.fleet()
    with measure.load(words(act)) as load:
        act(chassis)
        chassis.wait_one_each()
        chassis.wait_content()
    assert load.failures == []
    check_handed_over(chassis, before)


def check_handed_over(chassis: Chassis, before: dict) -> None:
    """See that each haproxy is another than BEFORE, and known as such."""
    for key, (pid,) in chassis.fleet().items():
        assert [pid] != before[key]
        assert (PIDS / f"{key}.pid.haproxy").read_text() == f"{pid}\n"
        assert digest(key), key


def test_upgrade_of_agent_then_fleet(chassis, measure):
    """Another version, in a place of its own: no request fails meanwhile.

    And back again, which is an upgrade too.
    """
    box = chassis.box
    prefix = release.build(box.folder)
    before = chassis.fleet()
    newer = Agent(
        box.folder, box.nova, options=box.agent.options, prefix=prefix
    )
    try:
        with measure.load("Upgrade the agent to another version") as load:
            box.agent.stop()
            newer.start()
            newer.wait_ready()
        assert load.failures == []
        assert f"agent: {release.VERSION}, " in newer.status().stdout
        assert chassis.fleet() == before
        what = "Upgrade the fleet's supervisord, then end its service"
        with measure.load(what) as load:
            with fleet_service(chassis, prefix) as service:
                served_by = service.pid
                chassis.wait_one_each()
                chassis.wait_content(newer)
                (ours,) = box.agent.processes("supervisord")
                assert ours.pid == served_by
                assert ours.cmdline[0].startswith(str(prefix))
                check_handed_over(chassis, before)
                before = chassis.fleet()
            chassis.wait_other("supervisord", served_by)
            chassis.wait_one_each()
            chassis.wait_content(newer)
        assert load.failures == []
        check_handed_over(chassis, before)
        before = chassis.fleet()
    finally:
        newer.stop()
    with measure.load("Go back to the agent's version before") as load:
        box.agent.start()
        box.agent.wait_ready()
    assert load.failures == []
    assert chassis.fleet() == before


# -- the data plane ---------------------------------------------------------


def test_haproxy_killed_is_back_within_a_second(chassis, measure):
    """It is started again at once; other networks see nothing."""
    instances = chassis.instances[:2]
    victim, other = (instance.port.network.id for instance in instances)
    before = chassis.haproxies(other)

    def is_back() -> bool:
        (pid,) = chassis.haproxies(victim)
        what = "Kill a network's haproxy"
        with measure.load(what, instances=instances, timeout_s=2) as load:
            send_signal(pid, SIGKILL)
            requests(load, 200)
        # But those that it had in its hands; nobody is refused.
        untouched = instances[1].instance_id
        reasons = {
            failure.reason
            for failure in load.failures
            if failure.instance_id == untouched
            or not failure.reason.startswith(IN_HAND)
        }
        assert reasons <= {LATE}
        assert chassis.haproxies(other) == before
        chassis.wait_one_each()
        # Nor does anybody wait in vain.
        gap_s = load.gaps_s[instances[0].instance_id]
        return not reasons and gap_s < BACK_S

    assert holds(is_back)


def ends(key: str) -> list[float]:
    """Return when supervisord saw that a haproxy of KEY had ended."""
    pattern = rf"(?m)^([-0-9]+ [:0-9]+),([0-9]+) .* exited: haproxy-{key} "
    return [
        time.mktime(time.strptime(at, "%Y-%m-%d %H:%M:%S")) + int(ms) / 1000
        for at, ms in re.findall(pattern, SUPERVISORD_LOG.read_text())
    ]


def test_supervisord_sees_every_end_when_it_comes(chassis):
    """Not a second later: it looks before the process can be reaped, too."""

    def is_seen_soon() -> bool:
        # Not the slowest: this machine may have been busy.
        took_s = [seen_after_s(chassis, one.id) for one in chassis.networks]
        print(f"seen after {statistics.median(took_s):.3f} s")
        chassis.wait_one_each()
        # It would be half a second if it looked every second.
        return statistics.median(took_s) < 0.3

    assert holds(is_seen_soon)


def seen_after_s(chassis: Chassis, key: str) -> float:
    """Kill the haproxy of KEY; return when supervisord saw that it ended."""
    (pid,) = chassis.haproxies(key)
    before, begun = len(ends(key)), time.time()
    send_signal(pid, SIGKILL)
    wait_for(
        lambda: chassis.haproxies(key) not in ([], [pid]),
        timeout_s=60,
        interval_s=0.02,
        what="another haproxy",
    )
    return ends(key)[before] - begun


def test_gateway_killed_is_not_noticed(chassis, measure):
    """Who asks waits for the next one, which has the old one's socket."""

    def is_back() -> bool:
        (pid,) = chassis.haproxies("gateway")
        with measure.load("Kill the gateway") as load:
            send_signal(pid, SIGKILL)
            requests(load, 200)
        assert load.failures == []
        chassis.wait_one_each()
        return bool(load.longest_gap_s < BACK_S)

    assert holds(is_back)


def test_gateway_killed_as_soon_as_it_is_back(chassis, measure):
    """For supervisord one that can't start; who asks waits for the next."""

    def is_back() -> bool:
        what = "Kill the gateway, and the next one at once"
        with measure.load(what) as load:
            # On a busy machine, the next one may run for a second.
            was_at_once = any(kill_gateway_twice(chassis) for _ in range(20))
            assert was_at_once, "none was killed as soon as it was back"
            requests(load, 200)
        assert load.failures == []
        chassis.wait_one_each()
        return bool(load.longest_gap_s < BACK_S)

    assert holds(is_back)


def kill_gateway_twice(chassis: Chassis) -> bool:
    """Kill it, and the next; return whether that had not run for a second."""
    log = SUPERVISORD_LOG
    # Before that supervisord counts its start as one that may have failed.
    wait_for(
        lambda: programs()["haproxy-gateway"] == "RUNNING",
        timeout_s=60,
        what="a gateway that runs",
    )
    (pid,) = chassis.haproxies("gateway")
    with log.open() as said:
        said.seek(0, os.SEEK_END)
        text, known = "", 0

        def next_one() -> int:
            """Return its PID, once it is no copy of supervisord any more."""
            nonlocal text
            text += said.read()
            started = _GATEWAY_STARTS.findall(text)[known:]
            pid = int(started[-1]) if started else 0
            command = Path(f"/proc/{pid}/cmdline").read_text()
            return pid if command.split("\0")[0].endswith("haproxy") else 0

        for _ in range(2):
            known = len(_GATEWAY_STARTS.findall(text))
            send_signal(pid, SIGKILL)
            pid = wait_for(
                next_one, timeout_s=60, interval_s=0.01, what="the next one"
            )
        return _GATEWAY_RUNS not in text


def test_gateway_that_hangs_is_replaced(chassis, measure):
    """Clients wait in the queue of the socket that supervisord holds."""

    def none_gives_up() -> bool:
        pids = chassis.haproxies("gateway")
        with measure.load("Have the gateway hang") as load:
            send_signal(pids[0], SIGSTOP)
            wait_for(
                lambda: chassis.haproxies("gateway") != pids,
                timeout_s=60,
                what="the next one",
            )
            requests(load, 200)
        chassis.wait_one_each()
        # On a busy machine, it may be found so late that some have given up.
        reasons = {failure.reason for failure in load.failures}
        assert reasons <= {LATE}
        return not reasons

    assert holds(none_gives_up)


def test_gateway_that_cannot_start_is_503_at_once(chassis):
    """Nobody waits for it; once it can start again all is as before."""
    config = host.config_of("gateway")
    text = config.read_text()
    instance = chassis.instances[0]
    (pid,) = chassis.haproxies("gateway")
    agent = chassis.box.agent
    agent.stop()
    config.write_text("nonsense\n")
    send_signal(pid, SIGKILL)
    wait_for(
        lambda: instance.fetch(timeout=15).status == 503,
        timeout_s=60,
        what="503",
    )
    answers = []
    # All through its tries, which come less and less often.
    for _ in range(20):
        answers.append(instance.fetch(timeout=15))
        pause(0.2)
    assert {answer.status for answer in answers} == {503}
    # This machine may stand still once.
    assert sum(answer.seconds >= 3 for answer in answers) < 2
    config.write_text(text)
    agent.start()
    agent.wait_ready()
    wait_served(instance)
    chassis.wait_one_each()


@dataclasses.dataclass
class Reload:
    """SIGHUP with one option changed: what that changes."""

    option: tuple[str, str]
    value: str
    text: str  # in the gateway's configuration
    keys: Callable[[Chassis], list[str]]


EVERYTHING = Reload(
    ("metadata_haproxy", "timeout_client"),
    "41",
    "timeout client 41s",
    lambda chassis: chassis.keys,
)
GATEWAY = Reload(
    ("DEFAULT", "metadata_workers"),
    "3",
    "nbthread 3",
    lambda chassis: ["gateway"],
)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        pytest.param(
            "Reload (SIGHUP) another timeout into every haproxy",
            EVERYTHING,
            id="everything",
        ),
        pytest.param(
            "Reload (SIGHUP) what concerns the gateway alone",
            GATEWAY,
            id="gateway",
        ),
    ],
)
def test_reload_reaches_the_haproxies_without_a_loss(
    chassis, measure, what, change
):
    """Those with another digest are other processes; no request fails."""
    before = chassis.fleet()
    digests = {key: digest(key) for key in chassis.keys}
    changed = change.keys(chassis)
    with measure.load(what, rate=150) as load:
        chassis.box.agent.configure({change.option: change.value})
        chassis.box.agent.reload()
        wait_for(
            lambda: all(digest(key) != digests[key] for key in changed),
            timeout_s=60,
            what="new configuration",
        )
        requests(load, 150)
    assert load.failures == []
    chassis.wait_one_each()
    for key, pids in chassis.fleet().items():
        assert (pids != before[key]) == (key in changed), key
        assert (PIDS / f"{key}.pid.haproxy").read_text() == f"{pids[0]}\n"
    chassis.wait_content()


# -- Nova -------------------------------------------------------------------


def test_nova_lost_and_back(chassis, measure):
    """Of two endpoints, nobody notices one; of one, all are told at once."""
    box = chassis.box

    def is_back() -> bool:
        with measure.load("Lose the only Nova endpoint for 2 s") as load:
            begun = time.monotonic()
            box.nova.stop()
            pause(2)
            box.nova.start()
            lost_s = time.monotonic() - begun
        reasons = {each.reason.partition(":")[0] for each in load.failures}
        assert reasons == {"status 503"}
        return bool(load.longest_gap_s - lost_s < BACK_S + 1)

    assert holds(is_back)
    with Nova(box.folder, port=SECOND_NOVA) as second:
        for instance in chassis.instances:
            second.register(instance.instance_id, instance.port.project_id)
        both = f"127.0.0.1:{box.nova.port},127.0.0.1:{SECOND_NOVA}"
        use_nova(chassis, both)
        # The second one knows nothing of instances that arrive.
        what = "Lose one Nova endpoint of two for 3 s"
        with measure.load(what, arrive=0) as load:
            box.nova.stop()
            pause(3)
            box.nova.start()
            was = box.nova.requests
            wait_for(
                lambda: box.nova.requests > was,
                timeout_s=60,
                what="requests at the one that came back",
            )
        assert load.failures == []
        what = "Have one Nova endpoint of two hang for 3 s"
        with measure.load(what, arrive=0) as load:
            second.freeze()
            pause(3)
            second.thaw()
        assert load.failures == []
        use_nova(chassis, box.nova.address)
    chassis.wait_content()


def use_nova(chassis: Chassis, hosts: str) -> None:
    """Have the gateway ask HOSTS."""
    was = digest("gateway")
    agent = chassis.box.agent
    agent.configure({("DEFAULT", "nova_metadata_host"): hosts})
    agent.reload()
    wait_for(
        lambda: digest("gateway") != was, timeout_s=60, what="Nova's hosts"
    )
