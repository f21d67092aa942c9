"""Entrypoints: supervisord and the haproxies it runs."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping

import psutil
from oslo_config import cfg
from supervisor.xmlrpc import Faults

from .. import kernel, names, rootfiles, validate
from .. import settings as privileged
from ..context import entrypoint
from ..errors import FleetError, SettingsError
from ..places import OLD_FOLDER
from ..settings import FleetSettings
from . import program, stale
from .supervisord import RefusedError, Supervisord

START_TIMEOUT_S = 15.0
UNIT_TIMEOUT_S = 5.0
_UNIT_POLL_S = 0.1
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
_folders_lock = threading.Lock()

# Others may pass through to the agent's lock; all else in it is root's.
_RUN_DIR_MODE = 0o711


@functools.cache
def read_settings(*, runnable: bool = True) -> FleetSettings:
    """Return root's settings, from files that root alone can write."""
    privileged.check_owner(cfg.CONF.config_file or ())
    return privileged.read(cfg.CONF, runnable=runnable)


@entrypoint(subject=None)
def make_agent_lock() -> None:
    """Make the file that this host's one agent locks, for the agent."""
    settings = read_settings()
    _ensure_folders(settings)
    rootfiles.ensure_agents_file(settings.agent_lock)


@entrypoint(subject=None)
def prepare() -> bool:
    """Make the gateway's folders and ensure that supervisord runs.

    Tells whether one had to be started. Raises SettingsError, FleetError,
    OSError.
    """
    settings = read_settings()
    _ensure_folders(settings)
    started = ensure_supervisord(settings)
    with Supervisord(settings) as rpc:
        rpc.check_version()  # before anything is made as it is not used to
    _make_shared_folders(names.GATEWAY, settings)
    return started


@entrypoint(subject="network")
def make_folders(network: str, *, users: str) -> None:
    """Make the folders of the haproxy of NETWORK (or "gateway").

    They are the agent's, and shared with that haproxy. USERS is as in
    `ensure`. Raises InvalidArgumentError, SettingsError, OSError.
    """
    settings = read_settings()
    network = validate.program(network)
    _check_users(users, settings)
    _make_shared_folders(network, settings)


def _make_shared_folders(network: str, settings: FleetSettings) -> None:
    with _folders_lock:  # two networks have one in common
        for folder in settings.folders(network):
            rootfiles.ensure_shared_folder(folder)


@entrypoint(subject="network")
def remove_folders(network: str) -> bool:
    """Remove the folders of NETWORK (or "gateway"); tell if any was there.

    Raises InvalidArgumentError, SettingsError for what is not ours in one.
    """
    places = read_settings(runnable=False).places
    network = validate.program(network)
    folders = [places.read_folder(network), places.work_folder(network)]
    if network == names.GATEWAY:
        folders += [places.socket_folder, places.config_folder]
    found = [rootfiles.remove_shared_folder(folder) for folder in folders]
    return any(found)


def _check_users(users: object, settings: FleetSettings) -> None:
    """Raise SettingsError if USERS are not who the haproxies run as.

    Of an agent that is older than the settings: it would make files for one
    user, and we start the haproxy as another.
    """
    if users != settings.users:
        raise SettingsError(
            "[fleet] user or network_ids in privileged.conf has changed; "
            "restart the agent"
        )


def config_folders(
    state_path: str, settings: FleetSettings
) -> tuple[str, str]:
    """Return where configurations of ours are, or of an agent before us.

    Neutron's, or one of our older versions, with STATE_PATH.
    """
    old = f"{validate.folder(state_path)}/{OLD_FOLDER}"
    return str(settings.places.config_folder), old


@entrypoint(subject="network")
def ensure(network: str, *, users: str, renew: bool) -> dict[str, str]:
    """Have supervisord run the haproxy of NETWORK (or "gateway").

    USERS is `FleetSettings.users` as the agent has it. One that runs is
    replaced if its program file is another one by now, or if clients do not
    reach it: it finishes when the new one serves. With RENEW it is ended at
    once: for one that does not do as it is told.

    Returns `state`: "running"; "starting" for less than a second;
    "started" if it had to be added, replaced or started; "failing" if it
    ended too soon and supervisord waits before its next try: then `said`
    is what it complained of. Its being up is for the caller to see, on
    the stats socket.
    """
    settings = read_settings()
    network = validate.program(network)
    _check_users(users, settings)
    text = program.render_program(network, settings)
    name = names.program_name(network)
    renew = validate.flag(renew)
    rootfiles.write_if_different(
        settings.programs / names.config_file(network), text
    )
    with _supervisord(settings) as rpc:
        info = rpc.info(name)
        if info is None or renew or not rpc.call("fleet.is_as_written", name):
            rpc.call("fleet.start", name, renew)
            return {"state": "started", "said": ""}
        if info["statename"] in ("STARTING", "RUNNING"):
            return {"state": info["statename"].lower(), "said": ""}
        said = rootfiles.last_complaint(settings.logs / f"{network}.log")
        if info["statename"] == "BACKOFF":
            return {"state": "failing", "said": said}
        _start(rpc, name)
        return {"state": "started", "said": said}


