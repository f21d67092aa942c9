"""Connect to the metadata address all the time; count what is refused."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time

from . import model
from .instances import HTTP_PORT, Instance

_PACE_S = 0.004
# A SYN that is lost is sent again after a second: by then, others were sent.
_PATIENCE_S = 0.5


class Knocker:
    """Opens a connection from INSTANCE every few ms, and closes it.

    `taken` counts those that were accepted, `refused` has the seconds, since
    the begin, at which others were refused.
    """

    def __init__(self, instance: Instance, *, ipv6: bool = False) -> None:
        self._instance = instance
        self._family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._there: tuple[str | int, ...] = (
            str(model.METADATA_V4),
            HTTP_PORT,
        )
        if ipv6:
            scope = instance.scope
            self._there = (str(model.METADATA_V6), HTTP_PORT, 0, scope)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = 0.0
        self.taken = 0
        self.refused: list[float] = []

    def __enter__(self) -> Knocker:
        """Begin."""
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        # The times at which each is given up; in the order of their begin.
        waiting: dict[socket.socket, float] = {}
        with selectors.DefaultSelector() as selector:
            while not self._stop.is_set():
                due = time.monotonic() + _PACE_S
                link = self._knock()
                waiting[link] = due + _PATIENCE_S
                selector.register(link, selectors.EVENT_WRITE)
                while (left := due - time.monotonic()) > 0:
                    for key, _ in selector.select(left):
                        self._note(key.fileobj)  # type: ignore[arg-type]
                        waiting[key.fileobj] = 0.0  # type: ignore[index]
                        selector.unregister(key.fileobj)
                for link, until in list(waiting.items()):
                    if until < due:
                        if until:
                            selector.unregister(link)
                        del waiting[link]
                        link.close()
            for link in waiting:
                link.close()

    def _knock(self) -> socket.socket:
        link = self._instance.socket(self._family, socket.SOCK_STREAM)
        link.setblocking(False)
        if link.connect_ex(self._there) == errno.ECONNREFUSED:
            self.refused.append(time.monotonic() - self._begun)
        return link

    def _note(self, link: socket.socket) -> None:
        code = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ECONNREFUSED:
            self.refused.append(time.monotonic() - self._begun)
        self.taken += not code
