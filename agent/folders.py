"""The agent's folders: where they are, and whose this host is."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import IO

from . import names
from .config.settings import Settings
from .errors import StartError
from .haproxy.places import Places


def places(settings: Settings) -> Places:
    """Return where the haproxies' files are."""
    return Places(settings.state_path, settings.pids_path)


def ensure(settings: Settings) -> None:
    """Have our folders; raise StartError if they can't be written."""
    for folder in _own(settings):
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise StartError(_read_only(folder)) from None
            raise StartError(_text(folder, str(error))) from None
        _check_writable(folder)
    _check_passable(settings.state_path)


def check(settings: Settings, *, roots_are_ours: bool) -> None:
    """Raise StartError if `ensure` would; make nothing.

    ROOTS_ARE_OURS: a start hands over what is root's, and makes the rest.
    """
    for folder in _own(settings):
        place = folder
        while not os.path.exists(place):  # noqa: PTH110 # closed ones too
            place = place.parent
        owner = place.stat().st_uid
        if not (roots_are_ours and owner == 0):
            _check_writable(place)
    try:
        _check_passable(settings.state_path)
    except FileNotFoundError:  # a start makes it
        return
    except OSError as error:
        reason = error.strerror or ""
        raise StartError(_text(settings.state_path, reason)) from None


def _own(settings: Settings) -> tuple[Path, ...]:
    there = places(settings)
    return (
        settings.state_path,
        there.pids_folder,
        *(folder.path for folder in there.folders(names.GATEWAY)),
    )


def _check_writable(folder: Path) -> None:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise StartError(_read_only(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(_text(folder, "Permission denied"))


def _check_passable(folder: Path) -> None:
    """Raise StartError unless others, haproxy's user, can get into FOLDER.

    The privileged daemon is one of them: it may not look anywhere.
    """
    for place in (*reversed(folder.parents), folder):
        if not place.stat().st_mode & stat.S_IXOTH:
            raise StartError(
                f"{place} (on the way to state_path) lets haproxy's user not "
                f"pass; chmod o+x it"
            )


def claim(path: Path) -> IO[str]:
    """Return the lock PATH, which says this host has its agent.

    To be held open. A file of root's folder and not of state_path's: an
    agent with another configuration is another agent. Raises StartError
    if one has it.
    """
    try:
        lock = open(path, "r+")  # noqa: SIM115
    except OSError as error:
        raise StartError(str(error)) from None
    _take(lock)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def keep_agent_away(path: Path) -> IO[str] | None:
    """Return the agent's lock PATH if there is one; write nothing.

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


def _read_only(folder: Path) -> str:
    return (
        f"can't write to {folder} (state_path): it is read-only; under "
        f"systemd name it in ReadWritePaths= of ovn-metadata-agent.service"
    )


def _text(folder: Path, reason: str) -> str:
    return (
        f"can't write to {folder} (state_path) as uid {os.geteuid()}: "
        f"{reason}; chown it to the agent's user"
    )
