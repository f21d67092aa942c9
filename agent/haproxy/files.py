"""The haproxies' files: checked before they replace the old ones."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from ...privsep import names
from ..errors import HaproxyError

# The fleet's group reads them (the folder hands its group down), nobody
# else: a map holds signatures.
_MODE = 0o640
_CHECK_TIMEOUT_S = 20


def write(path: Path, text: str) -> bool:
    """Replace PATH by TEXT at once; tell whether it had another text."""
    if _has(path, text):
        return False
    _replace(path, text)
    return True


def read(path: Path) -> str:
    """Return the text of PATH; "" where there is none of ours."""
    try:
        return path.read_text()
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        return ""


def write_checked(
    path: Path, text: str, *, check: Callable[[Path], None]
) -> bool:
    """Replace the configuration PATH by TEXT, if CHECK lets it pass.

    Tells whether it had another text. What CHECK raises, about a file
    beside PATH, leaves the old one.
    """
    if _has(path, text):
        return False
    candidate = path.with_suffix(".new")
    _replace(candidate, text)
    try:
        check(candidate)
        candidate.replace(path)
    finally:
        candidate.unlink(missing_ok=True)
    return True


# With its standard input as the listeners of a network.
_CHECK = f'exec "$0" -c -f "$1" {names.LISTENER_V4}<&0 {names.LISTENER_V6}<&0'


def check(path: Path, haproxy: str) -> None:
    """Raise HaproxyError unless HAPROXY accepts the configuration PATH."""
    try:
        # The descriptors that a program is started with have to be sockets.
        with socket.socket(socket.AF_UNIX) as stdin:
            result = subprocess.run(
                ["/bin/sh", "-c", _CHECK, haproxy, str(path)],
                cwd="/",  # it ends without a word where it can't read its own
                stdin=stdin.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HaproxyError(f"{haproxy} -c: {error}") from None
    if result.returncode != 0:
        text = re.sub(
            r"\s*\(\d+\) :", "", result.stdout.decode(errors="replace")
        )
        words = " ".join(text.split())  # without its pid: the same each time
        raise HaproxyError(f"configuration refused by haproxy: {words:.500}")


def link(path: Path, target: Path) -> None:
    """Have PATH lead to TARGET, in one step, whatever it is now."""
    if not path.is_symlink() or path.readlink() != target:
        fresh = path.with_name(f".{path.name}.tmp")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(path)


def remove(*paths: Path) -> bool:
    """Remove PATHS; tell whether any was there.

    Raises the last OSError of one that can't be removed, after all were
    tried.
    """
    found = False
    failure: OSError | None = None
    for path in paths:
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            failure = error
        found = True
    if failure is not None:
        raise failure
    return found


def _has(path: Path, text: str) -> bool:
    """Tell whether PATH has TEXT and is its folder's group's to read.

    The folder may be another haproxy's by now.
    """
    try:
        same = path.read_text() == text
        return same and path.stat().st_gid == path.parent.stat().st_gid
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        return False  # root's, of an earlier agent: replaced below


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, _MODE)  # whatever the umask says
            file.write(text)
    except OSError as error:
        # What a full disk says does not name it.
        raise OSError(error.errno, error.strerror, str(path)) from None
    fresh.replace(path)
