"""Entrypoints: supervisord and the haproxies that it runs."""

import functools
import threading
from collections.abc import Mapping
from pathlib import Path

from oslo_config import cfg

from .. import names, rootfiles, validate
from .. import settings as privileged
from ..context import entrypoint
from ..errors import SettingsError
from ..places import OLD_FOLDER
from ..settings import FleetSettings
from . import program
from .start import ensure_folders, ensure_supervisord
from .supervisord import TIMEOUT_S, Supervisord

_folders_lock = threading.Lock()
_LOOK_S = 2.0
_STATES = {"RUNNING": "running", "STARTING": "starting", "BACKOFF": "failing"}
# What supervisord notes of a haproxy that ended. Any other note says why it
# could not start one.
_ENDED = "Exited too quickly", "Bad exit code"


@functools.cache
def read_settings(*, runnable: bool = True) -> FleetSettings:
    """Return root's settings, from files that only root can write."""
    files = [Path(file) for file in cfg.CONF.config_file or ()]
    privileged.check_owner(files)
    settings = privileged.load(*files, runnable=runnable)
    if runnable:
        privileged.check_run_dir(settings)
    return settings


@entrypoint(subject=None)
def make_agent_lock() -> None:
    """Make the file that the one agent of this host locks."""
    settings = read_settings()
    ensure_folders(settings)
    rootfiles.ensure_agents_file(settings.places.agent_lock)


@entrypoint(subject="network")
def make_folders(network: str, *, users: str) -> None:
    """Make the folders of the haproxy of NETWORK (or "gateway").

    The agent owns them and shares them with that haproxy. USERS is as in
    `ensure`. Raises InvalidArgumentError, SettingsError, OSError.
    """
    settings = read_settings()
    network = validate.program(network)
    _check_users(users, settings)
    with _folders_lock:  # all networks share the configurations' folder
        ensure_folders(settings)
        for folder in settings.folders(network):
            rootfiles.ensure_shared_folder(folder)


@entrypoint(subject="network")
def remove_folders(network: str) -> bool:
    """Remove the folders of NETWORK (or "gateway").

    Returns whether any was there. Raises InvalidArgumentError, and
    SettingsError for a folder that has something else in it.
    """
    places = read_settings(runnable=False).places
    network = validate.program(network)
    folders = [places.read_folder(network), places.work_folder(network)]
    if network == names.GATEWAY:
        folders += [places.socket_folder, places.config_folder]
    found = [rootfiles.remove_shared_folder(folder) for folder in folders]
    return any(found)


def _check_users(users: object, settings: FleetSettings) -> None:
    """Raise SettingsError if the haproxies do not run as USERS.

    An agent that started before the settings changed would make files for
    one user, and we would start the haproxy as another.
    """
    if users != settings.users:
        raise SettingsError(
            "[fleet] user or network_ids in privileged.conf has changed; "
            "restart the agent"
        )


def old_folder(state_path: str) -> str:
    """Return the folder of Neutron's agent's configurations."""
    return f"{validate.folder(state_path)}/{OLD_FOLDER}"


@entrypoint(subject="network")
def ensure(network: str, *, users: str, mode: str) -> dict[str, str]:
    """Ensure that supervisord runs the haproxy of NETWORK (or "gateway").

    USERS is `FleetSettings.users` as the agent has it. A haproxy that runs
    is replaced if its program file has changed, or if clients do not reach
    it: the old one finishes when the new one serves. MODE is "ensure";
    "reload" to replace it in any case, so that the files are read again; or
    "renew" to kill the old one first, because it does not react.

    Returns `state`: "running"; "starting", until it serves; "started" if it
    had to be added, replaced or started; "failing" if it ended too soon
    and supervisord waits before its next try. `complaint` is the reason why
    it ended last, and its source: supervisord or the haproxy's log. It is ""
    without a reason, and in the other states.
    """
    settings = read_settings()
    network = validate.program(network)
    _check_users(users, settings)
    text = program.render_program(network, settings)
    name = names.program_name(network)
    mode = validate.mode(mode)
    file = settings.places.program(network)
    ensure_folders(settings)  # somebody may have removed one
    rootfiles.write_if_different(file, text)
    with Supervisord(settings) as rpc:
        found = rpc.call("fleet.state", name) if mode == "ensure" else ""
        if not found:
            rpc.call("fleet.start", name, mode == "renew")
            return {"state": "started", "complaint": ""}
        complaint = ""
        if found != "RUNNING":
            log = settings.places.logs / f"{network}.log"
            complaint = _complaint(rpc, name, state=found, log=log)
        return {"state": _STATES[found], "complaint": complaint}


