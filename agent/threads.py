"""The agent's threads: what runs apart, what is polled, and if one fails."""

import abc
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Generator
from concurrent import futures
from typing import TypeAlias, TypeVar

from ..privsep.errors import sentence

LOG = logging.getLogger(__name__)
T = TypeVar("T")
# Work of a thread that must not block: it yields for how many seconds there
# is nothing to do, unless something changes.
Steps: TypeAlias = Generator[float, None, T]

# Each does one thing only.
_REPLACED = ("process_request_thread", "report")
_END_S = 1.0


def end_with(fail: Callable[[str], None]) -> None:
    """Call FAIL with the reason if a thread ends by an exception.

    No other thread does its work. systemd starts the agent again; the
    networks are served meanwhile.
    """

    def failed(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else ""
        error = args.exc_value or args.exc_type()
        if isinstance(error, SystemExit):
            return
        if not any(each in name for each in _REPLACED):
            fail(f"the thread {name} failed: {sentence(error)}; restarting")
        LOG.critical("the thread %s failed", name, exc_info=error)

    threading.excepthook = failed


def in_thread(call: Callable[[], T]) -> futures.Future[T]:
    """Return what CALL will return or raise, in a thread of its own."""
    outcome: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001 # of any kind of call
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def apart(call: Callable[[], T], wake: Callable[[], None]) -> Steps[T]:
    """Return what CALL returns or raises, in a thread; WAKE at its end."""
    outcome = in_thread(call)
    outcome.add_done_callback(lambda _: wake())
    while not outcome.done():
        yield math.inf
    return outcome.result()


def stop(pollers: Collection["Poller"]) -> None:
    """Stop POLLERS; together, those that hang are waited for a second."""
    ends = time.monotonic() + _END_S
    for poller in pollers:
        poller.stop()
    for poller in pollers:
        poller.thread.join(max(0.0, ends - time.monotonic()))


class Poller(abc.ABC):
    """Calls `poll` every INTERVAL_S on a thread called NAME.

    A poll may set another time, `_interval_s`, until the next one.
    """

    def __init__(self, name: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._wake = threading.Event()
        self.thread = threading.Thread(
            target=self._run, name=name, daemon=True
        )

    def start(self) -> None:
        """Begin, an interval from now."""
        self.thread.start()

    def wake(self) -> None:
        """Poll now, or again after the poll that is in progress."""
        self._wake.set()

    def stop(self) -> None:
        """End after the poll that is in progress."""
        self._stop.set()
        self._wake.set()

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
                        "the thread %s failed; it continues", self.thread.name
                    )
            if logged and not failure:
                LOG.info("the thread %s works again", self.thread.name)
            logged = failure

    @abc.abstractmethod
    def poll(self) -> None:
        """Do it once."""
