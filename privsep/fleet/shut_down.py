"""Entrypoints of ovn-metadata-cleanup: what there is, and its removal."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import psutil

from .. import rootfiles
from ..context import entrypoint
from ..errors import FleetError
from ..settings import FleetSettings
from . import stale
from .calls import old_folder, programs, read_settings
from .supervisord import Supervisord

_END_TIMEOUT_S = 5.0


@entrypoint(subject=None)
def look(state_path: str) -> Mapping[str, Any]:
    """Return what there is of the fleet; start, end and change nothing.

    `programs`: the networks (or "gateway") that supervisord knows or that
    have a program file; `haproxies`: those with a haproxy; `folder`: that
    of the fleet's files, "" if there is none; `supervisord`: whether one
    runs; `is_service`: whether ovn-metadata-fleet runs it, so that
    `shut_down` leaves it alone.
    """
    settings = read_settings(runnable=False)
    haproxies = _haproxies(state_path, settings)
    run_dir = settings.run_dir
    with Supervisord(settings) as rpc:
        there = rpc if rpc.version() else None
        return {
            "programs": tuple(programs(settings, there)),
            "haproxies": tuple(haproxies),
            "folder": str(run_dir) if run_dir.is_dir() else "",
            "supervisord": there is not None,
            "is_service": there is not None and _detached(rpc) is None,
        }


@entrypoint(subject="state_path")
def shut_down(state_path: str) -> None:
    """End supervisord and remove what root has of the fleet.

    Call `remove` for each network first, if supervisord runs. One that
    ovn-metadata-fleet runs stays: the service would be started again.
    Raises FleetError, also until the haproxies have ended, SettingsError for
    a folder of files that has folders in it, and OSError.
    """
    settings = read_settings(runnable=False)
    haproxies = _haproxies(state_path, settings)
    with Supervisord(settings) as rpc:
        there = rpc if rpc.version() else None
        process = _detached(there) if there is not None else None
        if there is not None and process is None:
            return
        if haproxies or (there is not None and programs(settings, there)):
            raise FleetError("its haproxies have not ended")
        if process is not None:
            rpc.call("supervisor.shutdown")
            psutil.wait_procs([process], timeout=_END_TIMEOUT_S)
    places = settings.places
    # A run that was killed may have left them, without a gateway. Without our
    # programs' folder they may be somebody else's.
    if places.programs.exists():
        for folder in (places.socket_folder, places.config_folder):
            rootfiles.remove_shared_folder(folder)
    _remove_own_files(settings)


def _haproxies(state_path: str, settings: FleetSettings) -> set[str]:
    """Return the networks with haproxies on configurations of ours."""
    folders = str(settings.places.config_folder), old_folder(state_path)
    return {
        one.network
        for one in stale.scan()
        if os.path.dirname(one.config) in folders
    }


def _detached(rpc: Supervisord) -> psutil.Process | None:
    """Return RPC's supervisord if the daemon started it; else None.

    A service's stays in the foreground. One in another container has a pid
    that is not one of ours.
    """
    try:
        process = psutil.Process(rpc.call("supervisor.getPID"))
        words = process.cmdline()
    except psutil.Error:
        return None
    ours = "supervisor.supervisord" in words and "--nodaemon" not in words
    return process if ours else None


def _remove_own_files(settings: FleetSettings) -> None:
    """Remove root's files of the fleet, then the folders that are empty.

    By name: root may have set a folder in which others have files too.
    """
    places = settings.places
    replaced = (places.gateway_socket, places.supervisord_conf)
    for file in (
        *places.programs.glob("*.*"),
        *places.pid("").parent.glob("*.*"),
        *places.logs.glob("*.log*"),
        *(places.socket, places.supervisord_pid, places.request_log),
        *(places.start_lock, places.agent_lock, *replaced),
        # Left by a process that was killed while it replaced the other.
        *(file.with_name(f".{file.name}.new") for file in replaced),
    ):
        file.unlink(missing_ok=True)
    own = (*places.network_parents, places.programs, places.logs)
    for folder in (*own, settings.run_dir):
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()
