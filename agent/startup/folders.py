"""The agent's folders, and the lock that allows one agent per host."""

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from ..config.settings import Settings
from ..errors import StartError


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


def claim(path: Path) -> IO[str]:
    """Take the lock PATH: only one agent of a host, or a clean-up, has it.

    Returns the open file, which keeps the lock; nothing is written. It is
    not below state_path, because two agents may differ in that option.
    Raises StartError if another process has the lock, OSError if the file
    is not there (FileNotFoundError) or another user owns it.
    """
    lock = open(path)  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StartError(
            "an agent runs here, or ovn-metadata-cleanup; stop it first"
        ) from None
    return lock


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
