"""The haproxies' files: write and check them; find each network's."""

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ...privsep import names
from ...privsep.errors import sentence
from ..errors import HaproxyError
from .places import Places

# Only the fleet's group may read them (a file gets its folder's group): a map
# holds signatures.
_MODE = 0o640
_CHECK_TIMEOUT_S = 20
# Temporary files match too, if one was left: ".X.conf.tmp" is ours, "X.new" is
# an earlier version's, "X.sock.7.tmp" and "X.sock.7.bak" are haproxy's.
_FILE = re.compile(
    r"\.?([^.]+)\.(?:conf|map|new|sock|pid\.haproxy)"
    r"(?:\.tmp|\.[0-9]+\.(?:tmp|bak))?"
)


def write(
    path: Path, text: str, *, check: Callable[[Path], None] | None = None
) -> bool:
    """Replace PATH by TEXT in one step; return whether its text changed.

    CHECK gets the new file, beside PATH; if it raises, PATH is not changed.
    """
    if _has(path, text):
        return False
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, _MODE)  # whatever the umask is
            file.write(text)
    except OSError as error:
        # The error of a full disk does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        if check is not None:
            check(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def read(path: Path) -> str:
    """Return the text of PATH; "" if there is none that can be read."""
    try:
        return path.read_text()
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        return ""


# The standard input stands for a network's listeners.
_CHECK = f'exec "$0" -c -f "$1" {names.LISTENER_V4}<&0 {names.LISTENER_V6}<&0'


def check(path: Path, haproxy: str) -> None:
    """Raise HaproxyError unless HAPROXY accepts the configuration PATH."""
    try:
        # haproxy checks that these descriptors are sockets.
        with socket.socket(socket.AF_UNIX) as stdin:
            result = subprocess.run(
                ["/bin/sh", "-c", _CHECK, haproxy, str(path)],
                cwd="/",  # haproxy fails in a folder that it can't read
                stdin=stdin.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HaproxyError(f"{haproxy} -c: {sentence(error)}") from error
    if result.returncode != 0:
        text = re.sub(
            r"\s*\(\d+\) :", "", result.stdout.decode(errors="replace")
        )
        # Without haproxy's pid, the message is the same each time.
        words = " ".join(text.split())
        raise HaproxyError(
            f"configuration refused by haproxy: {words:.500}", "OVNMD-304"
        )


def link(path: Path, target: Path) -> None:
    """Make PATH a link to TARGET, in one step, whatever it is now."""
    if not path.is_symlink() or path.readlink() != target:
        fresh = path.with_name(f".{path.name}.tmp")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(path)


def remove(*paths: Path) -> bool:
    """Remove PATHS; return whether any was there.

    If some can't be removed, it removes the others and raises an OSError.
    """
    found = any(map(os.path.lexists, paths))
    with contextlib.ExitStack() as stack:  # it calls all, whatever they raise
        for path in paths:
            stack.callback(path.unlink, missing_ok=True)
    return found


def _has(path: Path, text: str) -> bool:
    """Return whether PATH has TEXT, our mode and its folder's group.

    The folder may belong to another haproxy now.
    """
    try:
        entry, gid = path.stat(), path.parent.stat().st_gid
        same = (entry.st_mode & 0o777, entry.st_gid) == (_MODE, gid)
        return same and path.read_text() == text
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        return False  # maybe an earlier agent's, owned by root: replace it


def files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of our files in FOLDER."""
    for path in entries(folder):
        match = _FILE.fullmatch(path.name)
        if match and names.is_program(match[1]):
            yield match[1], path


def haproxy_files(
    places: Places, uids: Collection[int]
) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each of its files.

    Files in a network's own folders are left out. Neutron's other agents
    have PID files with the same names in the same folder: only those that
    one of UIDS owns are the agent's.
    """
    yield from files_in(places.config_folder)
    yield from files_in(places.old_folder)
    for network, path in files_in(places.pids_folder):
        with contextlib.suppress(FileNotFoundError):
            if ".pid.haproxy" in path.name and path.lstat().st_uid in uids:
                yield network, path


def network_folders(places: Places) -> Iterator[tuple[str, Path]]:
    """Yield the network (or "gateway") and the path of each of its folders."""
    for parent in places.network_parents:
        for path in entries(parent):
            is_ours = names.is_program(path.name)
            if is_ours and path.is_dir() and not path.is_symlink():
                yield path.name, path


def remove_old(places: Places, network: str) -> None:
    """Remove what Neutron's agent has left of NETWORK below state_path.

    `haproxy_files` finds what can't be removed.
    """
    for of, path in files_in(places.old_folder):
        if of == network:
            with contextlib.suppress(OSError):
                path.unlink()
    with contextlib.suppress(OSError):  # it is not empty, or not there
        places.old_folder.rmdir()


def entries(folder: Path) -> list[Path]:
    """Return what is in FOLDER, sorted; nothing if it can't be listed."""
    # A folder that this user may not list is reported by the first write.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        return sorted(folder.iterdir())
    return []
