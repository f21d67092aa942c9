"""Start supervisord: its folders, its configuration, and the process."""

import configparser
import fcntl
import logging
import os
import subprocess
import time
from pathlib import Path

from .. import kernel, names, rootfiles
from ..context import CALL_TIMEOUT_S
from ..errors import FleetError, SettingsError
from ..keyed_locks import KeyedLocks
from ..settings import FleetSettings
from . import program
from .supervisord import OTHER_VERSION, Supervisord

LOG = logging.getLogger(__name__)

# It loads for 0.6 s. On a host with too little CPU that takes longer than the
# agent waits for a call. One that is ended meanwhile would begin again.
START_TIMEOUT_S = 90.0
UNIT_TIMEOUT_S = 5.0
# The agent gives such a call up and calls again. A call that waits here ends
# then, too: else the calls that wait would take all threads of the daemon.
_starting = KeyedLocks()
_UNIT_POLL_S = 0.1

# Others pass through it to the agent's lock; only root can read the rest.
_RUN_DIR_MODE = 0o711


def ensure_supervisord(settings: FleetSettings) -> None:
    """Start supervisord, detached, if none answers.

    Where we may not gain privileges we can't start it: it needs capabilities
    that we do not have. There ovn-metadata-fleet runs it.
    """
    if _answers(settings):
        return
    if kernel.has_no_new_privileges():
        _wait_for_unit(settings)
        return
    write_configuration(settings)
    lock = settings.places.start_lock
    # Two daemons would start one each, after an agent was killed: its own, and
    # its successor's. supervisord itself refuses a socket on which another one
    # answers.
    flags = os.O_RDWR | os.O_CREAT
    with (
        _starting.held("supervisord", CALL_TIMEOUT_S),
        kernel.closing(os.open(lock, flags, 0o600)) as held,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        if _answers(settings):
            return
        # It detaches once its socket listens: no need to poll for that.
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
        if _answers(settings):
            LOG.info("supervisord was started")
            return
    output = result.stdout.decode(errors="replace").strip()[-300:]
    raise FleetError(
        f"supervisord did not start (exit code {result.returncode}): "
        f"{output}; see {settings.places.logs}/supervisord.log"
    )


def _answers(settings: FleetSettings) -> bool:
    """Return whether one answers; raise FleetError if it does not fit.

    supervisord still runs after an upgrade of the package, with the older
    code, which expects other folders.
    """
    with Supervisord(settings) as rpc:
        version = rpc.version()
    if version not in (0, names.FLEET_PROTOCOL):
        raise FleetError(OTHER_VERSION)
    return version != 0


def _wait_for_unit(settings: FleetSettings) -> None:
    """Return when supervisord answers; that is soon if it is restarted."""
    deadline = time.monotonic() + UNIT_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(_UNIT_POLL_S)  # there is no event of its start
        if _answers(settings):
            return
    raise FleetError(
        "supervisord does not answer, and this daemon can't start one "
        "(no_new_privs): start ovn-metadata-fleet"
    )


def write_configuration(settings: FleetSettings) -> None:
    """Make supervisord's folders and write its configuration."""
    ensure_folders(settings)
    _remove_unreadable(settings.places.programs)
    rootfiles.write_if_different(
        settings.places.supervisord_conf,
        program.render_supervisord(settings),
    )


def _remove_unreadable(folder: Path) -> None:
    """Remove the programs in FOLDER with which supervisord would not start.

    The agent writes its own again.
    """
    for file in folder.glob("*.ini"):
        try:
            configparser.RawConfigParser().read(file)
        except (configparser.Error, UnicodeDecodeError) as error:
            LOG.warning("%s is no program, removed: %s", file, error)
            file.unlink()


def check_use(settings: FleetSettings) -> None:
    """Raise SettingsError if the run folder is in use for something else."""
    run_dir, places = settings.run_dir, settings.places
    known = places.programs, places.socket
    may_look = os.access(run_dir, os.R_OK | os.X_OK)  # or somebody closed it
    if may_look and not any(path.exists() for path in known):
        ours = [places.logs, places.config_folder, places.socket_folder]
        # A start while ovn-metadata-cleanup removes all this leaves the lock.
        ours += [*places.network_parents, places.agent_lock]
        left = {*os.listdir(run_dir)} - {path.name for path in ours}
        if others := {name for name in left if not name.endswith(".new")}:
            raise SettingsError(
                f"[fleet] run_dir = {run_dir} holds other things "
                f"({min(others)}); give the fleet a folder of its own"
            )


def ensure_folders(settings: FleetSettings) -> None:
    """Make root's own folders: supervisord's, and the parents of shared ones.

    Raises SettingsError as `check_use`.
    """
    check_use(settings)
    places = settings.places
    rootfiles.ensure_private_folder(settings.run_dir, mode=_RUN_DIR_MODE)
    for folder in (places.programs, places.logs):
        rootfiles.ensure_private_folder(folder)
    for folder in places.network_parents:
        rootfiles.ensure_private_folder(folder, mode=0o755)
