"""A call in a thread of its own; an agent that lost a thread ends."""

import logging
import math
import threading
from collections.abc import Callable, Generator
from concurrent import futures
from typing import TypeAlias, TypeVar

from ...privsep.errors import sentence

LOG = logging.getLogger(__name__)
T = TypeVar("T")
# Work of a thread that must not block: it yields for how many seconds there
# is nothing to do, unless something changes.
Steps: TypeAlias = Generator[float, None, T]

# Each does one thing only, or can be asked for again.
_REPLACED = ("look_up", "process_request_thread", "report")


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
