"""SIGTERM, SIGINT: stop. SIGHUP: read the configuration again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

LOG = logging.getLogger(__name__)

_STOP, _RELOAD = b"s", b"r"


def _try(reload: Callable[[], None]) -> None:
    """Call RELOAD; whatever comes of it, the next signal must be heard."""
    try:
        reload()
    except Exception:
        LOG.exception("the configuration was not reloaded")


class Signals:
    """Takes note of signals, and acts on them in a thread of its own.

    A handler runs between two steps of the main thread, which may hold the
    very lock that an action needs; so it only writes a byte. From the
    moment this is made a SIGHUP ends nothing any more, and is not lost.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.signal(signal.SIGHUP, self._handler(_RELOAD))

    def start(
        self, *, stop: Callable[[], None], reload: Callable[[], None]
    ) -> None:
        """Have SIGTERM and SIGINT call STOP, and SIGHUP RELOAD."""

        def follow() -> None:
            while _STOP not in (noted := os.read(self._reader, 4096)):
                if noted:
                    _try(reload)
            stop()

        threading.Thread(target=follow, name="signals", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handler(_STOP))

    def _handler(self, byte: bytes) -> Callable[[int, FrameType | None], None]:
        def note(_signal: int, _frame: FrameType | None) -> None:
            # A full pipe tells enough.
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, byte)

        return note
