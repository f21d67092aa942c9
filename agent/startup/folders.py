"""The agent's folders, and the lock that allows one agent per host."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from ...privsep import settings as fleet_settings
from ...privsep.settings import FleetSettings
from ..config.settings import Settings
from ..errors import StartError
from ..haproxy.places import Places


def places(settings: Settings, fleet: FleetSettings) -> Places:
    """Return where the haproxies' files are."""
    return Places(fleet.run_dir, settings.state_path, settings.pids_path)


def ensure(
    settings: Settings, *, make: bool = True, roots_are_ours: bool = False
) -> None:
    """Make our folders; raise StartError if we can't write to them.

    Without MAKE, only check whether we could make them. With ROOTS_ARE_OURS,
    a folder owned by root is fine, because a start as root gives it to us.
    """
    own = (settings.state_path, settings.pids_path)
    for folder in own:
        place = folder
        if make:
            try:
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            except OSError as error:
                raise _refused(folder, error.errno) from None
        while not os.path.exists(place):  # noqa: PTH110 # closed ones too
            place = place.parent
        mode = os.W_OK | os.X_OK
        if roots_are_ours and place.stat().st_uid == 0:
            mode = os.F_OK if place in own else os.X_OK
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            raise _refused(place, errno.EROFS)
        if not os.access(place, mode):
            raise _refused(place, errno.EACCES)


def claim_early(settings: Settings) -> IO[str] | None:
    """Return the agent's lock as `claim` does; we may still be root."""
    fleet = fleet_settings.load(settings.privileged_config, runnable=False)
    return claim(fleet.agent_lock)


def claim_made(path: Path) -> IO[str]:
    """Return the lock PATH as `claim` does; the daemon has made the file."""
    lock = claim(path)
    if lock is None:
        raise StartError(f"{path} can't be locked")
    return lock


def claim(path: Path) -> IO[str] | None:
    """Take the lock PATH, which only one agent of a host can have.

    Returns the open file, which keeps the lock; None if there is no file or
    another user owns it. The file is not below state_path, because two
    agents may differ in that option. Raises StartError if an agent has it.
    """
    try:
        lock = open(path, "r+")  # noqa: SIM115
    except (FileNotFoundError, PermissionError):
        return None
    _take(lock)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def keep_agent_away(path: Path) -> IO[str] | None:
    """Take the agent's lock PATH if there is one; write nothing.

    Raises StartError if an agent has it.
    """
    try:
        lock = open(path)  # noqa: SIM115
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"does an agent run here? {error}") from None
    _take(lock)
    return lock


def _take(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip() or "?"
        lock.close()
        raise StartError(
            f"another agent runs here, pid {pid}; stop it first"
        ) from None


def _refused(folder: Path, number: int | None) -> StartError:
    if number == errno.EROFS:
        return StartError(
            f"can't write to {folder} (state_path): it is read-only; under "
            f"systemd name it in ReadWritePaths= of ovn-metadata-agent.service"
        )
    return StartError(
        f"can't write to {folder} (state_path) as uid {os.geteuid()}: "
        f"{os.strerror(number or 0)}; chown it to the agent's user"
    )
