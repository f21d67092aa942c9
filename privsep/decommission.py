"""Entrypoints: look at the fleet as it is, and end all of it.

For `ovn-metadata-cleanup`; the agent has no use for them.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from . import fleet, names, orphans
from .context import entrypoint
from .rpc import Supervisord
from .settings import FleetSettings

# For what was told to end; three such waits are within a call's time.
_END_TIMEOUT_S = 5.0
# In the fleet's folder, beside those of the programs.
_OWN_FILES = (
    "supervisord.conf",
    "supervisord.pid",
    "start.lock",
    "agent.lock",
    names.GATEWAY_SOCKET,
    # What somebody was killed over.
    f".{names.GATEWAY_SOCKET}.new",
    ".supervisord.conf.new",
)


@entrypoint(subject=None)
def inventory(state_path: str) -> Mapping[str, object]:
    """Return what there is of the fleet; change nothing.

    `supervisord`: its pid, 0 without one; `detached`: whether the agent had
    it started, and it ends by `shut_down`; `programs`: the networks (or
    "gateway") that it knows or that have a program file; `orphans`: network
    -> pids of haproxies that it does not run; `folder`: that of its files,
    "" if there is none.
    """
    settings = fleet.read_settings(runnable=False)
    folder = str(fleet.places_of(state_path).config_folder)
    programs = {network for network, _ in _program_files(settings)}
    children: set[int] = set()
    pid = 0
    with Supervisord(settings) as rpc:
        if rpc.answers():
            pid = rpc.call("supervisor.getPID")
            for info in rpc.call("supervisor.getAllProcessInfo"):
                children.add(info["pid"])
                network = names.network_of_program(info["name"])
                programs |= {network} if network else set()
    return {
        "supervisord": pid,
        "detached": _is_detached(pid),
        "programs": tuple(sorted(programs)),
        "orphans": _orphans(folder, children),
        "folder": str(settings.run_dir) if settings.run_dir.is_dir() else "",
    }


@entrypoint(subject="state_path")
def shut_down(state_path: str) -> None:
    """End all haproxies of the fleet and remove what root has of it.

    supervisord goes too, unless `ovn-metadata-fleet` runs it: somebody
    would start it again. Raises FleetError, OSError half-way: call again.
    """
    settings = fleet.read_settings(runnable=False)
    folder = str(fleet.places_of(state_path).config_folder)
    # First: a supervisord that is started would run them.
    for _, file in _program_files(settings):
        file.unlink(missing_ok=True)
    with Supervisord(settings) as rpc:
        there = rpc.answers()
    # Nobody else may signal the fleet's user's processes.
    if not there and _orphans(folder, set()):
        there = fleet.ensure_supervisord(settings)
    stays = there and _end_haproxies(settings, folder)
    _remove_files(settings, everything=not stays)


def _program_files(settings: FleetSettings) -> Iterator[tuple[str, Path]]:
    """Yield networks (or gateway) with their program files."""
    for file in settings.programs.glob("*.conf"):
        network = names.network_of_program(names.program_name(file.stem))
        if network is not None:
            yield network, file


def _orphans(folder: str, children: set[int]) -> dict[str, list[int]]:
    """Return network -> pids of haproxies on FOLDER, without CHILDREN.

    By their command lines, which is all that may be seen from here:
    `Orphan.end` looks closer.
    """
    found: dict[str, list[int]] = {}
    for orphan in orphans.scan():
        network = orphans.network_of(orphan.config, folder)
        if network is not None and orphan.pid not in children:
            found.setdefault(network, []).append(orphan.pid)
    return found


def _is_detached(pid: int) -> bool:
    """Tell whether PID is a supervisord that nobody waits for."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"supervisor.supervisord" in words and b"--nodaemon" not in words


def _end_haproxies(settings: FleetSettings, folder: str) -> bool:
    """End all of them, then supervisord; tell whether that stays."""
    with Supervisord(settings) as rpc:
        rpc.call("supervisor.stopAllProcesses")  # side by side
        for info in rpc.call("supervisor.getAllProcessInfo"):
            rpc.stop_and_forget(info["name"])
        left = rpc.call("fleet.sweep", folder, settings.haproxy)
        pids = {p for found in _orphans(folder, set()).values() for p in found}
        with _awaited(pids):
            for network in left:
                config = f"{folder}/{names.config_file(network)}"
                rpc.call("fleet.end_orphans", config, settings.haproxy)
        pid = rpc.call("supervisor.getPID")
        if not _is_detached(pid):
            return True
        with _awaited([pid]):
            rpc.call("supervisor.shutdown")
    return False


@contextlib.contextmanager
def _awaited(pids: Iterable[int]) -> Iterator[None]:
    """Have PIDS told to end inside; wait until they have, or too long."""
    waiter = select.poll()
    with contextlib.ExitStack() as stack:
        left = set()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                stack.callback(os.close, descriptor)
                waiter.register(descriptor, select.POLLIN)
                left.add(descriptor)
        yield
        deadline = time.monotonic() + _END_TIMEOUT_S
        while left and (seconds := deadline - time.monotonic()) > 0:
            for descriptor, _ in waiter.poll(seconds * 1000):
                waiter.unregister(descriptor)
                left.discard(descriptor)


def _remove_files(settings: FleetSettings, *, everything: bool) -> None:
    """Remove what is ours of the fleet's folder: its logs, or EVERYTHING.

    By name: root may have put the folder where others have files too.
    """
    for log in settings.logs.glob("*.log*"):
        network = log.name.partition(".log")[0]
        if names.network_of_program(names.program_name(network)) or (
            everything and network == "supervisord"
        ):
            log.unlink(missing_ok=True)
    if not everything:
        return
    for name in (*_OWN_FILES, settings.socket.name):
        (settings.run_dir / name).unlink(missing_ok=True)
    for folder in (settings.programs, settings.logs, settings.run_dir):
        with contextlib.suppress(OSError):  # there is more in it, or nothing
            folder.rmdir()
