"""Do something every few seconds, on a thread of its own."""

import abc
import logging
import threading

LOG = logging.getLogger(__name__)

_END_S = 1.0


class Poller(abc.ABC):
    """Calls `poll` every INTERVAL_S on a thread called NAME."""

    def __init__(self, name: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=name, daemon=True
        )

    def start(self) -> None:
        """Begin, an interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """End after the poll that is in progress; do not wait if it hangs."""
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        logged = ""  # a failure that lasts is logged once
        while not self._stop.wait(self._interval_s):
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
