"""The privileged context: what runs as root, and how it is called.

The agent calls entrypoints like plain functions. oslo.privsep sends each call
to a daemon that runs as root with the capabilities named here and no others.
"""

import contextlib
import functools
import inspect
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from oslo_config import cfg
from oslo_privsep import capabilities, comm, daemon, priv_context

from . import kernel, signals
from .errors import (
    DaemonError,
    NoRootError,
    PrivilegedError,
    sendable,
    sentence,
)
from .keyed_locks import KeyedLocks

# The agent gives up a call that takes longer than this, and its queue tries
# again. The slowest one, a start of supervisord, takes about 1 s.
CALL_TIMEOUT_S = 30.0
_HANGS = (
    f"the privileged daemon did not answer within {CALL_TIMEOUT_S:.0f} s; if "
    f"this host is not overloaded, kill it: the next call starts another one"
)
_ENDED = "the privileged daemon has ended; the next call starts another one"
_ENDED_EARLY = "the privileged daemon ended before it answered; see its log"
_EOF = "eof"  # how the library says that
_END_S = 2.0

CAPABILITIES = (
    capabilities.CAP_NET_ADMIN,  # links, addresses, sysctls of a namespace
    capabilities.CAP_SYS_ADMIN,  # create, enter and mount namespaces
    capabilities.CAP_CHOWN,  # give folders to the agent and a haproxy
)

# Each gets how many seconds a call took, and whether it failed.
observers: list[Callable[[float, bool], None]] = []

P = ParamSpec("P")
R = TypeVar("R")


def _messages(reader: Iterable[Any]) -> Iterator[Any]:
    """Yield what READER does; end at an error as at an end of file.

    The kernel resets the connection of a daemon that is killed with calls
    unread. The library handles only an end of file: it would treat the daemon
    as running for ever.
    """
    with contextlib.suppress(OSError):
        yield from reader


class _Channel(daemon._ClientChannel):
    """Our end of the connection to a daemon."""

    def _reader_main(self, reader: comm.Deserializer) -> None:
        super()._reader_main(_messages(reader))  # type: ignore[arg-type]  # it iterates

    def exchange_ping(self) -> None:
        """Return when the daemon has answered; raise PrivilegedError.

        The library would wait for ever, and log a traceback. It would also
        leave the connection to the garbage collector.
        """
        connection = self.writer.writesock
        try:
            reply = self.send_recv((comm.Message.PING.value,), CALL_TIMEOUT_S)
            if reply[0] != comm.Message.PONG:
                raise DaemonError(_HANGS)
        except BaseException as error:
            with contextlib.suppress(OSError):  # wakes the reader
                connection.shutdown(socket.SHUT_RDWR)
            self.reader_thread.join(_END_S)
            connection.close()
            if isinstance(error, OSError):
                raise DaemonError(_ENDED_EARLY) from None
            raise


class _HelperChannel(_Channel, daemon.RootwrapClientChannel):
    """The same, for a daemon that the helper command has started."""


