"""The sockets on which a haproxy listens: seen, and lent to a successor.

A successor of another user can't listen beside its predecessor: sockets share
a port (SO_REUSEPORT) only if they have the same owner, the effective user of
who made them, until fchown(2) says otherwise. Neutron's haproxies make theirs
as root, ours as users without any privilege. So the old one's, borrowed for a
moment, are made the successor's: both answer until the old one is told to
finish, and no connection is refused.

Nothing is read in /proc/net: anybody may choose the names in there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import psutil

from . import kernel, names

_ADDRESSES = (names.METADATA_ADDRESS_V4, names.METADATA_ADDRESS_V6)
_PORT = 80
# Closed meanwhile, by a haproxy that is busy.
_GONE = (errno.EBADF, errno.ENOENT)


def listens(master: int, *, tcp: bool) -> bool:
    """Tell whether a worker of the haproxy MASTER listens.

    TCP: on a port; else on a unix socket of its own. True where that can't
    be looked at (before Linux 5.6): it has run for a second.
    """
    families = (socket.AF_INET, socket.AF_INET6) if tcp else (socket.AF_UNIX,)
    try:
        return any(
            number != 0  # the gateway was started with one that listens
            and found.family in families
            for worker in _workers(master)
            for number, found in _listening(worker)
        )
    except (ProcessLookupError, FileNotFoundError):  # it ended
        return False
    except OSError:
        return True


def hand_to(uid: int, *, master: int) -> int:
    """Make UID the owner of MASTER's metadata listeners; count them.

    MASTER is a haproxy that was looked at: a lone one has them itself, else
    its workers do. Raises OSError: before Linux 5.6, without CAP_SYS_PTRACE
    or CAP_CHOWN, or if it ends meanwhile.
    """
    count = 0
    for pid in (master, *_workers(master)):
        for _, found in _listening(pid):
            if _is_metadatas(found):
                os.fchown(found.fileno(), uid, -1)
                count += 1
    return count


def _workers(master: int) -> list[int]:
    """Return the children of MASTER; none if it ended."""
    try:
        with open(f"/proc/{master}/task/{master}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # or a kernel that has no such file
        with contextlib.suppress(psutil.NoSuchProcess):
            return [c.pid for c in psutil.Process(master).children()]
        return []


def _listening(pid: int) -> Iterator[tuple[int, socket.socket]]:
    """Yield what the process PID listens on, with the descriptor there."""
    folder = f"/proc/{pid}/fd"
    pidfd = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(folder)):
            with _borrowed(pidfd, f"{folder}/{number}", number) as found:
                if found is not None and found.getsockopt(
                    socket.SOL_SOCKET, socket.SO_ACCEPTCONN
                ):
                    yield number, found
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def _borrowed(
    pidfd: int, path: str, number: int
) -> Iterator[socket.socket | None]:
    """Give the socket NUMBER of PIDFD's process; None if it is none."""
    descriptor = -1
    try:
        if os.readlink(path).startswith("socket:"):
            descriptor = kernel.borrow_descriptor(pidfd, number)
    except OSError as error:
        if error.errno not in _GONE:
            raise
    if descriptor < 0:
        yield None
        return
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:  # the number is another file's by now
        os.close(descriptor)
        yield None
        return
    with found:  # closing it is ours only
        yield found


def _is_metadatas(found: socket.socket) -> bool:
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    address, port, *_ = found.getsockname()
    return port == _PORT and address.partition("%")[0] in _ADDRESSES
