"""The listening sockets that supervisord holds for its programs.

A haproxy has them as descriptors from its start: a network's from 3 on
(`bind fd@3`), the gateway's as standard input. They stay open when it dies: a
client waits in the queue for the next haproxy instead of being refused.

While a network's haproxy can't be started, its clients wait too: cloud-init
gives up when it is refused, but waits 10 s for an answer. The gateway's
clients are haproxies, which have to answer 503 at once: while the gateway
can't be started, it has no socket.

supervisor's own fcgi-program starts a program with a socket too, but closes
the socket when the program ends, and takes none over.
"""

import contextlib
import errno
import fcntl
import functools
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import kernel, names
from ..errors import sentence
from ..fleet import stale
from . import listeners
from .listeners import Listener
from .takeover import Takeover, network_of

# In a program's command: the user of its haproxy, and the group of all.
_IDS = re.compile(r" --(?:reuid|groups)=(\d+)")


class HeldSockets:
    """The sockets, by program; PATH is the gateway's."""

    def __init__(self, path: Path, takeover: Takeover) -> None:
        self._path = path
        self._takeover = takeover
        # Each in the order of their numbers.
        self._held: dict[str, dict[Listener, socket.socket]] = {}
        # Network -> why it lacks sockets, by the last start of its program.
        self.refused: dict[str, str] = {}

    def are_in_order(self, config: Any) -> bool:
        """Return whether clients reach the program CONFIG by its sockets.

        Raises OSError where that can't be seen.
        """
        held = self._held.get(network_of(config), {})
        try:
            with self._wanted(config) as wanted:
                return [*held] == wanted and all(
                    one.works(held[one]) for one in wanted
                )
        except FileNotFoundError:  # the namespace
            return False

    def are_as_tried(self, process: Any) -> bool:
        """Return whether PROCESS wants the sockets of its last start.

        Not if there was no veth then: it would lack the one for IPv6. Raises
        OSError where that can't be seen.
        """
        try:
            with self._wanted(process.config) as wanted:
                return bool(wanted == process.wanted)
        except FileNotFoundError:  # the namespace
            return False

    def start(self, event: Any) -> None:
        """Prepare the sockets of a process that is about to be forked.

        If one is missing that haproxy needs, it ends and logs why. Raises
        OSError then.
        """
        process = event.process
        process.began = time.monotonic()
        network = network_of(process.config)
        self.refused.pop(network, None)
        try:
            self._ensure(process)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                # A stale haproxy has the port, and its socket can't be
                # borrowed: the kernel is older than Linux 5.6, or it was
                # broken into. End it before the next try.
                number = signal.SIGKILL if process.backoff else stale.FINISH
                self._takeover.end(network, number)
            else:
                self.refused[network] = sentence(error)
            what = f"sockets of {network}: {error.strerror}"
            raise OSError(error.errno, what) from None
        finally:
            process._prepare_child_fds = functools.partial(
                self._prepare_child, process, network
            )

    def _prepare_child(self, process: Any, network: str) -> None:
        """Set the descriptors of NETWORK's PROCESS, in the forked child.

        The listeners get fixed numbers. All others except the first three are
        closed.
        """
        options = process.config.options
        options.minfds = 0  # it would close them one by one
        type(process)._prepare_child_fds(process)
        os.write(1, f"{names.STARTS}\n".encode())
        if not self._takeover.is_awaited(network):
            self._takeover.note_pid(network, os.getpid())
        first = 0 if network == names.GATEWAY else names.LISTENER_V4
        # First to higher numbers, so that none overwrites another one.
        free = names.LISTENER_V6 + 1
        moved = [
            fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, free)
            for one in self._held.get(network, {}).values()
        ]
        for number, descriptor in enumerate(moved, first):
            os.dup2(descriptor, number)
        last = os.sysconf("SC_OPEN_MAX")
        os.closerange(max(names.LISTENER_V4, first + len(moved)), last)

    def _ensure(self, process: Any) -> None:
        """Hold the sockets of PROCESS: kept, borrowed or made."""
        network = network_of(process.config)
        with self._wanted(process.config) as wanted:
            process.wanted = wanted
            held = self._held.setdefault(network, {})
            # In order, without a gap: they get their numbers by it.
            kept = 0
            for one, listener in zip(held, wanted, strict=False):
                if one != listener or not listener.works(held[one]):
                    break
                kept += 1
            for listener in [*held][kept:]:
                held.pop(listener).close()  # a new one may need its address
            for listener in wanted:
                if listener not in held:
                    there = self._borrow(network, listener) or listener.make()
                    held[listener] = there
                listener.adopt(held[listener])
                # All holders share this flag. Without it a haproxy would
                # block in accept() if another one is faster.
                held[listener].settimeout(0)

    def _borrow(self, network: str, wanted: Listener) -> socket.socket | None:
        """Return a socket of NETWORK's stale haproxies, if one has it."""
        pids = [
            one.process.pid
            for one in self._takeover.before(network)
            if one.is_placed_by_root()
        ]
        return listeners.borrow(pids, wanted) if pids else None

    @contextlib.contextmanager
    def _wanted(self, config: Any) -> Iterator[list[Listener]]:
        """Give the listeners that CONFIG needs, inside its namespace."""
        network = network_of(config)
        owner, group = map(int, _IDS.findall(config.command))
        if network == names.GATEWAY:
            yield [listeners.UnixListener(self._path, group)]
        else:
            namespace = kernel.open_namespace(network)
            with kernel.closing(namespace), kernel.entered(namespace):
                yield listeners.of_network(network, owner)

    def fail(self, event: Any) -> None:
        """Restart a process at once if it ended early for the first time.

        It may have been killed. If a gateway ends early again, its socket is
        closed, unless its predecessor still serves.
        """
        process = event.process
        network, takeover = network_of(process.config), self._takeover
        if process.backoff == 1:
            process.delay = 0
        elif network == names.GATEWAY and not takeover.is_awaited(network):
            if self._held.get(network):
                self._path.unlink(missing_ok=True)
            self.close(network)

    def stop(self, _event: Any) -> None:
        """Close all sockets: supervisord is about to close descriptors.

        It ends its programs then, and we those that they have replaced.
        """
        for network in [*self._held]:
            self.close(network)
        self._takeover.stop()

    def close(self, network: str) -> None:
        """Close the sockets of NETWORK; a haproxy may still have them."""
        self.refused.pop(network, None)
        for one in self._held.pop(network, {}).values():
            one.close()
