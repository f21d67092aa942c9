"""Does a haproxy listen already? /proc tells; haproxy is asked nothing.

A machine on which a thousand of them start at once takes a while for that:
their having run for a second says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

# linux/tcp_states.h, linux/net.h: the state of a socket that listens.
_TCP_LISTENS = "0A"
_UNIX_ACCEPTS = 1 << 16


def listens(master: int, *, tcp: bool) -> bool:
    """Tell whether a worker of the haproxy MASTER listens.

    TCP: on a TCP port; else on a unix socket. True where that may not be
    looked at, which is all that can be said there.
    """
    try:
        return any(_listens(pid, tcp=tcp) for pid in _children(master))
    except PermissionError:
        return True
    except OSError:  # it ended
        return False


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _listens(pid: int, *, tcp: bool) -> bool:
    inodes = set(_tcp(pid) if tcp else _unix(pid))
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        if name == "0":
            continue  # the gateway was started with one that listens
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.removeprefix("socket:[").removesuffix("]") in inodes:
            return True
    return False


def _tcp(pid: int) -> Iterator[str]:
    """Yield the inodes of what listens in the network namespace of PID."""
    for name in ("tcp", "tcp6"):
        for fields in _rows(f"/proc/{pid}/net/{name}"):
            if fields[3] == _TCP_LISTENS:
                yield fields[9]


def _unix(pid: int) -> Iterator[str]:
    for fields in _rows(f"/proc/{pid}/net/unix"):
        if int(fields[3], 16) & _UNIX_ACCEPTS:
            yield fields[6]


def _rows(path: str) -> Iterator[list[str]]:
    try:
        with open(path) as file:
            next(file)  # the columns' names
            for line in file:
                yield line.split()
    except FileNotFoundError:
        return  # a kernel without IPv6
