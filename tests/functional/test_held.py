"""What must not happen while something hangs or is away."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovn_metadata.agent.service import FLEET_INTERVAL_S
from sandbox import Instance, Loader, Sandbox, holds, host, wait_for
from sandbox.binds import said_by
from sandbox.case import is_served, wait_served
from sandbox.daemons import Daemon, run
from sandbox.hoststate import haproxies, wait_host, written_map
from sandbox.peer import idle_haproxy
from sandbox.processes import (
    cpu_s,
    limit_descriptors,
    processes,
    send_signal,
)
from sandbox.waiting import BEHIND_CALL_S

FLEET = Path("/run/ovn-metadata-fleet")
SIGKILLED_S = 15  # TimeoutStopSec of deployments
RESYNC = {("ovn_metadata_agent", "resync_interval"): "5"}


@contextlib.contextmanager
def stopped(box: Sandbox, kind: str) -> Iterator[None]:
    """Have the process of KIND stand still."""
    (process,) = box.agent.processes(kind)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def served(instance) -> bool:
    """Return whether INSTANCE is, in the time that cloud-init waits."""
    return is_served(instance, timeout_s=10)


@pytest.mark.parametrize("kind", ["supervisord", "agent"])
def test_new_owner_of_an_address_never_gets_the_old_ones_metadata(
    own_box, kind
):
    """The map is cleared first, whatever hangs: nobody's, then its own."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    keeper = box.instance(box.neutron.create_port(network))
    address = ["10.10.0.77"]
    first = box.neutron.create_port(network, addresses=address)
    old = box.instance(first)
    wait_served(old, timeout_s=60)
    answers = []
    with stopped(box, kind):
        box.unplug([old])
        box.neutron.delete_port(first)
        new = box.instance(box.neutron.create_port(network, addresses=address))
        if kind == "supervisord":
            # An agent that stands still can't know yet: for it, what
            # counts is the moment when it wakes up.
            answers += ask_for(new, 3.0)
    answers += ask_for(new, 3.0)
    wait_served(new, timeout_s=BEHIND_CALL_S)
    assert old.instance_id not in answers
    assert served(keeper)


def test_a_queue_that_hangs_holds_no_revocation_up(own_box):
    """A port is another instance's, its addresses stay: nobody's at once.

    Every worker is in a call that hangs, and more networks wait.
    """
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    others = [box.neutron.create_network(f"n{n}") for n in range(8)]
    network = box.neutron.create_network("n")
    port = box.neutron.create_port(network)
    plugged = box.plug([*map(box.neutron.create_port, others), port])
    for instance in plugged:
        wait_served(instance, timeout_s=60)
    with stopped(box, "supervisord"):
        for other in (*others, network):
            box.neutron.update_network(other, mtu=1400)
        paths = [
            Path(f"/sys/class/net/tap{one.id[:10]}0/mtu")
            for one in (*others, network)
        ]
        wait_for(
            # The gateway may have one of the four, a look at the fleet one.
            lambda: [p.read_text().strip() for p in paths].count("1400") >= 2,
            timeout_s=BEHIND_CALL_S,
            what="workers that hang",
        )
        box.neutron.update_port(port, instance_id=str(uuid.uuid4()))
        box.ovn.sync()

        def revoked() -> list[str]:
            lines = box.agent.log().splitlines()
            found = [line for line in lines if "revoked" in line]
            return [line for line in found if network.id in line]

        # Each call may hang for 20 s, and this network is the last of nine.
        (line,) = wait_for(revoked, timeout_s=15, what="nobody's address")
        assert str(port.ip4) in line
        assert ask_for(instance, 2.0) == []
    box.nova.register(port.device_id, port.project_id, "vm")
    wait_served(instance, timeout_s=BEHIND_CALL_S)


