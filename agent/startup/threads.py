"""The agent does not run on without one of its threads."""

import logging
import threading
from collections.abc import Callable

from ...privsep.errors import sentence

LOG = logging.getLogger(__name__)

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
