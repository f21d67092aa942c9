"""Numbers that are not what they were: the time of day, a process id."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import Agent, host, release, shifted_clock, wait_for
from sandbox.case import wait_served
from sandbox.continuity import (
    SIGKILL,
    Chassis,
    Measure,
    hanging,
    heartbeat_is_true,
    make_chassis,
)
from sandbox.daemons import accepts
from sandbox.host import FLEET
from sandbox.hoststate import wait_host
from sandbox.namespaces import CLONE_NEWNET, NETNS_FOLDER
from sandbox.processes import send_signal

OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "5",
    ("DEFAULT", "agent_down_time"): "9",
}
DAYS = 3
DAY_S = 86400
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")  # of the sandbox alone
BACK_S = 10.0


@pytest.fixture(scope="module")
def chassis(host) -> Iterator[Chassis]:
    """Give a chassis whose Python processes have a clock of ours."""
    box = host.sandbox(OPTIONS)
    prefix = release.build(box.folder)
    shifted_clock.install(release.packages(prefix))
    box.agent = Agent(box.folder, box.nova, options=OPTIONS, prefix=prefix)
    made = make_chassis(box)
    yield made
    shifted_clock.SHIFT.unlink(missing_ok=True)
    box.agent.close()
    host.clear()


@pytest.fixture
def measure(record_property, chassis) -> Measure:
    return Measure(record_property, chassis)


# ---------------------------------------------------------------- clock


@pytest.mark.parametrize(
    ("what", "days"),
    [
        (f"The clock goes {DAYS} days forwards", DAYS),
        (f"The clock goes {2 * DAYS} days backwards", -DAYS),
        ("The clock is right again", 0),
    ],
    ids=["forwards", "backwards", "right again"],
)
def test_clock_jumps(chassis, measure, what, days):
    """Restarts, retries, heartbeats and tear-downs are as prompt as ever."""
    box = chassis.box
    before = chassis.fleet()
    network = box.neutron.create_network("other")
    instance = box.instance(box.neutron.create_port(network))
    wait_served(instance)
    log = box.agent.mark()
    # haproxy's clock is right: what the agent confirms is no time of its.
    with measure.load(what, stranger=days == 0) as load:
        shifted_clock.SHIFT.write_text(str(days * DAY_S))
        for pid in chassis.haproxies(network.id):
            send_signal(pid, SIGKILL)
        wait_served(instance, timeout_s=BACK_S)
        late = box.neutron.create_network("late")
        (second,) = box.plug([box.neutron.create_port(late)], wait=False)
        wait_served(second, timeout_s=BACK_S)
        box.ovn.sync()
        heard = {"timeout_s": 15, "what": "a heartbeat"}
        wait_for(heartbeat_is_true(chassis), **heard)
        box.unplug([instance, second])
        for each in (network, late):
            box.neutron.delete_network(each)
            wait_host(box, each, timeout_s=BACK_S)
        chassis.wait_content()
    assert load.failures == []
    assert chassis.fleet() == before
    said = box.agent.log(log)
    assert "provisioned" in said
    assert "Traceback" not in said


# ----------------------------------------------------------------- pids


def impostor(pid: int, network: str) -> subprocess.Popen[bytes]:
    """Start what looks like NETWORK's haproxy, as PID, and is not.

    In its namespace, as its user, with its words: a tail of its file.
    """
    there = NETNS_FOLDER / f"ovnmeta-{network}"
    config = host.config_of(network)
    uid, gid = host.ids_of(network)
    libc = ctypes.CDLL(None)

    def become() -> None:
        descriptor = os.open(there, os.O_RDONLY)
        libc.setns(descriptor, CLONE_NEWNET)
        os.setgroups([gid, config.stat().st_gid])
        os.setgid(gid)
        os.setuid(uid)

    command = ["haproxy", "-f", str(config)]
    tail = shutil.which("tail")
    while True:
        LAST_PID.write_text(str(pid - 1))
        made = subprocess.Popen(
            command,
            executable=tail,
            preexec_fn=become,  # noqa: PLW1509 # no lock is taken there
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if made.pid == pid:
            return made
        made.kill()  # somebody else was faster, and may have this number
        made.wait()
        wait_for(
            lambda: not Path(f"/proc/{pid}").exists(),
            timeout_s=20,
            what=f"the end of another process {pid}",
        )


@contextlib.contextmanager
def impostor_of(chassis: Chassis, key: str) -> Iterator[Callable[[], bool]]:
    """Have an impostor with the number of KEY's haproxy, which ends.

    Gives a way to tell whether it runs.
    """
    (pid,) = chassis.haproxies(key)
    send_signal(pid, SIGKILL)
    wait_for(
        lambda: not Path(f"/proc/{pid}").exists(), timeout_s=20, what="its end"
    )
    with hanging("supervisord"):  # its children have numbers too
        made = impostor(pid, key)
    try:
        yield lambda: made.poll() is None
    finally:
        made.kill()
        made.wait()


@pytest.mark.parametrize("looked", [False, True], ids=["before", "after"])
def test_process_that_has_an_orphans_number_now(chassis, measure, looked):
    """It is left alone, whether supervisord had looked before it came.

    The PID file names it; so does what the new supervisord knows.
    """
    network = chassis.networks[0].id
    others = chassis.instances[1:]
    what = "Let another process have the number of an orphaned haproxy"
    what += ", after supervisord has looked" if looked else ""
    with measure.load(what, instances=others) as load:
        killed = chassis.kill("supervisord")
        if looked:
            wait_for(
                lambda: accepts(FLEET / "supervisord.sock"),
                timeout_s=20,
                what="another supervisord",
            )
        with impostor_of(chassis, network) as runs:
            chassis.wait_other("supervisord", killed)
            wait_for(
                lambda: chassis.instances[0].fetch(timeout=2).status == 200,
                timeout_s=30,
                what="the network's own haproxy",
            )
            wait_for(
                lambda: len(chassis.haproxies(chassis.keys[-2])) == 1,
                timeout_s=30,
                what="end of the other orphans",
            )
            chassis.wait_content()
            assert runs()
    chassis.wait_one_each()
    assert load.failures == []