class _Context(priv_context.PrivContext):
    # The socket on which root starts a daemon for each connection: a path, or
    # a NUL and the name of an abstract one. Empty: use the helper command.
    address = ""

    def start(
        self, method: priv_context.Method = priv_context.Method.ROOTWRAP
    ) -> None:
        """Start the daemon in our own way, whatever METHOD is."""
        del method
        with self.start_lock:
            if self.channel is None and self.address:
                self.channel = _Channel(self._connection(), self)
            elif self.channel is None:
                self.channel = _HelperChannel(self)

    def set_client_mode(self, enabled: bool) -> None:  # noqa: FBT001
        """Become a daemon, if not ENABLED."""
        super().set_client_mode(enabled)
        if not enabled:
            signals.survive()
            # An object that a library could make only in part prints an
            # error when it is deleted. The call has raised the reason.
            sys.unraisablehook = lambda _: None

    def _connection(self) -> socket.socket:
        """Return a connection to root; raise OSError, PrivilegedError."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(CALL_TIMEOUT_S)
            connection.connect(self.address)
            connection.settimeout(None)
            # We trust a daemon's answers, even the classes of exceptions.
            if kernel.peer_uid(connection) != 0:
                raise DaemonError("the socket is not owned by root")
        except BaseException as error:
            connection.close()
            # At a path, systemd may listen again.
            is_lasting = self.address.startswith("\0")
            if is_lasting and isinstance(error, ConnectionRefusedError):
                raise NoRootError(
                    "the process that stayed root, to start privileged "
                    "daemons, has ended; restart the agent"
                ) from None
            raise
        return connection


_process_cmd = daemon.Daemon._process_cmd


def _process_ours(
    self: daemon.Daemon, msgid: str, cmd: comm.Message, *args: Any
) -> tuple[Any, ...]:
    """Do a call as the library does, but import only modules of ours.

    The library imports whatever the agent names, and only then looks whether
    it is an entrypoint. Some modules act when they are imported.
    """
    if args and not str(args[0]).startswith(f"{__package__}."):
        args = ("", *args[1:])  # the library refuses that
    return _process_cmd(self, msgid, cmd, *args)


# Not a class of ours: privsep-helper makes the library's.
daemon.Daemon._process_cmd = _process_ours  # type: ignore[method-assign]

default = _Context(
    __package__,
    cfg_section="privsep",
    pypath=__name__ + ".default",
    capabilities=list(CAPABILITIES),
    timeout=CALL_TIMEOUT_S,
)
# The library's own is the number of CPUs. A request from inside a namespace
# may wait for Nova, and must not delay the calls that provision networks.
cfg.CONF.set_default("thread_pool_size", 8, group="privsep")


_UMASK = 0o022
# A call that the agent gave up still runs here when the agent calls again:
# let one call at a time work on a network. One that waits for it ends when the
# agent gives it up as well: else calls for one network take all threads.
_subjects = KeyedLocks()
_restart_lock = threading.Lock()
_stopped = threading.Event()
_calls = itertools.count(1)
_TRIM_CALLS = 100


def entrypoint(
    *, subject: str | None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function run in the daemon when its caller is the agent.

    SUBJECT names the parameter that calls are serialised by: calls with the
    same value run one after the other. None for calls that only read.
    """

    def decorate(func: Callable[P, R]) -> Callable[P, R]:
        remote = cast("Callable[P, R]", default.entrypoint(func))
        signature = inspect.signature(func)
        if subject is not None and subject not in signature.parameters:
            raise TypeError(f"{func.__name__} has no parameter {subject}")

        @functools.wraps(func)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if default.client_mode:
                with _calling():
                    return remote(*args, **kwargs)
            with contextlib.ExitStack() as stack:
                stack.enter_context(_serving())
                if subject is not None:
                    given = signature.bind(*args, **kwargs).arguments
                    key = str(given[subject])
                    held = _subjects.held(key, CALL_TIMEOUT_S)
                    stack.enter_context(held)
                return func(*args, **kwargs)

        # The daemon recognises entrypoints by this attribute.
        setattr(call, priv_context._ENTRYPOINT_ATTR, default)
        return call

    return decorate


@contextlib.contextmanager
def _calling() -> Iterator[None]:
    """Prepare the call to the daemon inside, and note how it went."""
    began, failed = time.monotonic(), True
    try:
        _start_daemon()
        yield
        failed = False
    except comm.PrivsepTimeout:  # has no text
        raise DaemonError(_HANGS) from None
    except OSError as error:
        if error.errno is None and _EOF in str(error):
            raise DaemonError(_ENDED) from None
        raise
    finally:
        for observe in observers:
            observe(time.monotonic() - began, failed)


def _start_daemon() -> None:
    try:
        ensure_daemon()
    except (
        *(ConnectionRefusedError, FileNotFoundError, TimeoutError),
        daemon.FailedToDropPrivileges,
    ) as error:
        way = default.address.strip("\0") or "helper_command"
        raise DaemonError(
            f"the privileged daemon can't be started by {way}: "
            f"{sentence(error)}"
        ) from None


@contextlib.contextmanager
def _serving() -> Iterator[None]:
    """Prepare the daemon for the call inside, and its error for the agent."""
    # The daemon begins with umask 0: neither we nor a library may make a file
    # that everybody can write.
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

    The library does that too, but without a lock: if two threads find the
    daemon dead, one would stop the daemon that the other has started.
    """
    with _restart_lock:
        if _stopped.is_set():
            raise PrivilegedError("the agent ends; no daemon is started")
        channel = default.channel
        if channel is not None and not channel.running:
            default.stop()
            # The library leaves this to the garbage collector.
            channel.writer.writesock.close()
        if default.channel is None:
            default.start()


def stop_daemon() -> None:
    """End the daemon for good, because the agent ends.

    It ends after the calls that it serves. Those that hang are given up
    here, with an OSError.
    """
    with _restart_lock:
        channel, was_stopped = default.channel, _stopped.is_set()
        _stopped.set()
        if was_stopped or channel is None:
            return
        # The library's own stop would wait as long as a call hangs.
        channel.writer.close()
        channel.reader_thread.join(_END_S)
        if channel.reader_thread.is_alive():
            channel.writer.writesock.shutdown(socket.SHUT_RD)
