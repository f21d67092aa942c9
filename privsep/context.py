"""The privileged context: what runs as root, and how it is called.

The agent calls the entrypoints of `network` and `fleet` as if they were
plain functions; oslo.privsep sends each call to a daemon that runs as root
with the capabilities named here and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from oslo_privsep import capabilities, comm, daemon, priv_context

from . import kernel
from .errors import PrivilegedError, sendable
from .keyed_locks import KeyedLocks

# A call that takes longer than this is given up and tried again by the
# reconcile queue; the slowest one, a supervisord start, takes about 1 s.
CALL_TIMEOUT_S = 30.0
_HANGS = (
    f"the privileged daemon did not answer within {CALL_TIMEOUT_S:.0f} s; if "
    f"this happens again, kill it: the next call starts another one"
)
_END_S = 2.0

CAPABILITIES = (
    capabilities.CAP_NET_ADMIN,  # links, addresses, sysctls of a namespace
    capabilities.CAP_SYS_ADMIN,  # create, enter and mount namespaces
    capabilities.CAP_CHOWN,  # give folders to the agent and a haproxy
)

P = ParamSpec("P")
R = TypeVar("R")


class _Reader(comm.Deserializer):
    def __next__(self) -> Any:
        """Return the next message; a reset is the end of them.

        The kernel resets the connection of a daemon that is killed with
        calls unread. The library knows an end of file only: it would take
        the daemon for a running one ever after.
        """
        try:
            return super().__next__()
        except ConnectionError:
            raise StopIteration from None


class _Channel(daemon._ClientChannel):
    """Our end of the connection to a daemon."""

    def _reader_main(self, reader: comm.Deserializer) -> None:
        super()._reader_main(_Reader(reader.readsock))

    def exchange_ping(self) -> None:
        """Return when the daemon has answered; raise PrivilegedError.

        The library waits for ever, and logs a traceback.
        """
        try:
            reply = self.send_recv((comm.Message.PING.value,), CALL_TIMEOUT_S)
        except OSError:
            raise PrivilegedError("it ended before it answered") from None
        if reply[0] != comm.Message.PONG:
            with contextlib.suppress(OSError):  # wakes the reader
                self.writer.writesock.shutdown(socket.SHUT_RDWR)
            raise PrivilegedError("it does not answer")


class _HelperChannel(_Channel, daemon.RootwrapClientChannel):
    """The same, to a daemon that the helper command has started."""


class _Context(priv_context.PrivContext):
    # Of a socket of root's where a connection is served by a daemon: a path,
    # or the name of an abstract one after a NUL. Empty: the helper command.
    address = ""

    def start(
        self, method: priv_context.Method = priv_context.Method.ROOTWRAP
    ) -> None:
        """Start the daemon, by our way whatever METHOD."""
        del method
        with self.start_lock:
            if self.channel is None and self.address:
                self.channel = _Channel(self._connection(), self)
            elif self.channel is None:
                self.channel = _HelperChannel(self)

    def _connection(self) -> socket.socket:
        """Return a connection to root; raise OSError, PrivilegedError."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(CALL_TIMEOUT_S)
            connection.connect(self.address)
            connection.settimeout(None)
            # What a daemon answers we take for true, down to the classes of
            # exceptions.
            if kernel.peer_uid(connection) != 0:
                raise PrivilegedError("the socket is not owned by root")
        except BaseException:
            connection.close()
            raise
        return connection


default = _Context(
    __package__,
    cfg_section="privsep",
    pypath=__name__ + ".default",
    capabilities=list(CAPABILITIES),
    timeout=CALL_TIMEOUT_S,
)


_UMASK = 0o022
# A call that was given up by the agent is still at work here when it is made
# again: one at a time about a network.
_subjects = KeyedLocks()
_restart_lock = threading.Lock()
_stopped = threading.Event()
_calls = itertools.count(1)
_TRIM_CALLS = 100


def entrypoint(
    *, subject: str | None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function run in the daemon when its caller is the agent.

    SUBJECT names the parameter that says what a call is about: calls about
    the same thing run one after the other. None for those that only read.
    """

    def decorate(func: Callable[P, R]) -> Callable[P, R]:
        remote = cast("Callable[P, R]", default.entrypoint(func))
        signature = inspect.signature(func)
        if subject is not None and subject not in signature.parameters:
            raise TypeError(f"{func.__name__} has no parameter {subject}")

        @functools.wraps(func)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if default.client_mode:
                ensure_daemon()
                try:
                    return remote(*args, **kwargs)
                except comm.PrivsepTimeout:  # has no text
                    raise PrivilegedError(_HANGS) from None
            with contextlib.ExitStack() as stack:
                stack.enter_context(_serving())
                if subject is not None:
                    given = signature.bind(*args, **kwargs).arguments
                    key = str(given[subject])
                    stack.enter_context(_subjects.held(key))
                return func(*args, **kwargs)

        # What the daemon knows its entrypoints by.
        setattr(call, priv_context._ENTRYPOINT_ATTR, default)
        return call

    return decorate


@contextlib.contextmanager
def _serving() -> Iterator[None]:
    """Carry out a call inside, in the daemon."""
    # The daemon begins with umask 0; nothing here, nor in a library, is to
    # make a file that everybody can write.
    os.umask(_UMASK)
    try:
        yield
    except Exception as error:
        if (sent := sendable(error)) is not error:
            raise sent from error
        raise
    finally:
        if next(_calls) % _TRIM_CALLS == 0:
            kernel.trim_heap()


def ensure_daemon() -> None:
    """Start the daemon if it is not running.

    The library does that too, but without a lock: of two threads that
    find the daemon dead, one would stop the other's new one.
    """
    with _restart_lock:
        if _stopped.is_set():
            raise PrivilegedError("the agent ends; no daemon is started")
        channel = default.channel
        if channel is not None and not channel.running:
            default.stop()
            # The library leaves it to the garbage collector, some day.
            channel.writer.writesock.close()
        if default.channel is None:
            default.start()


def stop_daemon() -> None:
    """End the daemon for good, for the agent's own end.

    It ends after the calls that it is at; those that hang are given up
    here, with an OSError.
    """
    with _restart_lock:
        channel, was_stopped = default.channel, _stopped.is_set()
        _stopped.set()
        if was_stopped or channel is None:
            return
        # Not the library's own stop: that waits for the daemon's end for
        # as long as a call of it hangs.
        channel.writer.close()
        channel.reader_thread.join(_END_S)
        if channel.reader_thread.is_alive():
            channel.writer.writesock.shutdown(socket.SHUT_RD)