def _start(rpc: Supervisord, name: str) -> None:
    """Start the program NAME, which supervisord knows and does not run."""
    wait = False
    try:
        rpc.call("supervisor.startProcess", name, wait)
    except RefusedError as error:
        if error.code != Faults.ALREADY_STARTED:
            raise


@entrypoint(subject="network")
def reload(network: str) -> None:
    """Have the haproxy of NETWORK (or "gateway") read its files again."""
    name = names.program_name(validate.program(network))
    with _supervisord(read_settings()) as rpc:
        rpc.call("supervisor.signalProcess", name, "HUP")


@entrypoint(subject="name")
def share_socket(name: str, gid: int) -> None:
    """Give the gateway's socket NAME for everybody to the group GID.

    haproxy has no right to, being in no group but its own. Raises
    InvalidArgumentError, SettingsError if no socket of haproxy's is there.
    """
    settings = read_settings()
    rootfiles.share_socket(
        f"{settings.places.socket_folder}/{validate.public_socket(name)}",
        uid=settings.uid,
        gid=validate.gid(gid),
    )


@entrypoint(subject="network")
def remove(network: str, state_path: str) -> bool:
    """Stop the haproxy of NETWORK and forget it; tell if it was there.

    A stale one that `sweep` has found counts.
    """
    # haproxy may have been uninstalled.
    settings = read_settings(runnable=False)
    network = validate.program(network)
    folders = config_folders(state_path, settings)
    name = names.program_name(network)
    file = settings.programs / names.config_file(network)
    existed = file.exists()
    # First: a supervisord that is started now would run it.
    file.unlink(missing_ok=True)
    with _supervisord(settings) as rpc:
        ended = rpc.call("fleet.end_stale", name, folders, settings.haproxy)
        known = rpc.info(name) is not None
        if known:
            rpc.stop_and_forget(name)
    for log in settings.logs.glob(f"{network}.log*"):
        log.unlink(missing_ok=True)
    return known or existed or bool(ended)


@entrypoint(subject="state_path")
def sweep(state_path: str) -> tuple[str, ...]:
    """Return the networks with haproxies that supervisord does not run.

    What an earlier supervisord left, or Neutron's agent. Where a program
    serves its network, they are told to finish; else they are left to
    the one that will, or to `remove`.
    """
    settings = read_settings(runnable=False)
    folders = config_folders(state_path, settings)
    with _supervisord(settings) as rpc:
        return tuple(rpc.call("fleet.sweep", folders, settings.haproxy))


@entrypoint(subject=None)
def list_programs() -> dict[str, Mapping[str, object]]:
    """Return network (or "gateway") -> state of its program.

    The state has `state` (supervisord's word, RUNNING for a good one),
    `pid` and `start` (seconds since the epoch). A supervisord that is not
    there is started first. What has only a program file is GONE.
    """
    settings = read_settings(runnable=False)
    ensure_supervisord(settings)
    with _supervisord(settings) as rpc:
        return _programs(settings, rpc)


def _programs(
    settings: FleetSettings, rpc: Supervisord | None
) -> dict[str, Mapping[str, object]]:
    """Return the states of those with a file, and those that RPC knows."""
    found: dict[str, Mapping[str, object]] = {}
    for file in settings.programs.glob("*.conf"):
        network = names.network_of_program(names.program_name(file.stem))
        if network is not None:
            found[network] = {"state": "GONE", "pid": 0, "start": 0}
    for info in rpc.call("supervisor.getAllProcessInfo") if rpc else ():
        network = names.network_of_program(info["name"])
        if network is not None:
            found[network] = {
                "state": info["statename"],
                "pid": info["pid"],
                "start": info["start"],
            }
    return found


def _haproxies(folders: Collection[str]) -> set[str]:
    """Return the networks with haproxies on configurations in FOLDERS."""
    return {
        one.network
        for one in stale.scan()
        if os.path.dirname(one.config) in folders
    }


@entrypoint(subject=None)
def look(state_path: str) -> Mapping[str, object]:
    """Return what there is of the fleet; start, end and change nothing.

    `programs`: the networks (or "gateway") that supervisord knows or that
    have a program file; `haproxies`: those with a haproxy; `folder`: that
    of its files, "" if there is none; `supervisord`: whether one runs;
    `is_service`: whether it is ovn-metadata-fleet's and not for `shut_down`
    to end.
    """
    settings = read_settings(runnable=False)
    haproxies = _haproxies(config_folders(state_path, settings))
    run_dir = settings.run_dir
    with Supervisord(settings) as rpc:
        there = rpc if rpc.answers() else None
        return {
            "programs": tuple(_programs(settings, there)),
            "haproxies": tuple(haproxies),
            "folder": str(run_dir) if run_dir.is_dir() else "",
            "supervisord": there is not None,
            "is_service": there is not None and _detached(rpc) is None,
        }


