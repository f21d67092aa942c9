"""The sockets on which haproxies listen: made, checked and borrowed.

Sockets share a port (SO_REUSEPORT) only if they have the same owner: the user
who made them, unless fchown(2) has changed it. A network's belong to its own
user: a haproxy that Neutron's agent starts as root can't listen beside ours.
"""

import contextlib
import dataclasses
import errno
import functools
import os
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

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


@dataclasses.dataclass(frozen=True, slots=True)
class TcpListener:
    """A listener in a network's namespace; this thread must be in it."""

    family: int
    address: tuple[str | int, ...]  # as Python's sockets have it
    # User id; `adopt` changes it.
    owner: int = dataclasses.field(compare=False)

    def fits(self, found: socket.socket) -> bool:
        """Return whether FOUND is such a listener and works."""
        named = found.family, found.getsockname()
        return named == (self.family, self.address) and self.works(found)

    def works(self, found: socket.socket) -> bool:
        """Return whether FOUND, which did fit, still works.

        It does not if the namespace was made again, or if a haproxy that was
        broken into has shut down the socket it shares. Its name is not asked
        for: such a haproxy can lock the socket for good (setsockopt(2) with a
        file of FUSE as memory), and getsockname(2) waits for that.
        """
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
    # Of those who may connect; `adopt` changes it.
    group: int = dataclasses.field(compare=False)
    family: ClassVar[int] = socket.AF_UNIX

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

    works = fits

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

    One that serves has a listener of its own, the stats socket, and binds it
    under a name with its pid. Another process there may take that name, and
    gains nothing: clients wait in the queue of our socket until it serves.
    """
    listens = rb" 00010000 .* stats\.sock\.%d\.tmp$" % process.pid
    try:
        sockets = Path(f"/proc/{process.pid}/net/unix").read_bytes()
    except OSError:  # it ended
        return False
    return re.search(listens, sockets, re.MULTILINE) is not None


def borrow(pids: list[int], wanted: Listener) -> socket.socket | None:
    """Return a socket of the haproxies PIDS that fits WANTED, if one has it.

    None before Linux 5.6, or without CAP_SYS_PTRACE. A child takes and closes
    what they have: a haproxy that was broken into may hold a file, as of
    FUSE, whose close(2) never ends, not even by SIGKILL.
    """
    descriptors: list[int] = []
    lend = functools.partial(_lend, pids, wanted)
    with kernel.asking_child(lend) as child:
        _, descriptors, _, _ = socket.recv_fds(child, 1, 1)
    if not descriptors:
        return None
    # Not by fileno=, which asks for the name, see TcpListener.works.
    lent = socket.socket(wanted.family)
    os.dup2(descriptors[0], lent.fileno(), inheritable=False)
    os.close(descriptors[0])
    return lent


def _lend(pids: list[int], wanted: Listener, to: socket.socket) -> None:
    """Send what fits WANTED over TO, in a child that may hang."""
    for pid in pids:
        # A master, as Kolla starts Neutron's, has them in its workers.
        for one in (pid, *_workers(pid)):
            with contextlib.suppress(OSError):
                for found in _listening(one):
                    if wanted.fits(found):
                        socket.send_fds(to, [b"."], [found.fileno()])
                        return


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
            with found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield found
