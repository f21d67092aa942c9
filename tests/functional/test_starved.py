"""What runs out, and is there again: disk, descriptors, memory.

Instances are served all the while, an operator is told what lacks, and all
goes on by itself when it is there again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Network, cgroups, wait_for
from sandbox.case import wait_served
from sandbox.continuity import Chassis, Measure, make_chassis, pause
from sandbox.daemons import run
from sandbox.host import FLEET, HOME, SERVICE_USER, ids
from sandbox.hoststate import wait_host
from sandbox.processes import Process, cpu_s, limit_descriptors

OPTIONS = {("ovn_metadata_agent", "resync_interval"): "5"}
DISK = "size=4m"
# A call of supervisord's is given up after 20 s, and the daemon carries out
# two at a time: the network's own may be the third. After many failures the
# next try is a minute away.
TOLD_S = 150.0
# That of agent-status, and of a probe: the agent may have a descriptor in the
# end.
PATIENCE_S = 0.7
MEMORY = 4096  # bytes, in addition to what the agent has


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Have FOLDER be a disk of its own."""
    folder.mkdir(exist_ok=True)
    options = f"{DISK},{options}"
    run("mount", "-t", "tmpfs", "-o", options, "small", str(folder))
    try:
        yield
    finally:
        run("umount", "--lazy", str(folder))


@pytest.fixture(scope="module")
def chassis(host) -> Iterator[Chassis]:
    uid, gid = ids(SERVICE_USER)
    host.clear()  # while its folders are the ones of its sandbox
    with (
        small_disk(HOME, f"mode=0755,uid={uid},gid={gid}"),
        small_disk(FLEET, "mode=0711"),
    ):
        yield make_chassis(host.sandbox(OPTIONS))
        host.clear()


@pytest.fixture
def measure(record_property, chassis) -> Measure:
    return Measure(record_property, chassis)


def settled(chassis: Chassis) -> dict[str, list[int]]:
    """Return the fleet, once nothing of the test before goes on there."""
    chassis.wait_one_each()
    return chassis.fleet()


# ----------------------------------------------------------------- disk


@contextlib.contextmanager
def full() -> Iterator[None]:
    """Have no room on the disk of the haproxies' files."""
    filler = FLEET / "filler"
    with (
        filler.open("wb", buffering=0) as file,
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
    ):
        [file.write(bytes(4096)) for _ in itertools.count()]
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """Have state_path's disk take nothing, as after an I/O error."""
    run("mount", "-o", "remount,ro", str(HOME))
    try:
        yield
    finally:
        run("mount", "-o", "remount,rw", str(HOME))


def network_with_instance(
    chassis: Chassis, name: str, *, wait: bool
) -> tuple[Network, Instance]:
    """Return a new network and an instance on it."""
    box = chassis.box
    network = box.neutron.create_network(name)
    (instance,) = box.plug([box.neutron.create_port(network)], wait=False)
    if wait:
        wait_served(instance)
    return network, instance


def said(chassis: Chassis, network: Network, folder: Path, code: int) -> bool:
    """Tell whether agent-status names NETWORK, FOLDER and error CODE."""
    status = chassis.box.agent.status()
    failed = f"{network.id} ({network.name}): FAILED"
    lines = [line for line in status.stdout.splitlines() if failed in line]
    return (
        status.returncode == 3
        and len(lines) == 1
        and str(folder) in lines[0]
        and os.strerror(code) in lines[0]
    )


@pytest.mark.parametrize(
    ("trouble", "folder", "code"),
    [
        pytest.param(full, FLEET, errno.ENOSPC, id="full"),
        pytest.param(read_only, HOME, errno.EROFS, id="read-only"),
    ],
)
def test_disk_that_takes_nothing(chassis, measure, trouble, folder, code):
    """What is served is served on, but for rights that are taken away."""
    box = chassis.box
    before = settled(chassis)
    moving, instance = network_with_instance(chassis, "moving", wait=True)
    option = "run_dir" if folder == FLEET else "state_path"
    what = f"{option}: {os.strerror(code)}"
    with measure.load(what) as load:
        with trouble():
            fresh, late = network_with_instance(chassis, "late", wait=False)
            wait_for(
                lambda: said(chassis, fresh, folder, code),
                timeout_s=TOLD_S,
                what="agent-status that names the disk",
            )
            if folder == HOME:  # no file that its haproxy needs is there
                wait_served(late)
            # Its network is served: only the haproxy has to know of it.
            (guest,) = box.plug([box.neutron.create_port(moving)], wait=False)
            wait_served(guest)
            # To another instance: the one before is to lose it at once.
            was = instance.instance_id
            box.neutron.update_port(
                instance.port, instance_id=str(uuid.uuid4())
            )
            wait_for(
                # Held for 8 s while its new owner is in no map.
                lambda: instance.fetch(timeout=10).text != was,
                timeout_s=TOLD_S,
                what="end of another's identity",
            )
            box.nova.register(instance.instance_id, instance.port.project_id)
        for one in (late, instance):
            wait_served(one, timeout_s=TOLD_S)
        chassis.wait_content()
    assert load.failures == []
    assert chassis.fleet() == before
    wait_host(box, moving, instance.port, guest.port)
    box.unplug([late, instance, guest])
    for network in (fresh, moving):
        wait_host(box, network)
        box.neutron.delete_network(network)
    assert "Traceback" not in box.agent.log()


