"""Signals that end a process which does not handle them."""

import faulthandler
import signal

IGNORED = (signal.SIGUSR1, signal.SIGALRM, signal.SIGQUIT)


def survive() -> None:
    """Ignore the signals that nothing here uses; report at SIGUSR2.

    The report is the stack of each thread, on stderr. It is printed even if
    all threads hang. Then a handler that was there before is called, if one
    was. Call this in the main thread.
    """
    chain = callable(signal.getsignal(signal.SIGUSR2))
    faulthandler.register(signal.SIGUSR2, file=2, chain=chain)
    for number in IGNORED:
        # Not SIG_IGN, which the programs that we start would inherit.
        signal.signal(number, lambda *_: None)
