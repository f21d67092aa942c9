"""Kernel calls that Python lacks, or that may hang.

Namespaces, sysctls, ethtool, pidfd; a child for what may never end.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from . import names

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_SIOCETHTOOL = 0x8946  # <linux/sockios.h>
_ETHTOOL_GTXCSUM = 0x16  # <linux/ethtool.h>
_ETHTOOL_STXCSUM = 0x17
_PIDFD_GETFD = 438  # <asm-generic/unistd.h>; Python has no name for it
_PR_GET_NO_NEW_PRIVS = 39  # <linux/prctl.h>
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
# What a child does takes milliseconds.
_CHILD_S = 2.0
_NO_MORE = "no further namespace; raise user.max_net_namespaces (sysctl)"

_libc = ctypes.CDLL(None, use_errno=True)


def has_no_new_privileges() -> bool:
    """Return whether processes that we start can't gain privileges."""
    return bool(_libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)


def peer_uid(connection: socket.socket) -> int:
    """Return the user id at the other end of the unix CONNECTION.

    The end that connected gets the user who listened. For a socket that
    listens, it is the user who called listen(2).
    """
    size = struct.calcsize("3i")  # struct ucred: pid, uid, gid
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", data)[1])


def received(connection: socket.socket, timeout_s: float) -> Iterator[bytes]:
    """Yield what CONNECTION receives, until its end.

    Raises TimeoutError if that takes longer than TIMEOUT_S altogether: a
    socket's own limit is for each part, and a peer may send a byte at a time.
    """
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        connection.settimeout(left_s)
        if not (part := connection.recv(65536)):
            return
        yield part
    raise TimeoutError("the answer takes too long")


def trim_heap() -> None:
    """Return the freed memory that the allocator keeps to the kernel.

    Messages in several threads fragment glibc's heaps: the process grows,
    though it uses no more memory.
    """
    if hasattr(_libc, "malloc_trim"):  # glibc's
        _libc.malloc_trim(0)


def _call(function: Callable[..., int], *arguments: int) -> int:
    """Return the result of FUNCTION of libc; raise OSError if it fails."""
    result = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        if number == errno.ENOSPC:  # of unshare(2): no disk is full
            raise OSError(errno.ENFILE, _NO_MORE)
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")
    return result


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Give DESCRIPTOR, and close it at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def asking_child(
    act: Callable[[socket.socket], object],
) -> Iterator[socket.socket]:
    """Give a socket whose other end a child has, which does ACT with it.

    A haproxy that was broken into can make the child wait for ever. Receive
    in the block: a TimeoutError kills the child and ends the block.
    """
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if not child:
            try:
                number = theirs.fileno()
                os.closerange(3, number)  # all that this process has
                os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
                act(theirs)
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(_CHILD_S)
        try:
            yield ours
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            return
    os.waitpid(child, 0)


@contextlib.contextmanager
def _elsewhere(
    function: Callable[..., int], *arguments: int
) -> Iterator[None]:
    """Keep this thread where FUNCTION of libc brings it.

    The daemon runs calls in a pool of threads, so the return must not fail:
    the thread would serve its next call in the wrong namespace.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    with closing(os.open(_OWN_NAMESPACE, flags)) as home:
        _call(function, *arguments)
        try:
            yield
        finally:
            try:
                _call(_libc.setns, home, _CLONE_NEWNET)
            except OSError:
                os._exit(70)  # the agent starts a new daemon


def entered(namespace: int) -> AbstractContextManager[None]:
    """Keep this thread in the network namespace open as NAMESPACE."""
    return _elsewhere(_libc.setns, namespace, _CLONE_NEWNET)


def new_namespace() -> AbstractContextManager[None]:
    """Keep this thread in a network namespace of its own."""
    return _elsewhere(_libc.unshare, _CLONE_NEWNET)


def open_namespace(network: str) -> int:
    """Return a descriptor of the namespace of NETWORK; raise OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(names.namespace_file(network), flags)


def is_namespace(network: str) -> bool:
    """Return whether NETWORK has a mounted namespace and not only a file.

    Only the file is there before the mount is made, and after it was lost.
    We can't open it to see: it is made without any permission, as ip-netns(8)
    does, and the daemon has no CAP_DAC_OVERRIDE. Raises
    FileNotFoundError.
    """
    nsfs = os.stat(_OWN_NAMESPACE).st_dev
    return os.lstat(names.namespace_file(network)).st_dev == nsfs


def borrow_descriptor(pidfd: int, number: int) -> int:
    """Return a descriptor of ours for NUMBER of the process PIDFD.

    Raises OSError; before Linux 5.6 with ENOSYS.
    """
    return _call(_libc.syscall, _PIDFD_GETFD, pidfd, number, 0)


def read_sysctl(path: str) -> str:
    """Return /proc/sys/PATH of this thread's namespace; "" without one."""
    try:
        with open(f"/proc/sys/{path}", "rb", buffering=0) as file:
            return file.read().decode().strip()
    except FileNotFoundError:
        return ""


def write_sysctl(path: str, value: str) -> bool:
    """Write VALUE to /proc/sys/PATH of this thread's namespace.

    Returns True if that changed the value; False also where the kernel has
    no such setting (IPv6 off).
    """
    if read_sysctl(path) in ("", value):
        return False
    with open(f"/proc/sys/{path}", "wb", buffering=0) as file:
        file.write(value.encode())
    return True


def set_transmit_checksum(interface: str, *, on: bool) -> bool:
    """Switch the transmit checksum offload of INTERFACE on or off.

    The userspace datapath does not fill in the checksums that a veth leaves
    open, and the instance drops every TCP packet. Returns True if that
    changed the offload. Raises OSError.
    """
    if has_transmit_checksum(interface) == on:
        return False
    _ethtool(interface, _ETHTOOL_STXCSUM, int(on))
    return has_transmit_checksum(interface) == on


def has_transmit_checksum(interface: str) -> bool:
    """Return whether the transmit checksum offload of INTERFACE is on."""
    return bool(_ethtool(interface, _ETHTOOL_GTXCSUM, 0))


def _ethtool(interface: str, command: int, value: int) -> int:
    """Run one ethtool ioctl that carries a number; return its result."""
    data = ctypes.create_string_buffer(struct.pack("=II", command, value), 8)
    request = struct.pack(
        "16sP16x", interface.encode(), ctypes.addressof(data)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    return int(struct.unpack("=II", data.raw)[1])
