"""The sockets on which haproxies listen: made, checked and borrowed.

Sockets share a port (SO_REUSEPORT) only if they have the same owner: the user
who made them, unless fchown(2) has changed it. A network's belong to its own
user: a haproxy that Neutron's agent starts as root can't listen beside ours.

No name is read from /proc/net: any user can choose those in it.
"""

import contextlib
import dataclasses
import errno
import os
import re
import select
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from supervisor.states import ProcessStates

from .. import kernel, names

# Connections that wait; Linux's net.core.somaxconn.
_BACKLOG = 4096
_UNIX_MODE = 0o660
_IPV6 = Path("/proc/thread-self/net/if_inet6")
_TCP = {
    socket.AF_INET: "/proc/thread-self/net/tcp",
    socket.AF_INET6: "/proc/thread-self/net/tcp6",
}
_IP_FREEBIND = 15  # <linux/in.h>: bind before the address exists
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, since Linux 5.14
# A haproxy opens its listeners before any connection: they have low numbers.
# (To list /proc/PID/fd takes CAP_DAC_READ_SEARCH, which supervisord has not.)
_FIRST = 64
_STATS = re.compile(rb"(.*/)?stats\.sock(\.[0-9]+\.tmp)?$", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class TcpListener:
    """A listener in a network's namespace; this thread must be in it."""

    family: int
    address: tuple[str | int, ...]  # as Python's sockets have it
    owner: int  # user id

    def fits(self, found: socket.socket) -> bool:
        """Return whether FOUND is such a listener and still works.

        It does not if the veth or the namespace was made again, or if a
        haproxy that was broken into has shut down the socket it shares.
        """
        if (found.family, found.getsockname()) != (self.family, self.address):
            return False
        return _listens(found) and _is_here(found)

    def make(self) -> socket.socket:
        """Make it; raise OSError."""
        made = socket.socket(self.family)
        try:
            self.adopt(made)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                made.setsockopt(socket.SOL_SOCKET, option, 1)
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            made.bind(self.address)
            made.listen(_BACKLOG)
        except OSError:
            made.close()
            raise
        return made

    def adopt(self, found: socket.socket) -> None:
        """Give FOUND, whoever made it, to the owner."""
        os.fchown(found.fileno(), self.owner, -1)


@dataclasses.dataclass(frozen=True, slots=True)
class UnixListener:
    """The gateway's listener, in a folder where only root can write."""

    path: Path
    group: int  # of those who may connect

    def fits(self, found: socket.socket) -> bool:
        """Return whether FOUND is the socket that listens at the path.

        In a mount namespace any user can make a socket with that path, but
        not one on which root listens.
        """
        bound = {str(self.path), str(self._fresh)}
        return (
            found.family == socket.AF_UNIX
            and found.getsockname() in bound
            and kernel.peer_uid(found) == os.geteuid()
            and _listens(found)
            and self._answers()
            and os.stat(self.path).st_mode & 0o777 == _UNIX_MODE
        )

    def make(self) -> socket.socket:
        """Make it; raise OSError."""
        # Under another name until it listens: it would refuse clients before.
        self._fresh.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX)
        try:
            made.bind(str(self._fresh))
            os.chmod(self._fresh, _UNIX_MODE)
            made.listen(_BACKLOG)
            os.chown(self._fresh, 0, self.group)
            self._fresh.replace(self.path)
        except OSError:
            made.close()
            raise
        return made

    def adopt(self, _found: socket.socket) -> None:
        """Let the group connect."""
        os.chown(self.path, 0, self.group)

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(f".{self.path.name}.new")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)
            try:
                probe.connect(str(self.path))
            except BlockingIOError:
                return True  # a full queue
            except OSError:
                return False
            return True


Listener: TypeAlias = TcpListener | UnixListener


def of_network(network: str, owner: int) -> list[Listener]:
    """Return NETWORK's listeners; call it inside the namespace.

    Without the veth there is none for IPv6. Raises OSError if no descriptor
    is left: then the veth would not be found either.
    """
    socket.socket(socket.AF_UNIX).close()
    v4 = (names.METADATA_ADDRESS_V4, names.METADATA_PORT)
    found: list[Listener] = [TcpListener(socket.AF_INET, v4, owner)]
    with contextlib.suppress(OSError):
        index = socket.if_nametoindex(names.inner_veth(network))
        if _IPV6.exists():
            v6 = (names.METADATA_ADDRESS_V6, names.METADATA_PORT, 0, index)
            found.append(TcpListener(socket.AF_INET6, v6, owner))
    return found


def _listens(found: socket.socket) -> bool:
    """Return whether FOUND listens and was not shut down."""
    is_shut = select.poll()
    is_shut.register(found, select.POLLRDHUP)
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listens) and not is_shut.poll(0)


def _is_here(found: socket.socket) -> bool:
    """Return whether the TCP socket FOUND is in this thread's namespace."""
    option = socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8
    try:
        with socket.socket(found.family) as here:
            return found.getsockopt(*option) == here.getsockopt(*option)
    except OSError:  # before Linux 5.14: search for its inode here
        inode = str(os.fstat(found.fileno()).st_ino)
        with open(_TCP[found.family]) as lines:
            return any(line.split()[9] == inode for line in lines)


def serves(process: Any) -> bool:
    """Return whether supervisord's PROCESS, a haproxy that runs, serves.

    One that serves has a listener of its own, the stats socket. Before Linux
    5.6 that can't be seen. The best guess is RUNNING there, which means that
    it has run for a second.
    """
    try:
        return any(
            found.family == socket.AF_UNIX
            # haproxy binds it under a temporary name.
            and _STATS.match(os.fsencode(found.getsockname()))
            for found in _all_listening(process.pid)
        )
    except ProcessLookupError:  # it ended
        return False
    except OSError:
        return bool(process.get_state() == ProcessStates.RUNNING)


def borrow(pid: int) -> Generator[socket.socket, None, None]:
    """Yield the sockets on which the haproxy PID listens.

    Each is closed when the next one is taken. None before Linux 5.6, without
    CAP_SYS_PTRACE, or if it has ended.
    """
    with contextlib.suppress(OSError):
        yield from _all_listening(pid)


def _all_listening(pid: int) -> Iterator[socket.socket]:
    """Yield the listening sockets of the haproxy PID.

    A master, as Kolla starts Neutron's, has them in its workers.
    """
    for one in (pid, *_workers(pid)):
        yield from _listening(one)


def _workers(master: int) -> list[int]:
    """Return the children of MASTER; none if it has ended."""
    children = Path(f"/proc/{master}/task/{master}/children")
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in children.read_text().split()]
    return []


def _listening(pid: int) -> Iterator[socket.socket]:
    with kernel.closing(os.pidfd_open(pid)) as pidfd:
        for number in range(_FIRST):
            try:
                descriptor = kernel.borrow_descriptor(pidfd, number)
            except OSError as error:
                if error.errno == errno.EBADF:  # not open
                    continue
                raise
            try:
                found = socket.socket(fileno=descriptor)
            except OSError:  # no socket
                os.close(descriptor)
                continue
            with found:  # closes our descriptor only
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield found
