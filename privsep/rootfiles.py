"""Files and folders owned by root, and folders shared with the fleet."""

import contextlib
import os
import re
import stat
from pathlib import Path

from . import kernel, names
from .errors import SettingsError
from .places import Folder

_TAIL_BYTES = 4000
# Without /dev/log haproxy works all the same. The last one is supervisord's,
# after the reason.
_NO_REASON = re.compile(
    r"^\[(NOTICE|WARNING)\]|sendmsg\(\)/writev\(\) failed in logger|"
    "supervisor: child process was not spawned"
)


def ensure_folder(path: Path) -> None:
    """Make PATH and its parents; leave those that exist as they are.

    One by one, because mkdir gives parents a mode from the umask only.
    """
    for place in (*reversed(path.parents), path):
        place.mkdir(mode=0o755, exist_ok=True)


def ensure_private_folder(path: Path, *, mode: int = 0o700) -> None:
    """Make PATH a folder owned by root, with MODE.

    Raises SettingsError if something else is there.
    """
    ensure_folder(path.parent)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        entry = os.lstat(path)
        if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != 0:
            raise SettingsError(
                f"{path} is not a folder owned by root; remove it"
            ) from None
    os.chmod(path, mode)  # mkdir's mode depends on the umask


def ensure_shared_folder(folder: Folder) -> None:
    """Make FOLDER, for the agent to write in, in a folder owned by root.

    We have CAP_CHOWN only, so the mode is set while root owns the folder. A
    folder of another group is emptied: the haproxy user before may have left
    files that the new one could not replace. Raises SettingsError.
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
    """Remove the folder PATH and its files; return whether it was there.

    Raises SettingsError with the remedy if it has folders in it: a haproxy
    makes none, so one may have been broken into.
    """
    try:
        os.chown(path, 0, 0)  # no other user can get into it now
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    Path(entry).unlink()
        path.rmdir()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SettingsError(
            f"{path} can't be removed: {error.strerror}; our haproxies make "
            f"only files in it: check what is in it, then rm -r it"
        ) from None
    return True


def ensure_agents_file(path: Path) -> None:
    """Make PATH a file of the agent's user, in a folder owned by root.

    The daemon may not open a file that the agent owns.
    """
    with contextlib.suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)
    os.chown(path, caller_uid(), -1, follow_symlinks=False)


def write_if_different(path: Path, text: str) -> bool:
    """Replace PATH with TEXT in one step; return whether it differed."""
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        if path.read_text() == text:
            return False
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text)
    fresh.replace(path)
    return True


def last_complaint(path: Path) -> str:
    """Return why a haproxy last ended, by its log in PATH.

    That is the first alert since its last start that printed something,
    without its pid; else the last line; "" if there is none. It is printable.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    starts = [each for each in text.split(names.STARTS) if each.strip()]
    lines = starts[-1].split("\n") if starts else ()
    said = [one for one in lines if one.strip() and not _NO_REASON.search(one)]
    alerts = [each for each in said if each.startswith("[ALERT]")]
    line = (alerts or said[-1:] or [""])[0]
    line = re.sub(r"\s*\(\d+\) :", "", line)
    return "".join(c if c.isprintable() else " " for c in line).strip()


def share_socket(path: str, *, uid: int, gid: int) -> None:
    """Give the socket PATH, owned by the user UID, to the group GID.

    Others can replace what is at PATH, so it is opened once, without
    following a link. With O_PATH the daemon needs no right to read it.
    Raises SettingsError if it is something else, OSError; both name PATH.
    """
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    with kernel.closing(os.open(path, flags)) as descriptor:
        entry = os.fstat(descriptor)
        if not stat.S_ISSOCK(entry.st_mode) or entry.st_uid != uid:
            raise SettingsError(f"{path} is no socket of haproxy; remove it")
        os.chown(f"/proc/self/fd/{descriptor}", -1, gid)


def caller_uid() -> int:
    """Return the uid of the agent that this daemon works for.

    sudo and `daemon.main` both set SUDO_UID. Without it root started the
    daemon for itself.
    """
    return int(os.environ.get("SUDO_UID", "0"))