def test_agent_that_starts_on_a_read_only_disk_says_so(chassis, measure):
    """And ends, for systemd to try again; the networks are served on."""
    box = chassis.box
    before = settled(chassis)
    what = "Start the agent on a read-only state_path, then on a mended one"
    with measure.load(what) as load:
        with read_only():
            box.agent.kill9()
            box.agent.start()
            wait_for(
                lambda: not box.agent.running, timeout_s=60, what="its end"
            )
        lines = box.agent.log().splitlines()
        assert any(
            str(HOME) in line and "read-only" in line for line in lines[-3:]
        ), lines[-3:]
        box.agent.start()
        box.agent.wait_ready()
    assert load.failures == []
    assert chassis.fleet() == before


# ---------------------------------------------------------- descriptors


def descriptors(process: Process) -> set[int]:
    """Return the numbers of what PROCESS has open."""
    return {int(e.name) for e in Path(f"/proc/{process.pid}/fd").iterdir()}


@contextlib.contextmanager
def no_descriptors(process: Process) -> Iterator[None]:
    """Have PROCESS open nothing more: its limit is the first number free.

    The lowest one within a second counts: the agent connects to the gateway
    twice a second, and could use the descriptor of that connection.
    """
    was = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    number, deadline = was, time.monotonic() + 1
    while time.monotonic() < deadline:
        used = descriptors(process)
        free = next(n for n in itertools.count() if n not in used)
        number = min(number, free)
    limit_descriptors(process.pid, number)
    try:
        yield
    finally:
        limit_descriptors(process.pid, was)


BACKLOG = 20


@contextlib.contextmanager
def many_connections(process: Process) -> Iterator[None]:
    """Have supervisord, PROCESS, use up its descriptors for connections.

    A limit below what it uses already would end it: poll(2) refuses that.
    """
    was = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    number = max(descriptors(process)) + 1
    limit_descriptors(process.pid, number)
    with contextlib.ExitStack() as stack:
        stack.callback(limit_descriptors, process.pid, was)

        def connect() -> None:
            link = stack.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(str(FLEET / "supervisord.sock"))

        def none_left() -> bool:
            if len(descriptors(process)) >= number:
                return True
            connect()
            return False

        wait_for(none_left, timeout_s=60, what="end of its descriptors")
        # It opens some for a moment only. These take them when it closes them.
        for _ in range(BACKLOG):
            connect()
        yield


NO_DESCRIPTORS = os.strerror(errno.EMFILE)


@pytest.mark.parametrize(
    ("kind", "lack", "words", "code"),
    [
        # It can't answer agent-status either, which a probe sees.
        pytest.param("agent", no_descriptors, NO_DESCRIPTORS, 1, id="agent"),
        pytest.param(
            "privsep", no_descriptors, NO_DESCRIPTORS, 3, id="privsep"
        ),
        pytest.param(
            "supervisord",
            many_connections,
            "supervisord hangs",
            3,
            id="supervisord",
        ),
    ],
)
def test_out_of_descriptors(chassis, measure, kind, lack, words, code):
    """It is told, nobody is served worse, and in the end all goes on."""
    box = chassis.box
    before = settled(chassis)
    process = chassis.process(kind)
    logs = box.agent.log_file
    with measure.load(f"Have no descriptor left in {kind}") as load:
        begun = len(logs.read_text())
        with lack(process):
            fresh, late = network_with_instance(chassis, "late", wait=False)
            wait_for(
                lambda: words in logs.read_text()[begun:],
                timeout_s=TOLD_S,
                what="a word of it in the log",
            )
            # The network's own call may fail after the one that was logged.
            wait_for(
                lambda: (
                    box.agent.status(patience_s=PATIENCE_S).returncode == code
                ),
                timeout_s=TOLD_S,
                what=f"exit code {code} of agent-status",
            )
            used, since = cpu_s(process.pid), time.monotonic()
            pause(3)
            used = cpu_s(process.pid) - used
            share = used / (time.monotonic() - since)
        wait_served(late, timeout_s=TOLD_S)
        chassis.wait_content()
    print(f"{kind}: {100 * share:.0f} % of a CPU while it had none")
    assert load.failures == []
    assert chassis.fleet() == before
    assert chassis.process(kind).pid == process.pid
    assert kind == "supervisord" or share < 0.25
    box.unplug([late])
    wait_host(box, fresh)
    box.neutron.delete_network(fresh)


# --------------------------------------------------------------- memory


def test_out_of_memory(chassis, measure):
    """The kernel kills the agent, and nobody but those who start it notice."""
    box = chassis.box
    before = settled(chassis)
    with measure.load("Have the kernel kill the agent for its memory") as load:
        try:
            with cgroups.limited_memory(box.agent.pid, MEMORY):
                box.agent.configure(
                    {("metadata_haproxy", "timeout_queue"): "31"}
                )
                box.agent.reload()
                wait_for(
                    lambda: not box.agent.running,
                    timeout_s=120,
                    what="its end",
                )
        except cgroups.NoLimitError as error:
            pytest.skip(str(error))
        box.agent.start()
        box.agent.wait_ready()
    assert load.failures == []
    assert chassis.fleet() == before
