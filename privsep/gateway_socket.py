"""The socket where the networks' haproxies ask the gateway.

supervisord holds it, in root's own folder: a gateway that dies leaves it
open. Who asks meanwhile waits in its queue for the next gateway, which has
it as standard input (haproxy: `bind fd@0`). While the gateway can't be
started it is away: who asks is to know at once, not after a timeout. Where an
earlier supervisord's gateway still serves, it keeps the name until ours does.

supervisor's own fcgi-program starts a program with a socket too, but closes
that when the program ends, and has no way to name a group without a name.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import time
from pathlib import Path
from typing import Any

from supervisor import events

from . import names, orphans

_BACKLOG = 4096  # connections that wait; Linux's net.core.somaxconn
_MODE = 0o660
# What an earlier gateway gets to take what waits in its queue.
_MOMENT_S = 0.5


class GatewaySocket:
    """Held while supervisord's gateway runs or is being started."""

    def __init__(self, path: Path, *, logger: Any) -> None:
        self._path = path
        self._bound = path  # what its name is now
        self._since = 0.0  # when that became the path (monotonic)
        self._complaint = ""
        self._logger = logger
        self._socket: socket.socket | None = None
        self._inode = 0  # of the file that is bound to it
        self._gid = 0
        events.subscribe(events.ProcessStateStartingEvent, self._starting)
        events.subscribe(events.ProcessStateBackoffEvent, self._failing)
        events.subscribe(events.ProcessStateFatalEvent, self._failing)

    def is_in_order(self) -> bool:
        """Tell whether the gateway can be asked, as far as this goes.

        It can't where somebody has removed the file, or a gateway that was
        broken into has shut down what it shares with us.
        """
        return self._socket is None or self._is_listening(self._socket)

    def _is_listening(self, held: socket.socket) -> bool:
        try:
            inode = os.lstat(self._bound).st_ino
        except FileNotFoundError:
            return False
        is_shut = select.poll()
        is_shut.register(held, select.POLLRDHUP)
        return inode == self._inode and not is_shut.poll(0)

    def _starting(self, event: Any) -> None:
        """Have the gateway start with the socket; it is not forked yet."""
        process = event.process
        if not is_gateway(process.config):
            return
        gid = _group_of(process)
        try:
            held = self._socket
            if (
                held is None
                or gid != self._gid
                or not self._is_listening(held)
            ):
                self.close()
                self._listen(gid)
        # Whatever it was: haproxy says that it has no socket, and
        # supervisord goes on.
        except OSError as error:
            self._complain(error)
        if not hasattr(process, "_prepare_without_socket"):
            process._prepare_without_socket = process._prepare_child_fds
            process._prepare_child_fds = lambda: self._prepare(process)

    def _prepare(self, process: Any) -> None:
        """Put the socket in the place of PROCESS's standard input.

        In the child, before supervisord puts there the pipe that it has
        made for it.
        """
        if self._socket is not None:
            process.pipes["child_stdin"] = self._socket.fileno()
        process._prepare_without_socket()

    def _failing(self, event: Any) -> None:
        """Have nobody wait for a gateway that does not come.

        One that has ended early just once may have been killed: the next is
        started at once.
        """
        process = event.process
        if not is_gateway(process.config):
            return
        if process.backoff == 1:
            process.delay = 0
        elif self._socket is not None:
            # Else the name is that of an earlier supervisord's.
            with contextlib.suppress(OSError):
                self._bound.unlink()
            self.close()

    def _listen(self, gid: int) -> None:
        """Listen at the path, for the group GID; raise OSError."""
        # Under another name until it can be used: asked before, it refuses.
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(fresh))
            os.chown(fresh, 0, gid)
            os.chmod(fresh, _MODE)
            listener.listen(_BACKLOG)
            self._inode = os.lstat(fresh).st_ino
        except OSError:
            listener.close()
            raise
        self._socket, self._gid = listener, gid
        self._bound = fresh
        self.publish_if_nobody_answers()

    def publish_if_nobody_answers(self) -> None:
        """Have it be where the gateway is asked, if it refuses by now."""
        if self._socket is not None and not (
            self._bound == self._path or _answers(self._path)
        ):
            self.publish()

    def publish(self) -> bool:
        """Have it be where the gateway is asked.

        Tells whether it has been for a moment.
        """
        if self._bound == self._path:
            return time.monotonic() - self._since >= _MOMENT_S
        try:
            self._bound.replace(self._path)
        except OSError as error:  # seen by `is_in_order`
            self._complain(error)
        else:
            self._bound, self._since = self._path, time.monotonic()
        return False

    def _complain(self, error: OSError) -> None:
        """Say ERROR, once: it may come with each round."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            self._logger.error(
                "%(path)s: %(error)s", path=self._path, error=error
            )

    def close(self) -> None:
        """Let go of it; a gateway that has it has it still."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _answers(path: Path) -> bool:
    """Tell whether somebody listens at PATH."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # a full queue
        except OSError:
            return False
        return True


def is_gateway(config: Any) -> bool:
    """Tell whether CONFIG, of a program of supervisord's, is the gateway's."""
    name: str = config.name
    return name == names.program_name(names.GATEWAY)


def _group_of(process: Any) -> int:
    """Return the group that all haproxies are in, by PROCESS's command."""
    value = orphans.value_of(shlex.split(process.config.command), "--groups=")
    return int(value) if value.isdecimal() else 0
