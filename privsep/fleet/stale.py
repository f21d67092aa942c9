"""Stale haproxies: those that run, but not as a program of supervisord.

An earlier supervisord has left them, ours has replaced them, or Neutron's
agent runs them. They are found by their command lines. Before a signal we
check that the process is still that one: by start time, name of the
executable, and network namespace or the place of its file; a child of
supervisord by its start time alone. The signal goes through a pidfd that is
opened before the check, so it can't hit a later process with the same number.
PID files are not used: after two crashes they name one process of two.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import signal
import socket
from collections.abc import Collection, Mapping, Sequence
from concurrent import futures

import psutil

from .. import kernel, names

# haproxy: stop listening, finish the connections, exit.
FINISH = signal.SIGUSR1
END = signal.SIGTERM  # exit at once
# Like hard-stop-after of our own haproxies. Neutron's have none: they finish
# only when no instance holds a connection any more.
PATIENCE_S = 60.0
_LAST_S = 70.0  # then SIGKILL, for one that ignores END
_MAX_BYTES = 4096  # of a command line; ours have fewer than 300


@dataclasses.dataclass
class Stale:
    """A stale haproxy; an older version's has workers."""

    process: psutil.Process  # detects by itself if the number is reused
    network: str  # or "gateway"
    config: str  # the file after -f
    # Of supervisord, which has replaced it: it is ours, whatever it says.
    is_child: bool = False
    # When it first had to finish (monotonic), and the last signal.
    finishing_since: float | None = None
    signalled: int = 0

    def is_ours(self, folders: Collection[str]) -> bool:
        """Return whether it is a haproxy on a file in one of FOLDERS.

        A child that runs is. A haproxy in the namespace of its network counts
        too, wherever its file is. The folder alone has to be enough, because
        the namespace may have lost its name. A container may use the path of
        one of FOLDERS for something else.
        """
        folder = os.path.dirname(self.config)
        pid = self.process.pid
        try:
            if self.is_child:
                return self.process.status() != psutil.STATUS_ZOMBIE
            return _is_haproxy(pid) and (
                (folder in folders and _sees(pid, folder))
                or is_in_namespace(pid, self.network)
            )
        except (OSError, psutil.Error):
            return False

    def is_placed_by_root(self) -> bool:
        """Return whether only root can have started it.

        A process of another user may hold a file that makes its borrower hang.
        Only root can enter a network's namespace, or empty the bounding set.
        """
        pid = self.process.pid
        if self.network != names.GATEWAY:
            return is_in_namespace(pid, self.network)
        try:
            with open(f"/proc/{pid}/status", "rb") as lines:
                return b"CapBnd:\t0000000000000000\n" in lines
        except OSError:
            return False

    def send(self, number: int, folders: Collection[str]) -> bool:
        """Signal NUMBER if it is still the same process, and ours.

        Returns whether that was done.
        """
        try:
            with kernel.closing(os.pidfd_open(self.process.pid)) as pidfd:
                is_same = self.process.is_running()
                if not (is_same and self.is_ours(folders)):
                    return False
                signal.pidfd_send_signal(pidfd, number)
        except (OSError, psutil.Error):
            return False
        self.signalled = number
        return True


def scan(children: Collection[int] = ()) -> list[Stale]:
    """Return the haproxies on files named like ours, without CHILDREN.

    A master's workers look like their master; they are left out.
    """
    listed = {
        process.pid: process
        for process in psutil.process_iter(["ppid", "uids"])
        if process.pid not in children
    }
    users = {pid: process.info["uids"] for pid, process in listed.items()}
    haproxies = {
        pid: config
        for pid, words in _command_lines(users).items()
        if (config := config_of(words)) is not None
    }
    masters = {*haproxies, *children}
    found = []
    for pid, config in haproxies.items():
        network, _, kind = os.path.basename(config).partition(".")
        is_ours = kind == "conf" and names.is_program(network)
        if is_ours and listed[pid].info["ppid"] not in masters:
            found.append(Stale(listed[pid], network, config))
    return found


def _command_lines(users: Mapping[int, object]) -> dict[int, list[str]]:
    """Return the command lines of processes, given with their USERS.

    A process can lock its memory for good (mmap(2) with a file of FUSE): who
    reads its command line waits. Others of its user may be left out then.
    """
    found = {}
    with kernel.asking_child(functools.partial(_read_all, users)) as child:
        while message := child.recv(2 * _MAX_BYTES):
            pid, _, words = message.partition(b" ")
            found[int(pid)] = os.fsdecode(words).split("\0")
    return found


def _read_all(users: Mapping[int, object], to: socket.socket) -> None:
    """Send the command lines over TO; a thread reads those of each user."""
    by_user = collections.defaultdict[object, list[int]](list)
    for pid, user in users.items():
        by_user[user].append(pid)
    with futures.ThreadPoolExecutor(len(by_user)) as pool:
        pool.map(_read, by_user.values(), itertools.repeat(to))


def _read(pids: Collection[int], to: socket.socket) -> None:
    for pid in pids:
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{pid}/cmdline", "rb") as file,
        ):
            to.send(b"%d %s" % (pid, file.read(_MAX_BYTES)))


def signal_after(waited_s: float) -> int:
    """Return the signal for one that has had to finish for WAITED_S."""
    if waited_s > _LAST_S:
        return signal.SIGKILL
    return END if waited_s > PATIENCE_S else FINISH


def config_of(arguments: Sequence[str]) -> str | None:
    """Return the file after -f, if ARGUMENTS are a haproxy's."""
    if not arguments or "haproxy" not in os.path.basename(arguments[0]):
        return None
    try:
        return arguments[arguments.index("-f") + 1]
    except (ValueError, IndexError):
        return None


def _is_haproxy(pid: int) -> bool:
    # Not psutil's, which looks for files at paths that another user chose.
    return "haproxy" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))


def is_in_namespace(pid: int, network: str) -> bool:
    """Return whether the process PID is in the namespace of NETWORK."""
    return _is_same(f"/proc/{pid}/ns/net", names.namespace_file(network))


def _sees(pid: int, folder: str) -> bool:
    """Return whether PID and we see the same FOLDER at that path.

    If the folder was removed, whether both have the same root folder. In a
    user namespace anybody can mount something there that never answers.
    """
    there = folder if os.path.exists(folder) else "/"
    ours = "/proc/self/ns/user"  # some kernels have no user namespaces
    try:
        with kernel.closing(os.open(f"/proc/{pid}/root", os.O_PATH)) as root:
            # Opened first: PID may enter another one later, with another root.
            is_there = _is_same(f"/proc/{pid}/ns/user", ours)
            is_safe = is_there or not os.path.exists(ours)
            return is_safe and _is_same(f"/proc/self/fd/{root}{there}", there)
    except OSError:
        return False


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
