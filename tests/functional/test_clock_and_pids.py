"""Numbers that are not what they were: the time of day, a process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
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
from sandbox.daemons import accepts, run
from sandbox.files import put
from sandbox.host import FLEET
from sandbox.hoststate import wait_host
from sandbox.namespaces import NETNS_FOLDER
from sandbox.processes import send_signal

OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "5",
    ("DEFAULT", "agent_down_time"): "9",
}
DAYS = 3
DAY_S = 86400
BACK_S = 60.0  # and not days


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
        put(shifted_clock.SHIFT, str(days * DAY_S))
        for pid in chassis.haproxies(network.id):
            send_signal(pid, SIGKILL)
        wait_served(instance, timeout_s=BACK_S)
        late = box.neutron.create_network("late")
        (second,) = box.plug([box.neutron.create_port(late)], wait=False)
        wait_served(second, timeout_s=BACK_S)
        box.ovn.sync()
        heard = {"timeout_s": 60, "what": "a heartbeat"}
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


# A program that starts another one with a process id of our choice, as a child
# of our own process. Its arguments: the process id, the network namespace, the
# user, his groups, the other program and that one's arguments. With
# ns_last_pid instead, any thread that starts at that moment could take the id.
# The structure and the call's number are those of clone3(2).
START_AS = """
import ctypes, os, sys
CLONE_NEWNET, CLONE_PARENT, CLONE3 = 0x40000000, 0x8000, 435
pid, there, uid, groups, program, *words = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
groups = [int(group) for group in groups.split(",")]
if libc.setns(os.open(there, os.O_RDONLY), CLONE_NEWNET):
    raise OSError(ctypes.get_errno(), "setns")
wanted = (ctypes.c_int * 1)(int(pid))
fields = (CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0, ctypes.addressof(wanted), 1)
given = (ctypes.c_uint64 * 10)(*fields)
made = libc.syscall(CLONE3, given, ctypes.sizeof(given))
if made < 0:
    raise OSError(ctypes.get_errno(), "clone3")
if made == 0:
    os.setgroups(groups)
    os.setgid(groups[0])
    os.setuid(int(uid))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    os.execv(program, words)
"""


def start_impostor(pid: int, network: str) -> None:
    """Start what looks like NETWORK's haproxy, as PID, and is not.

    In its namespace, as its user, with its words: a tail of its file.
    """
    config = host.config_of(network)
    uid, gid = host.ids_of(network)
    run(
        *(sys.executable, "-c", START_AS, str(pid)),
        str(NETNS_FOLDER / f"ovnmeta-{network}"),
        *(str(uid), f"{gid},{config.stat().st_gid}"),
        *(shutil.which("tail") or "", "haproxy", "-f", str(config)),
    )


@contextlib.contextmanager
def impostor_of(pid: int, key: str) -> Iterator[Callable[[], bool]]:
    """Have an impostor with the number PID of KEY's haproxy, which ends.

    Gives a way to tell whether it runs.
    """
    with hanging("supervisord"):  # it does not see that the number is free
        send_signal(pid, SIGKILL)
        wait_for(
            lambda: not Path(f"/proc/{pid}").exists(),
            timeout_s=60,
            what="its end",
        )
        start_impostor(pid, key)
    try:
        yield lambda: os.waitpid(pid, os.WNOHANG) == (0, 0)
    finally:
        # One that has ended has no number any more: another may have it.
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                send_signal(pid, SIGKILL)
                os.waitpid(pid, 0)


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
        (pid,) = chassis.haproxies(network)  # soon there are two
        killed = chassis.kill("supervisord")
        if looked:
            wait_for(
                lambda: accepts(FLEET / "supervisord.sock"),
                timeout_s=60,
                what="another supervisord",
            )
        with impostor_of(pid, network) as runs:
            chassis.wait_other("supervisord", killed)
            wait_for(
                lambda: chassis.instances[0].fetch(timeout=2).status == 200,
                timeout_s=90,
                what="the network's own haproxy",
            )
            wait_for(
                lambda: len(chassis.haproxies(chassis.keys[-2])) == 1,
                timeout_s=120,
                what="end of the other orphans",
            )
            chassis.wait_content()
            assert runs()
    chassis.wait_one_each()
    assert load.failures == []
