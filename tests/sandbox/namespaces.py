"""The few system calls that Python 3.11 lacks: unshare, setns, mount."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .daemons import CommandError, run

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SHARED = 0x100000

PR_SET_PDEATHSIG = 1

NETNS_FOLDER = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Give the process new namespaces of the kinds in FLAGS."""
    _check(_libc.unshare(flags), "unshare")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send SIGNAL_NUMBER when the parent ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def mount(
    source: str, target: str, kind: str, flags: int = 0, data: str = ""
) -> None:
    """Attach the file system SOURCE to the folder TARGET."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode(),
        ctypes.c_ulong(flags),
        data.encode(),
    )
    _check(result, f"mount {source} on {target}")


def bind(source: str, target: str) -> None:
    """Show the tree SOURCE at TARGET too."""
    mount(source, target, "none", MS_BIND | MS_REC)


def lose(name: str) -> None:
    """Delete the namespace NAME, as an operator does by hand."""
    assert (NETNS_FOLDER / name).exists()
    try:
        run("ip", "netns", "delete", name)
    except CommandError as error:
        if not is_faster(str(error)):
            raise


def is_faster(said: str) -> bool:
    """Return whether `ip netns delete` SAID that an agent was faster.

    `ip` takes the file off the namespace and then removes it. An agent may
    have removed it in between (no file then), or put the next namespace there
    (it is busy then).
    """
    reasons = map(os.strerror, (errno.ENOENT, errno.EBUSY))
    return said.strip().endswith(tuple(reasons))


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Have this thread in the network namespace NAME for a moment.

    A socket opened meanwhile stays in that namespace for good.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NETNS_FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(there, CLONE_NEWNET), f"setns {name}")
        finally:
            os.close(there)
        try:
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET), "setns back")
    finally:
        os.close(home)
