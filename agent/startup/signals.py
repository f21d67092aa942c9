"""SIGTERM, SIGINT: stop. SIGHUP: read the configuration again."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

LOG = logging.getLogger(__name__)

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})


class Signals:
    """Notes signals, and acts on them in a thread of its own.

    An action may need a lock that the main thread holds, so no handler
    does anything; Python writes each signal's number into a pipe. From the
    moment this is made a SIGHUP ends nothing any more, and is not lost.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # A full pipe tells enough.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, _note)

    def start(
        self, *, stop: Callable[[], None], reload: Callable[[], None]
    ) -> None:
        """Have SIGTERM and SIGINT call STOP, and SIGHUP RELOAD."""

        def follow() -> None:
            while _STOP.isdisjoint(os.read(self._reader, 4096)):
                try:
                    reload()
                except Exception:  # the next signal has to be heard
                    LOG.exception("the configuration was not reloaded")
            stop()

        threading.Thread(target=follow, name="signals", daemon=True).start()
        for number in _STOP:
            signal.signal(number, _note)


def _note(_signal: int, _frame: FrameType | None) -> None:
    """Have the signal noted; without a handler it would not be."""
