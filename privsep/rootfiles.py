"""Files and folders that root owns, and folders shared with the fleet."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import SettingsError
from .places import Folder

_TAIL_BYTES = 4000


def ensure_folder(path: Path) -> None:
    """Have PATH and its parents; what is there is left as it is.

    One by one: the modes of parents that mkdir makes by itself follow the
    umask alone.
    """
    for place in (*reversed(path.parents), path):
        place.mkdir(mode=0o755, exist_ok=True)


def ensure_private_folder(path: Path, *, mode: int = 0o700) -> None:
    """Have PATH as a folder of root's, with MODE.

    Raises SettingsError if something else is there.
    """
    ensure_folder(path.parent)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        entry = os.lstat(path)
        if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != 0:
            raise SettingsError(
                f"{path} is not a folder of root's; remove it"
            ) from None
    os.chmod(path, mode)  # whatever the umask made of it


def ensure_shared_folder(folder: Folder) -> None:
    """Make FOLDER, the agent's to write in, in a folder of root's.

    With CAP_CHOWN alone: a mode is set while the folder is root's own. One
    of another group is another haproxy user's, who may have left there what
    the new one could not replace: it is emptied. Raises SettingsError.
    """
    path, uid = folder.path, caller_uid()
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if folder.is_made(uid):
            return
        if not path.is_dir() or path.is_symlink():
            raise SettingsError(f"{path} is no folder; remove it") from None
        if path.stat().st_gid != folder.gid:
            remove_shared_folder(path)
            path.mkdir(mode=0o700)
        os.chown(path, 0, 0)
    os.chmod(path, folder.mode)
    os.chown(path, uid, folder.gid)


def remove_shared_folder(path: Path) -> bool:
    """Remove the folder PATH with the files in it; tell if it was there.

    Raises SettingsError with the remedy if there is more than files: a
    haproxy, which makes none, may have been broken into.
    """
    try:
        os.chown(path, 0, 0)  # nobody else gets into it from now on
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    Path(entry).unlink()
        path.rmdir()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SettingsError(
            f"{path} can't be removed: {error.strerror}; look at what is in "
            f"it, a haproxy of ours makes files only, and rm -r it"
        ) from None
    return True


def ensure_agents_file(path: Path) -> None:
    """Have PATH as a file of the agent's user, in a folder of root's.

    The daemon may not open what is the agent's already.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, flags, 0o600))
    os.chown(path, caller_uid(), -1, follow_symlinks=False)


def write_if_different(path: Path, text: str) -> bool:
    """Replace PATH with TEXT at once; tell whether it was another text."""
    try:
        if path.read_text() == text:
            return False
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(
        fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600
    )
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
    return True


def last_complaint(path: Path) -> str:
    """Return what a haproxy's log has as the reason of its last end.

    That is the first alert of its last start, without its pid; else the
    last line; "" if there is none. Printable.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    last_start = text.rpartition("haproxy version is")[2]
    lines = [line for line in last_start.split("\n") if line.strip()]
    alerts = [line for line in lines if line.startswith("[ALERT]")]
    said = (alerts or lines[-1:] or [""])[0]
    said = re.sub(r"\s*\(\d+\) :", "", said)
    return "".join(c if c.isprintable() else " " for c in said).strip()


def share_socket(path: str, *, uid: int, gid: int) -> None:
    """Give the socket PATH, which is the user UID's, to the group GID.

    Raises SettingsError, naming PATH, if it is something else.
    """
    with _opened(path) as opened:
        entry = os.stat(opened)
        if not stat.S_ISSOCK(entry.st_mode) or entry.st_uid != uid:
            raise SettingsError(f"{path} is no socket of haproxy's; remove it")
        os.chown(opened, -1, gid)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[str]:
    """Give another name of PATH, which goes on to mean the same inode.

    It is in a place where others may change what is there, so it is opened
    once, without following a link; O_PATH, for the daemon may not be
    allowed to read it. Raises SettingsError, naming PATH.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def caller_uid() -> int:
    """Return the uid of the agent that this daemon works for.

    sudo sets SUDO_UID, and so does daemon.py, from the connection. Without
    either, root started the daemon for itself.
    """
    return int(os.environ.get("SUDO_UID", "0"))
