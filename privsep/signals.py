"""Signals that end a process which does not handle them."""

from __future__ import annotations

import faulthandler
import signal

IGNORED = (signal.SIGUSR1, signal.SIGALRM, signal.SIGQUIT)


def survive() -> None:
    """Ignore the signals that nothing here uses; report at SIGUSR2.

    The report is the stack of each thread, on stderr. It needs no thread that
    runs: it is there for a process that hangs. Call this in the main thread.
    """
    faulthandler.register(signal.SIGUSR2, file=2)
    for number in IGNORED:
        # Not SIG_IGN, which the programs that we start would inherit.
        signal.signal(number, lambda *_: None)