def _complaint(rpc: Supervisord, name: str, *, state: str, log: Path) -> str:
    said = ""
    if state == "BACKOFF":  # otherwise supervisord could start it
        said = str(rpc.call("supervisor.getProcessInfo", name)["spawnerr"])
    if said and not said.startswith(_ENDED):
        return f"supervisord says: {said}"
    line = rootfiles.last_complaint(log)
    return line and f"its log says: {line}"


@entrypoint(subject=None)
def share_socket(gid: int) -> None:
    """Give the gateway's socket for everybody to the group GID.

    haproxy may not, because it is in no group except its own. Raises
    InvalidArgumentError, OSError; SettingsError if it is no haproxy's socket.
    """
    settings = read_settings()
    rootfiles.share_socket(
        str(settings.places.public_socket),
        uid=settings.uid,
        gid=validate.gid(gid),
    )


@entrypoint(subject="network")
def remove(network: str, state_path: str) -> bool:
    """End the haproxies of NETWORK; return whether there was any.

    A stale one that `sweep` has found counts. This does not wait for their
    end.
    """
    # Not runnable: haproxy may have been uninstalled.
    settings = read_settings(runnable=False)
    network = validate.program(network)
    folder = old_folder(state_path)
    name = names.program_name(network)
    files = [*settings.places.programs.glob(f"*{network}.*")]
    # First: a supervisord that is started meanwhile would run it.
    for file in files:
        file.unlink(missing_ok=True)
    with Supervisord(settings) as rpc:
        ended = bool(rpc.call("fleet.end", name, folder))
    for place in (settings.places.pid("").parent, settings.places.logs):
        for left in place.glob(f"{network}.*"):
            left.unlink(missing_ok=True)
    return ended or bool(files)


@entrypoint(subject="state_path")
def sweep(state_path: str) -> tuple[str, ...]:
    """Return the networks with haproxies that supervisord does not run.

    An earlier supervisord has left them, or Neutron's agent. Those whose
    network a program serves are told to finish. The others run until a
    program serves, or until `remove`.
    """
    folder = old_folder(state_path)
    with Supervisord(read_settings(runnable=False)) as rpc:
        return tuple(rpc.call("fleet.sweep", folder))


@entrypoint(subject=None)
def list_programs(*, start: bool) -> dict[str, Mapping[str, object]]:
    """Return network (or "gateway") -> state of its program.

    The state has `state` (supervisord's word, RUNNING for a good one),
    `pid` and `start` (seconds since the epoch). A program that has only a
    file is GONE. With START, supervisord is started if it does not run;
    without, it has little time to answer. Raises SettingsError, FleetError,
    OSError.
    """
    settings = read_settings(runnable=False)
    if validate.flag(start):
        privileged.check_run_dir(settings)
        ensure_supervisord(settings)
    timeout_s = TIMEOUT_S if start else _LOOK_S
    with Supervisord(settings, timeout_s=timeout_s) as rpc:
        return programs(settings, rpc)


def programs(
    settings: FleetSettings, rpc: Supervisord | None
) -> dict[str, Mapping[str, object]]:
    """Return the states of programs that have a file or that RPC knows."""
    found: dict[str, Mapping[str, object]] = {}
    for file in settings.places.programs.glob("*.ini"):
        if names.is_program(file.stem):
            found[file.stem] = {"state": "GONE", "pid": 0, "start": 0}
    for line in rpc.call("fleet.programs").splitlines() if rpc else ():
        name, state, pid, start = line.split()
        network = names.network_of_program(name)
        if network is not None:
            found[network] = {
                "state": state,
                "pid": int(pid),
                "start": int(start),
            }
    return found
