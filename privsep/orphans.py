"""Find and end the haproxies that an earlier supervisord left running.

Before a signal a process must be a haproxy on our file, by start time,
executable, command line and network namespace, and the signal goes through
a pidfd taken before: it can't hit a later owner of the number. PID files
are not asked: the fleet's user can write there what it likes, and after a
second accident they name one of two.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence

import psutil

# haproxy: stop listening, finish the connections, exit.
FINISH = signal.SIGUSR1


@dataclasses.dataclass(frozen=True, slots=True)
class Orphan:
    """A haproxy that is not supervisord's child: a master or a lone one."""

    process: psutil.Process  # knows by itself if the number changed hands
    config: str  # the file after -f

    @property
    def pid(self) -> int:
        """Its process id, at the time it was found."""
        return int(self.process.pid)

    def has_user_of(self, command: Sequence[str]) -> bool:
        """Tell whether it runs as the user that COMMAND runs as."""
        try:
            owners = {str(uid) for uid in self.process.uids()}
        except psutil.Error:
            return True
        return owners == {value_of(command, "--reuid=")}

    def finish(self, command: Sequence[str]) -> bool:
        """Have it finish its connections and end, if COMMAND succeeds it.

        COMMAND is a program's whole command, as `program.command` makes
        it. Tells whether it was signalled.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.process.is_running():
                return False
            if not is_predecessor(self.process, command):
                return False
            signal.pidfd_send_signal(descriptor, FINISH)
        except (psutil.Error, ProcessLookupError):
            return False
        finally:
            os.close(descriptor)
        return True


def scan() -> list[Orphan]:
    """Return the haproxies that run now, without masters' workers.

    To be called before supervisord has children: all it finds are others'.
    A worker looks like its master and is its child.
    """
    parents = {}
    found = []
    for process in psutil.process_iter(["ppid", "cmdline"]):
        config = config_of(process.info["cmdline"] or ())
        if config is not None:
            parents[process.pid] = process.info["ppid"]
            found.append(Orphan(process, config))
    return [orphan for orphan in found if parents[orphan.pid] not in parents]


def config_of(arguments: Sequence[str]) -> str | None:
    """Return the file after -f, if ARGUMENTS are a haproxy's."""
    if not arguments or os.path.basename(arguments[0]) != "haproxy":
        return None
    try:
        return arguments[arguments.index("-f") + 1]
    except (ValueError, IndexError):
        return None


def is_predecessor(process: psutil.Process, command: Sequence[str]) -> bool:
    """Tell whether PROCESS is a haproxy where COMMAND starts one."""
    haproxy = command[command.index("-W") - 1]
    namespace = value_of(command, "--net=") or "/proc/self/ns/net"
    with process.oneshot():
        arguments = process.cmdline()
        executable = process.exe()
    return (
        config_of(arguments) == command[command.index("-f") + 1]
        # Of a haproxy that was upgraded meanwhile: "... (deleted)".
        and executable.removesuffix(" (deleted)") == os.path.realpath(haproxy)
        and is_in_namespace(process.pid, namespace)
    )


def is_in_namespace(pid: int, path: str) -> bool:
    """Tell whether the process PID is in the network namespace PATH."""
    try:
        inside = os.stat(f"/proc/{pid}/ns/net")
        expected = os.stat(path)
    except OSError:
        return False
    return (inside.st_dev, inside.st_ino) == (expected.st_dev, expected.st_ino)


def value_of(command: Sequence[str], option: str) -> str:
    """Return the value of OPTION ("--x=") in COMMAND, "" without it."""
    found = (a for a in command if a.startswith(option))
    return next(found, option).removeprefix(option)
