"""SIGTERM, SIGINT, SIGQUIT: stop. SIGHUP: read the configuration again.

SIGUSR2 prints the stacks of all threads on stderr and has a report logged.
Others are ignored.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from ...privsep.signals import survive

LOG = logging.getLogger(__name__)

_STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Signals:
    """Take signals and act on them in a thread.

    An action may need a lock that the main thread holds, so the handlers do
    nothing; Python writes the number of each signal into a pipe. Once this
    object exists, SIGHUP does not end the process and is not lost.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # If the pipe is full, there are enough signals to act on.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, _note)
        survive()

    def start(
        self,
        *,
        stop: Callable[[], None],
        reload: Callable[[], None],
        report: Callable[[], None],
    ) -> None:
        """Call STOP at a signal of _STOP, RELOAD at SIGHUP, REPORT at SIGUSR2.

        REPORT has a thread of its own: it may wait for one that hangs.
        """

        def follow() -> None:
            while _STOP.isdisjoint(numbers := os.read(self._reader, 4096)):
                if signal.SIGUSR2 in numbers:
                    threading.Thread(
                        target=report, name="report", daemon=True
                    ).start()
                try:
                    if signal.SIGHUP in numbers:
                        reload()
                except Exception:  # the next signal must still work
                    LOG.exception("the configuration was not reloaded")
            stop()

        threading.Thread(target=follow, name="signals", daemon=True).start()
        for number in _STOP:
            signal.signal(number, _note)


def _note(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing; Python fills the pipe only if there is a handler."""
