"""Disk, descriptors, the privileged daemon, supervisord, the agent."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import signal
from collections.abc import Iterator

from .. import host, wait_for
from ..continuity import hanging
from ..daemons import run
from ..hoststate import haproxies
from ..processes import limit_descriptors, processes, send_signal, sole
from .scene import Scene
from .table import fault

_FEW = 4  # all that are open are above it


@fault("403")
def disk_full(scene: Scene) -> Iterator[None]:
    """The disk of haproxy's files is full: nothing new is served."""
    filler = host.FLEET / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            for _ in itertools.count():
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    scene.newcomer()
    yield
    filler.unlink()
    scene.remove_newcomer()


@fault("403", slow=True)
def disk_without_inodes(scene: Scene) -> Iterator[None]:
    """The disk of haproxy's files has space, and takes no further file."""
    folder = host.FLEET / "filler"
    run("mount", "-o", "remount,nr_inodes=200", str(host.FLEET))
    folder.mkdir()
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (folder / str(number)).touch()
    scene.newcomer()
    yield
    shutil.rmtree(folder)
    scene.remove_newcomer()


@fault("307", cuts=False, heals=True, slow=True)
def fleet_folder_emptied(scene: Scene) -> Iterator[None]:
    """Somebody has emptied the folder of the fleet."""
    for entry in host.FLEET.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    yield
    scene.resync()


@fault("404", "303", "301", "306", heals=True, slow=True)
def haproxy_out_of_descriptors(scene: Scene) -> Iterator[None]:
    """The network's haproxy may open no further descriptor."""
    (pid,) = haproxies(scene.box, scene.key)
    limit_descriptors(pid, _FEW)
    yield
    with contextlib.suppress(FileNotFoundError):  # it was replaced
        limit_descriptors(pid, 4096)


@fault("404", "407", cuts=False, slow=True)
def agent_out_of_descriptors(scene: Scene) -> Iterator[None]:
    """The agent may open no further descriptor."""
    pid = scene.box.agent.pid
    limit_descriptors(pid, _FEW)
    yield
    limit_descriptors(pid, 1024)


@fault("401", slow=True)
def privileged_daemon_hangs(scene: Scene) -> Iterator[None]:
    """The privileged daemon hangs: nothing new is served."""
    pid = sole("privsep").pid
    send_signal(pid, signal.SIGSTOP)
    scene.newcomer()
    yield
    send_signal(pid, signal.SIGKILL)
    scene.remove_newcomer()


@fault("401")
def privileged_daemon_does_not_start(scene: Scene) -> Iterator[None]:
    """sudo's rule is gone, and so is the daemon."""
    rule = host.SUDOERS_FOLDER / "ovn-metadata-agent"
    text = rule.read_text()
    rule.unlink()
    send_signal(sole("privsep").pid, signal.SIGKILL)
    scene.newcomer()
    yield
    rule.write_text(text)
    rule.chmod(0o440)
    scene.remove_newcomer()


@fault("302", cuts=False)
def supervisord_hangs(scene: Scene) -> Iterator[None]:
    """supervisord hangs: its haproxies serve on."""
    pid = sole("supervisord").pid
    send_signal(pid, signal.SIGSTOP)
    yield
    send_signal(pid, signal.SIGKILL)
    _wait_another(pid)


@fault("302", cuts=False, heals=True, slow=True)
def supervisord_dead(scene: Scene) -> Iterator[None]:
    """supervisord has died; the next one takes its haproxies over."""
    pid = sole("supervisord").pid
    send_signal(pid, signal.SIGKILL)
    yield
    _wait_another(pid)


def _wait_another(pid: int) -> None:
    """Wait until another supervisord than PID runs."""
    wait_for(
        lambda: {p.pid for p in processes("supervisord")} - {pid},
        timeout_s=90,
        what="another supervisord",
    )


@fault("407", cuts=False, slow=True)
def agent_hangs(scene: Scene) -> Iterator[None]:
    """The agent hangs: agent-status can't ask it."""
    with hanging("agent"):
        yield


@fault("407", cuts=False)
def agent_dead(scene: Scene) -> Iterator[None]:
    """The agent has died: its haproxies serve on."""
    scene.box.agent.kill9()
    yield
    scene.box.agent.start()
