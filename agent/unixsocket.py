"""Unix sockets, also with paths longer than the 107 bytes Linux allows."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

# <linux/netlink.h>, <linux/sock_diag.h>, <linux/unix_diag.h>
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_LISTENING = 1 << 10  # TCP_LISTEN
_SHOW_VFS = 2


class TooLongError(OSError):
    """The peer sent more than any answer can have."""


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a short path for PATH, however long its folder's path is.

    Raises OSError if the folder is not there.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def is_listening(path: Path) -> bool:
    """Return whether a process listens on the socket file PATH.

    Found out from the file itself, because a process can bind any name that
    it likes to appear in /proc/net/unix. A link is not followed.
    """
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0)
            client.connect(f"/proc/self/fd/{found}")
    except ConnectionRefusedError:
        return False
    except BlockingIOError:  # its queue is full
        return True
    except PermissionError:
        return _file_of(found) in _listening_files()
    finally:
        os.close(found)
    return True


def _file_of(descriptor: int) -> tuple[int, int]:
    """Return the inode and the device of a file, as sock_diag(7) has them.

    The device is the file system's; on btrfs, stat(2) has another one.
    """
    inode = os.fstat(descriptor).st_ino & 0xFFFFFFFF
    info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    mount = info.partition("mnt_id:")[2].split()[0]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        number, _, device, *_ = line.split()
        if number == mount:
            major, minor = map(int, device.split(":"))
            return inode, major << 20 | minor
    return inode, 0


def _listening_files() -> Iterator[tuple[int, int]]:
    """Yield inode and device of each socket file with a listener.

    From sock_diag(7), which needs no permission.
    """
    # struct nlmsghdr, struct unix_diag_req; then nlmsghdr, unix_diag_msg,
    # and nlattr with unix_diag_vfs.
    request = struct.pack("=IHHII", 40, _SOCK_DIAG_BY_FAMILY, _DUMP, 1, 0)
    request += struct.pack(
        "=BBHIIIII", socket.AF_UNIX, 0, 0, _LISTENING, 0, _SHOW_VFS, 0, 0
    )
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG
    ) as kernel:
        kernel.sendto(request, (0, 0))
        while True:
            answer = kernel.recv(65536)
            while answer:
                size, kind = struct.unpack_from("=IH", answer)
                if kind != _SOCK_DIAG_BY_FAMILY:  # the end, or an error
                    return
                if size >= 44:
                    yield struct.unpack_from("=II", answer, 36)
                answer = answer[(size + 3) & ~3 :]


def connect(connection: socket.socket, path: Path) -> None:
    """Connect CONNECTION to the socket PATH; raise OSError."""
    with short_path(path) as short:
        connection.connect(short)


def connect_to_owner(
    connection: socket.socket, path: Path, owner: int
) -> None:
    """Connect CONNECTION to the socket PATH if the user OWNER owns it.

    For a folder in which OWNER may make any file: with a link, OWNER could
    make us speak to a socket that only we can reach. Raises OSError;
    PermissionError if PATH is something else.
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
    """Return all bytes until the other side closes.

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
