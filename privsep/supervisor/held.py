"""The listening sockets that supervisord holds for its programs.

A haproxy has them as descriptors from its start: a network's from 3 on
(`bind fd@3`), the gateway's as standard input. One that dies leaves them
open: a client waits in the queue for the next haproxy, and is not refused.

While a network's haproxy can't be started its clients wait all the same: one
that is refused gives its boot up, one that waits has 10 s (cloud-init). The
gateway's clients are haproxies, which have to answer 503 at once: it has no
socket then.

supervisor's own fcgi-program starts a program with a socket too, but closes
that when the program ends, and takes none over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import kernel, names
from ..fleet import stale
from . import listeners
from .programs import Program
from .takeover import Takeover

_GATEWAYS_LISTENER = 0


class HeldSockets:
    """What supervisord holds, by program; PATH is the gateway's."""

    def __init__(self, path: Path, takeover: Takeover) -> None:
        self._path = path
        self._takeover = takeover
        self._held: dict[str, list[socket.socket]] = {}

    def are_in_order(self, program: Program) -> bool:
        """Tell whether clients reach PROGRAM by what it was given.

        Raises OSError where that can't be seen.
        """
        held = self._held.get(program.network, [])
        try:
            with self._wanted(program) as wanted:
                return len(held) == len(wanted) and all(
                    one.fits(found)
                    for one, found in zip(wanted, held, strict=True)
                )
        except FileNotFoundError:  # the namespace
            return False

    def start(self, event: Any) -> None:
        """Have a process start with its sockets; it is not forked yet.

        Without them haproxy ends and says so. Raises OSError.
        """
        process = event.process
        program = Program.of(process.config)
        try:
            self._ensure(program)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                # One that lends nothing (before Linux 5.6), or that was
                # broken into, has the port: it goes before the next try.
                number = signal.SIGKILL if process.backoff else stale.FINISH
                self._takeover.end(program.network, program.haproxy, number)
            what = f"sockets of {program.network}: {error.strerror}"
            raise OSError(error.errno, what) from None
        finally:
            process._prepare_child_fds = functools.partial(
                _prepare_descriptors,
                process,
                self._held.get(program.network, []),
                first=_GATEWAYS_LISTENER
                if program.is_gateway
                else names.LISTENER_V4,
            )

    def _ensure(self, program: Program) -> None:
        """Have the sockets of PROGRAM: kept, borrowed or made."""
        held = self._held.pop(program.network, [])
        found = self._held[program.network] = []
        with self._wanted(program) as wanted:
            kept = [one for one in held if any(w.fits(one) for w in wanted)]
            for one in held:
                if one not in kept:  # it may be in the way of a new one
                    one.close()
            for listener in wanted:
                fitting = (one for one in kept if listener.fits(one))
                there = next(fitting, None) or self._borrow(program, listener)
                found.append(there or listener.make())
                listener.adopt(found[-1])
                # Else a haproxy would wait for ever where another one was
                # faster: all have the same flag.
                found[-1].settimeout(0)

    def _borrow(
        self, program: Program, wanted: listeners.Listener
    ) -> socket.socket | None:
        """Return a socket of what ran before PROGRAM, if it has one."""
        for one in self._takeover.before(program):
            with contextlib.closing(listeners.borrow(one.pid)) as lent:
                for found in lent:
                    if wanted.fits(found):
                        # Not its own dup(), which has all haproxies block.
                        return socket.socket(fileno=os.dup(found.fileno()))
        return None

    @contextlib.contextmanager
    def _wanted(self, program: Program) -> Iterator[list[listeners.Listener]]:
        """Give what PROGRAM is to have; inside its namespace."""
        if program.is_gateway:
            yield [listeners.UnixListener(self._path, program.group)]
        elif program.has_listeners:
            name = names.namespace_name(program.network)
            namespace = kernel.open_namespace(name)
            try:
                with kernel.entered(namespace):
                    yield listeners.of_network(program.network, program.owner)
            finally:
                os.close(namespace)
        else:
            yield []

    def fail(self, event: Any) -> None:
        """Start a process at once if it has ended early for the first time.

        It may have been killed. A gateway has no socket after that, unless
        the one before it serves on.
        """
        process = event.process
        program = Program.of(process.config)
        if process.backoff == 1:
            process.delay = 0
        elif program.is_gateway and not any(
            one.told is None for one in self._takeover.before(program)
        ):
            if self._held.get(program.network):
                self._path.unlink(missing_ok=True)
            self._close(program.network)

    def forget(self, event: Any) -> None:
        """Let go of the sockets of a program that is removed."""
        self._close(str(names.network_of_program(event.group)))

    def stop(self, _event: Any) -> None:
        """Let go of all sockets: supervisord closes all descriptors."""
        for network in [*self._held]:
            self._close(network)

    def _close(self, network: str) -> None:
        """Let go of what is held for NETWORK; a haproxy has it still."""
        for one in self._held.pop(network, []):
            one.close()


def _prepare_descriptors(
    process: Any, held: list[socket.socket], *, first: int
) -> None:
    """Set the descriptors of the child PROCESS, which this is.

    HELD gets the numbers from FIRST on. All but those and the first three
    are closed: supervisord would do it one by one.
    """
    options = process.config.options
    last, options.minfds = options.minfds, 0
    type(process)._prepare_child_fds(process)
    # Out of the way of the numbers that they get.
    after = names.LISTENER_V6 + 1
    moved = [
        fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, after) for one in held
    ]
    for number, descriptor in enumerate(moved, first):
        os.dup2(descriptor, number)
    os.closerange(max(names.LISTENER_V4, first + len(held)), last)
