"""Unix sockets whose path may be longer than the 107 bytes Linux takes."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_SO_ACCEPTCON = 1 << 16  # <linux/net.h>


class TooLongError(OSError):
    """What was said is longer than any answer."""


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give another name of PATH, short whatever its folder is called.

    Raises OSError if the folder is not there.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def is_listening(path: Path) -> bool:
    """Tell whether somebody here listens on what was PATH then.

    Asks the kernel: to connect we may have no permission.
    """
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split(maxsplit=7)
        if words[7:] == [str(path)] and int(words[3], 16) & _SO_ACCEPTCON:
            return True
    return False


def connect(connection: socket.socket, path: Path) -> None:
    """Connect CONNECTION to the socket PATH; raise OSError."""
    with short_path(path) as short:
        connection.connect(short)


def connect_to_owner(
    connection: socket.socket, path: Path, owner: int
) -> None:
    """Connect CONNECTION to the socket PATH, if it is the user OWNER's.

    For a folder where that user may put what it likes: a link would have
    us speak to what it can't reach itself. Raises OSError; PermissionError
    if something else has the name.
    """
    with short_path(path) as short:
        found = os.open(short, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        entry = os.fstat(found)
        if not stat.S_ISSOCK(entry.st_mode) or entry.st_uid != owner:
            raise PermissionError(f"{path} is no socket of uid {owner}")
        connection.connect(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def read_all(
    connection: socket.socket, *, max_bytes: int, timeout_s: float
) -> bytes:
    """Return what comes until the other side closes.

    Raises TooLongError if that is more than MAX_BYTES, TimeoutError if it
    takes longer than TIMEOUT_S altogether, OSError.
    """
    deadline = time.monotonic() + timeout_s
    parts: list[bytes] = []
    left = max_bytes
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise TooLongError("the answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes too long")
