"""Do something every few seconds, on a thread of its own."""

import abc
import logging
import threading

LOG = logging.getLogger(__name__)

_END_S = 1.0


class Poller(abc.ABC):
    """Calls `poll` every INTERVAL_S on a thread called NAME.

    A poll may set another time, `_interval_s`, until the next one.
    """

    def __init__(self, name: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=name, daemon=True
        )

    def start(self) -> None:
        """Begin, an interval from now."""
        self._thread.start()

    def wake(self) -> None:
        """Poll now, or again after the poll that is in progress."""
        self._wake.set()

    def stop(self) -> None:
        """End after the poll that is in progress; do not wait if it hangs."""
        self._stop.set()
        self._wake.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        logged = ""  # a failure that lasts is logged once
        while not self._stop.is_set():
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if self._stop.is_set():
                return
            failure = ""
            try:
                self.poll()
            except Exception as error:
                failure = repr(error)
                if failure != logged:
                    LOG.exception(
                        "the thread %s failed; it continues", self._thread.name
                    )
            if logged and not failure:
                LOG.info("the thread %s works again", self._thread.name)
            logged = failure

    @abc.abstractmethod
    def poll(self) -> None:
        """Do it once."""
