"""Let a successor of another user listen beside a haproxy that runs.

Sockets share a port (SO_REUSEPORT) only if they have the same owner: the
effective user of who made them, until fchown(2) says otherwise. Neutron's
haproxies make theirs as root, ours as users without any privilege. So the
old one's listening sockets, borrowed for a moment, are made the successor's:
both answer until the old one is told to finish, and no connection is
refused. Nothing else about the old one changes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from . import kernel, names

_ADDRESSES = (names.METADATA_ADDRESS_V4, names.METADATA_ADDRESS_V6)
_PORT = 80


def hand_to(uid: int, *, pid: int, pidfd: int) -> None:
    """Make UID the owner of the metadata listeners of PIDFD's process PID.

    Raises OSError: before Linux 5.6, without CAP_SYS_PTRACE or CAP_CHOWN,
    or if it ends meanwhile.
    """
    for number in _sockets(pid):
        with _borrowed(pidfd, number) as borrowed:
            if _is_metadata_listener(borrowed):
                os.fchown(borrowed.fileno(), uid, -1)


def _sockets(pid: int) -> Iterator[int]:
    """Yield the descriptors of the process PID that are sockets."""
    folder = f"/proc/{pid}/fd"
    for entry in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{entry}")
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:"):
            yield int(entry)


def _borrowed(pidfd: int, number: int) -> socket.socket:
    """Return the socket NUMBER of PIDFD's process; closing it is ours only."""
    return socket.socket(fileno=kernel.borrow_descriptor(pidfd, number))


def _is_metadata_listener(candidate: socket.socket) -> bool:
    if candidate.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    address, port, *_ = candidate.getsockname()
    return port == _PORT and address.partition("%")[0] in _ADDRESSES