def test_a_haproxy_that_starts_now_reads_no_right_that_is_gone(own_box):
    """Nobody listens, and all else hangs: the map's file is changed."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    ports = [box.neutron.create_port(network) for _ in range(2)]
    for instance in box.plug(ports):
        wait_served(instance, timeout_s=60)
    gone, kept = (str(port.ip4) for port in ports)
    assert {gone, kept} <= written_map(network).keys()
    with stopped(box, "supervisord"), stopped(box, "privsep"):
        for process in box.agent.processes("haproxy"):
            if network.id in " ".join(process.cmdline):
                os.kill(process.pid, signal.SIGKILL)
        box.neutron.update_port(ports[0], instance_id=str(uuid.uuid4()))
        wait_for(
            lambda: gone not in written_map(network),
            timeout_s=60,
            what="a file without the right",
        )
        assert kept in written_map(network)


@pytest.mark.parametrize("ends", [True, False], ids=["torn down", "served"])
def test_a_haproxy_that_hangs_is_ended(own_box, ends):
    """What does not do as it is told is replaced, or goes with the rest."""
    box = own_box
    box.agent.configure(RESYNC)
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    wait_served(instance, timeout_s=60)
    (pid,) = haproxies(box, network.id)
    os.kill(pid, signal.SIGSTOP)
    if ends:
        box.unplug([instance])
        wait_host(box, network, timeout_s=BEHIND_CALL_S)
    else:
        wait_served(instance, timeout_s=BEHIND_CALL_S)
    wait_for(
        lambda: pid not in [one.pid for one in processes("haproxy")],
        timeout_s=60,
        what="the end of the one that hangs",
    )
    box.agent.wait_ready()


def ask_for(instance, seconds: float) -> list[str]:
    """Return who INSTANCE was taken for, asking for SECONDS."""
    said = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            answer = instance.fetch(timeout=0.3)
            if answer.status == 200:
                said.append(answer.text)
    return said


@pytest.mark.parametrize("name", ["sb", "ovsdb-server"])
def test_database_that_hangs_is_named_and_does_not_hold_sigterm_up(
    own_box, name
):
    """It takes connections and says nothing: SIGTERM ends the agent."""
    box = own_box
    title = {"sb": "OVN Southbound", "ovsdb-server": "Open vSwitch"}[name]
    box.ovn.freeze(name)
    try:
        box.agent.start()
        wait_for(
            lambda: title in box.agent.status().stdout,
            timeout_s=60,
            what=f"{title} in agent-status",
        )
        assert stopped_after_s(box) < SIGKILLED_S
    finally:
        box.ovn.thaw(name)


def test_southbound_that_goes_is_told_and_costs_nothing(own_box):
    """agent-status has it; the agent sleeps until it is back."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    port = box.neutron.create_port(box.neutron.create_network("n"))
    instance = box.instance(port)
    wait_served(instance, timeout_s=60)
    box.ovn.stop("sb")
    wait_for(
        lambda: (
            "connection to OVN Southbound lost" in box.agent.status().stdout
        ),
        timeout_s=60,
        what="the loss in agent-status",
    )
    assert box.agent.status().returncode == 2

    def share() -> float:
        """Return how much of a CPU the agent takes for some seconds."""
        begun, before = time.monotonic(), cpu_s(box.agent.pid)
        while time.monotonic() - begun < 4:
            assert served(instance)
        used_s = cpu_s(box.agent.pid) - before
        return used_s / (time.monotonic() - begun)

    assert holds(lambda: share() < 0.25)
    box.ovn.start("sb")
    box.agent.wait_ready()
    wait_for(
        lambda: "OVN Southbound is connected again" in box.agent.log(),
        timeout_s=60,
        what="the connection in the log",
    )


