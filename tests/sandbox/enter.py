"""Run a command in a host of its own: `python -m sandbox.enter CMD...`.

Network, mount and PID namespaces are private and vanish with the command,
however it ends. Three processes are at work:

    outer     waits outside and hands signals on
     init     PID 1 inside: prepares the host, reaps every orphan
      CMD     when it ends, init ends, and the kernel kills all the rest
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import host, namespaces

GRACE_S = 20.0

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_HANDLED = _ENDING | {signal.SIGCHLD}
# What the command still needs when sudo has cleaned the environment.
_KEPT = (
    *("PATH", "PYTHONPATH", "VIRTUAL_ENV", "TERM", "LANG", "COLUMNS"),
    *("KEEP", "OVN_METADATA_PEER", "OVN_METADATA_GUEST"),
    *("CHAOS_SEEDS", "CHAOS_STEPS", "SOAK_CYCLES", "CRASH_LOOP_S"),
    *("FAULTS", "TOKEN_REQUESTS"),
    "WHY_RUNS",
    *("QUICK", "BENCH_RESULTS"),
)


def main(argv: Sequence[str]) -> int:
    """Run ARGV inside; return its exit code (128 + n for signal n)."""
    if not argv:
        print("usage: python -m sandbox.enter CMD...", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        _become_root(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    namespaces.unshare(
        namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWPID
    )
    init = os.fork()
    if init == 0:
        _run(lambda: _init(argv))
    return _attend(init)


def _become_root(argv: Sequence[str]) -> NoReturn:
    kept = [f"{k}={os.environ[k]}" for k in _KEPT if k in os.environ]
    command = ["sudo", "env", *kept, sys.executable, "-m", "sandbox.enter"]
    os.execvp("sudo", [*command, *argv])


def _run(body: Callable[[], int]) -> NoReturn:
    """End this forked process with BODY's exit code, whatever happens."""
    code = 70
    try:
        code = body()
    except Exception as error:  # noqa: BLE001 a fork has no caller
        print(f"sandbox: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _init(argv: Sequence[str]) -> int:
    namespaces.die_with_parent(signal.SIGKILL)
    host.prepare()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    child = os.fork()
    if child == 0:
        _run(lambda: _command(argv))
    return _attend(child)


def _command(argv: Sequence[str]) -> int:
    os.environ[host.ENVIRONMENT_MARK] = "1"
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        return 127


def _attend(child: int) -> int:
    """Reap until CHILD ends, and hand it the signals we get."""
    deadline: float | None = None
    while True:
        code = _reap(child)
        if code is not None:
            return code
        if deadline is None:
            got = signal.sigwaitinfo(_HANDLED)
        else:
            left = max(0.0, deadline - time.monotonic())
            timed = signal.sigtimedwait(_HANDLED, left)
            if timed is None:
                os.kill(child, signal.SIGKILL)
                deadline = None
                continue
            got = timed
        if got.si_signo in _ENDING:
            # The terminal's own ^C (si_code > 0) reached CHILD as well; a
            # second one would interrupt its tidying up.
            if got.si_code <= 0:
                os.kill(child, got.si_signo)
            deadline = deadline or time.monotonic() + GRACE_S


def _reap(child: int) -> int | None:
    """Collect every process that has ended; CHILD's exit code if it has."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