def _detached(rpc: Supervisord) -> psutil.Process | None:
    """Return the process of RPC's supervisord, if no service waits for it.

    In another container than ours its pid is not one of ours.
    """
    try:
        process = psutil.Process(rpc.call("supervisor.getPID"))
        words = process.cmdline()
    except psutil.Error:
        return None
    ours = "supervisor.supervisord" in words and "--nodaemon" not in words
    return process if ours else None


@entrypoint(subject="state_path")
def shut_down(state_path: str) -> None:
    """End supervisord and remove what root has of the fleet.

    After `remove` of all networks, if it runs. One of ovn-metadata-fleet's
    stays: somebody would start it again. Raises FleetError, OSError.
    """
    settings = read_settings(runnable=False)
    haproxies = _haproxies(config_folders(state_path, settings))
    with Supervisord(settings) as rpc:
        there = rpc if rpc.answers() else None
        process = _detached(there) if there is not None else None
        if there is not None and process is None:
            return
        if haproxies or (there is not None and _programs(settings, there)):
            raise FleetError("its haproxies have not ended yet")
        if process is not None:
            rpc.call("supervisor.shutdown")
            psutil.wait_procs([process], timeout=_END_TIMEOUT_S)
    # By name: root may have put the folder where others have files too.
    for file in (
        *settings.programs.glob("*.conf"),
        *settings.logs.glob("*.log*"),
        *(settings.run_dir / name for name in _OWN_FILES),
        settings.socket,
    ):
        file.unlink(missing_ok=True)
    own = (*settings.places.network_parents, settings.programs, settings.logs)
    for folder in (*own, settings.run_dir):
        with contextlib.suppress(OSError):  # there is more in it, or nothing
            folder.rmdir()


@contextlib.contextmanager
def _supervisord(settings: FleetSettings) -> Iterator[Supervisord]:
    """Give a connection to a supervisord that is there."""
    with Supervisord(settings) as rpc:
        try:
            yield rpc
        except (ConnectionError, FileNotFoundError) as error:
            raise FleetError(f"supervisord does not answer: {error}") from None


def ensure_supervisord(settings: FleetSettings) -> bool:
    """Start supervisord, detached, if none answers; tell whether it was.

    Where we may not gain privileges it could not: the capabilities that it
    needs are not ours. There ovn-metadata-fleet runs it.

    The lock keeps two daemons (an agent that was killed and its
    successor) from starting one each; supervisord itself refuses a socket
    on which another one answers.
    """
    with Supervisord(settings) as rpc:
        if rpc.answers():
            return False
    if kernel.has_no_new_privileges():
        _wait_for_unit(settings)
        return False
    write_configuration(settings)
    descriptor = os.open(
        settings.run_dir / "start.lock", os.O_RDWR | os.O_CREAT, 0o600
    )
    with os.fdopen(descriptor, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Supervisord(settings) as rpc:
            if rpc.answers():
                return False
        result = subprocess.run(
            program.supervisord_command(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath},
            start_new_session=True,
            umask=0o077,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        # It detaches once its socket listens, so this waits for an answer
        # and not for a while.
        with Supervisord(settings) as rpc:
            if rpc.answers():
                return True
    output = result.stdout.decode(errors="replace").strip()[-300:]
    raise FleetError(
        f"supervisord did not start (exit code {result.returncode}): "
        f"{output}; see {settings.logs}/supervisord.log"
    )


def _wait_for_unit(settings: FleetSettings) -> None:
    """Return when supervisord answers; that is soon if it is restarted."""
    deadline = time.monotonic() + UNIT_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(_UNIT_POLL_S)  # there is no event of its start
        with Supervisord(settings) as rpc:
            if rpc.answers():
                return
    raise FleetError(
        "supervisord does not answer, and this daemon can't start one "
        "(no_new_privs): start ovn-metadata-fleet"
    )


def write_configuration(settings: FleetSettings) -> None:
    """Make supervisord's folders and write its configuration."""
    _ensure_folders(settings)
    rootfiles.write_if_different(
        settings.run_dir / "supervisord.conf",
        program.render_supervisord(settings),
    )


def _ensure_folders(settings: FleetSettings) -> None:
    """Make root's own folders: supervisord's, and those of shared ones."""
    run_dir, places = settings.run_dir, settings.places
    if run_dir.is_dir() and not settings.programs.exists():
        ours = {settings.logs, places.config_folder, places.socket_folder}
        ours |= {*places.network_parents}
        others = {*os.listdir(run_dir)} - {path.name for path in ours}
        others = {name for name in others if not name.endswith(".new")}
        if others:
            raise SettingsError(
                f"[fleet] run_dir = {run_dir} holds other things "
                f"({min(others)}); give the fleet a folder of its own"
            )
    rootfiles.ensure_private_folder(run_dir, mode=_RUN_DIR_MODE)
    for folder in (settings.programs, settings.logs):
        rootfiles.ensure_private_folder(folder)
    for folder in places.network_parents:
        rootfiles.ensure_private_folder(folder, mode=0o755)