@contextlib.contextmanager
def few_descriptors(box: Sandbox, kind: str, count: int) -> Iterator[None]:
    """Have the process of KIND open COUNT more and no other."""
    (process,) = box.agent.processes(kind)
    used = {int(e.name) for e in Path(f"/proc/{process.pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in used)
    last = next(itertools.islice(free, count, None))
    limit_descriptors(process.pid, last)
    try:
        yield
    finally:
        was = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limit_descriptors(process.pid, was)


def test_nobody_is_refused_while_supervisord_makes_no_sockets(own_box):
    """An instance that is refused gives up; one that waits is served."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    told, network = set(), box.neutron.create_network("n")

    def told_by(instance) -> str:
        told.add(answer := said_by(instance, timeout_s=0.5))
        return answer

    # One for the agent's call, one for the network's namespace: what is
    # opened next fails.
    with few_descriptors(box, "supervisord", 2):
        (instance,) = box.plug([box.neutron.create_port(network)], wait=False)
        failed = f"{network.id} (n): FAILED"
        wait_for(
            lambda: told_by(instance) and failed in box.agent.status().stdout,
            timeout_s=60,
            what="a network that failed",
        )
        ends = time.monotonic() + 5  # some tries
        while time.monotonic() < ends:
            told_by(instance)
    wait_for(
        lambda: told_by(instance) == "200", timeout_s=60, what="an answer"
    )
    assert not told & {"refused", "404"}


def test_supervisord_that_hangs_is_told_and_holds_nothing_up(own_box):
    """What is served is served on; SIGTERM ends the agent all the same."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    wait_served(instance, timeout_s=60)
    with stopped(box, "supervisord"):
        # The haproxy that runs serves this one too.
        late = box.instance(box.neutron.create_port(network))
        wait_served(late, timeout_s=90)
        other = box.neutron.create_network("other")
        box.instance(box.neutron.create_port(other))

        def is_told() -> bool:
            said = box.agent.status()
            return said.returncode == 3 and "supervisord hangs" in said.stdout

        wait_for(is_told, timeout_s=90, what="agent-status with exit code 3")
        assert served(instance)
        assert stopped_after_s(box) < SIGKILLED_S
    box.agent.start()
    box.agent.wait_ready()
    assert served(instance)


def test_supervisord_that_takes_long_to_start_is_not_ended(own_box):
    """On a host with too little CPU it would begin again, and never start."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    (before,) = box.agent.processes("supervisord")
    mark = box.agent.mark()
    os.kill(before.pid, signal.SIGKILL)

    def starting() -> list[int]:
        found = box.agent.processes("supervisord")
        return [each.pid for each in found if each.pid != before.pid]

    (pid,) = wait_for(
        starting, timeout_s=60, interval_s=0.005, what="the next one"
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(
            # One of the two gives up: the agent, or what starts it.
            lambda: re.search(
                "did not answer within|timed out after", box.agent.log(mark)
            ),
            timeout_s=90,
            what="a word of it in the log",
        )
        assert starting() == [pid]
    finally:
        send_signal(pid, signal.SIGCONT)
    box.agent.wait_ready()


def stopped_after_s(box: Sandbox) -> float:
    """End the agent; return how many seconds that took."""
    begun = time.monotonic()
    box.agent.stop()
    return time.monotonic() - begun


def remove_socket() -> None:
    (FLEET / "supervisord.sock").unlink()


def empty_folder() -> None:
    for entry in FLEET.iterdir():
        if entry.is_dir():  # a file in it may come or go just now
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


@pytest.mark.parametrize("remove", [remove_socket, empty_folder])
def test_supervisord_that_nobody_can_call_ends(own_box, remove):
    """Two of them would each start again what the other takes over."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    wait_served(box.instance(box.neutron.create_port(network)), timeout_s=60)
    before = {one.pid for one in box.agent.processes("supervisord")}
    remove()

    def is_replaced() -> bool:
        found = {one.pid for one in box.agent.processes("supervisord")}
        each = [len(haproxies(box, key)) for key in ("gateway", network.id)]
        return len(found - before) == len(found) == 1 and each == [1, 1]

    # A predecessor has a minute to finish.
    wait_for(is_replaced, timeout_s=120, what="another supervisord")
    box.agent.wait_ready()
    # The one that serves gets what is new; its predecessor finishes.
    wait_served(box.instance(box.neutron.create_port(network)))
    wait_for(is_replaced, timeout_s=120, what="one haproxy for each")


def test_supervisord_that_hangs_holds_sigterm_up_for_no_long(own_box):
    """Not even if the agent is waiting for its answer."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    with stopped(box, "supervisord"):
        asked = time.monotonic() + FLEET_INTERVAL_S + 1
        wait_for(
            lambda: time.monotonic() > asked,
            timeout_s=20,
            what="a look at the fleet",
        )
        took = stopped_after_s(box)
    print(f"ended after {took:.1f} s")
    assert took < SIGKILLED_S
    assert "Traceback" not in box.agent.log()


# Runs a command on a kernel without pidfd_getfd(2), as before Linux 5.6.
OLD_KERNEL = """
import ctypes, os, struct, sys
def step(code, value, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, value)
filters = ctypes.create_string_buffer(
    step(0x20, 0)  # load the call's number
    + step(0x15, 438, 0, 1)  # is it that one?
    + step(0x06, 0x00050000 | 38)  # then ENOSYS
    + step(0x06, 0x7FFF0000)  # else go on
)
program = struct.pack("HP", 4, ctypes.addressof(filters))
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
prctl = ctypes.CDLL(None).prctl
assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def start_theirs(instance: Instance) -> None:
    """Start Neutron's haproxy for INSTANCE; return once it answers."""
    network = instance.port.network
    config = host.OLD_PROXY / f"{network.id}.conf"
    config.parent.mkdir()
    config.write_text(idle_haproxy("169.254.169.254:80"))
    inside = ("ip", "netns", "exec", network.namespace)
    run(*inside, "haproxy", "-f", str(config))
    wait_for(
        lambda: instance.fetch(timeout=5).status == 503,
        timeout_s=60,
        what="the old one's answer",
    )


@pytest.mark.parametrize("kernel", ["this", "old"])
def test_neutrons_haproxy_makes_way_for_ours(own_box, kernel):
    """It runs as root, on the file that is ours now, and has the port.

    Nobody is refused meanwhile, where the kernel lets both listen.
    """
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    wait_served(instance, timeout_s=60)
    box.agent.stop()
    box.agent.stop_fleet()
    shutil.rmtree(FLEET)  # ours has not been here yet
    start_theirs(instance)
    before = (sys.executable, "-c", OLD_KERNEL) if kernel == "old" else ()
    fleet = Daemon(
        name="ovn-metadata-fleet",
        command=(*before, str(Path(sys.prefix, "bin", "ovn-metadata-fleet"))),
        output=box.folder / "fleet.out",
        ready=FLEET / "supervisord.sock",
    )
    fleet.start()
    try:
        with Loader([instance], rate=100, timeout_s=60) as load:
            wait_for(lambda: load.failures, timeout_s=60, what="old answers")
            box.agent.start()
            box.agent.wait_ready()
            wait_served(instance, timeout_s=60)
        wait_for(  # it may have to finish
            lambda: "root" not in {one.user for one in processes("haproxy")},
            timeout_s=120,
            what="the end of the old one",
        )
        old = [f for f in load.failures if f.reason.startswith("status 503")]
        assert old
        print(f"{kernel} kernel: {len(load.failures) - len(old)} refused")
        if kernel == "this":
            assert load.failures == old
    finally:
        box.agent.stop()
        fleet.stop()


def test_start_as_root_follows_nothing_below_state_path(own_box):
    """A link of the service user's leads root nowhere."""
    box = own_box
    box.agent.configure()
    victim = box.folder / "victim"
    victim.mkdir(mode=0o755)
    (host.HOME / "external").symlink_to(victim)
    started = subprocess.run(
        [
            str(Path(sys.prefix, "bin", "ovn-metadata-agent")),
            *box.agent.config_arguments(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 1
    assert "state_path" in started.stderr
    assert started.stderr.count("\n") == 1
    assert list(victim.iterdir()) == []
    assert victim.stat().st_uid == 0
