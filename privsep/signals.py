"""Signals that end a process which does not handle them."""

import faulthandler
import signal

IGNORED = (signal.SIGUSR1, signal.SIGALRM, signal.SIGQUIT)


def survive() -> None:
    """Ignore the signals that nothing here uses; report at SIGUSR2.

    The report is the stack of each thread, on stderr. Call this in the main
    thread, which prints it.
    """
    # Who started us may have blocked some, and its children inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Not `faulthandler.register`: it reads stacks while they change, and may
    # end the process (https://github.com/python/cpython/issues/116008).
    signal.signal(
        signal.SIGUSR2, lambda *_: faulthandler.dump_traceback(file=2)
    )
    for number in IGNORED:
        # Not SIG_IGN, which the programs that we start would inherit.
        signal.signal(number, lambda *_: None)
