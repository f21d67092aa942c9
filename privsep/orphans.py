"""Find and end the haproxies that an earlier supervisord left running.

Before a signal a process must be a haproxy on our file, by start time,
executable, command line and network namespace (or by where its path leads:
what is left over is in a namespace without a name), and the signal goes
through a pidfd taken before: it can't hit a later owner of the number. PID
files are not asked: the fleet's user can write there what it likes, and
after a second accident they name one of two.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
from collections.abc import Callable, Collection, Sequence

import psutil

from . import listeners, names
from .places import OLD_FOLDER

# haproxy: stop listening, finish the connections, exit.
FINISH = signal.SIGUSR1
END = signal.SIGTERM  # exit at once
# As our own haproxies have it (hard-stop-after), for those that do not:
# Neutron's finish only when no instance holds a connection any more.
PATIENCE_S = 60.0


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

    def make_room(self, command: Sequence[str]) -> bool:
        """Let COMMAND, which succeeds it, listen beside it.

        Tells whether it can, as far as this one is concerned.
        """
        uid = int(value_of(command, "--reuid="))
        count = 0

        def hand_over(_pidfd: int) -> None:
            nonlocal count
            count = listeners.hand_to(uid, master=self.pid)

        return (
            self._do(hand_over, lambda: is_predecessor(self.process, command))
            and count > 0
        )

    def finish(self, command: Sequence[str]) -> bool:
        """Have it finish its connections and end, if COMMAND succeeds it.

        COMMAND is a program's whole command, as `program.command` makes
        it. Tells whether it was signalled.
        """
        return self._signal(
            FINISH, lambda: is_predecessor(self.process, command)
        )

    def end(self, haproxy: str, *, number: int = END) -> bool:
        """Have it end, if it is HAPROXY on this very file of ours.

        Nothing succeeds it, or something does already. Tells whether it
        was signalled, with NUMBER.
        """
        return self._signal(
            number, lambda: is_ours(self.process, self.config, haproxy)
        )

    def _signal(self, number: int, check: Callable[[], bool]) -> bool:
        return self._do(
            lambda pidfd: signal.pidfd_send_signal(pidfd, number), check
        )

    def _do(
        self, act: Callable[[int], None], check: Callable[[], bool]
    ) -> bool:
        """ACT on its pidfd if it is still who it was and passes CHECK.

        Tells whether that was done.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.process.is_running() or not check():
                return False
            act(descriptor)
        except (psutil.Error, OSError):
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


def signal_after(waited_s: float) -> int:
    """Return the signal for one that was first told to finish WAITED_S ago."""
    return END if waited_s > PATIENCE_S else FINISH


def network_of(config: str, folders: Collection[str]) -> str | None:
    """Return the network (or gateway) of CONFIG, if it is in FOLDERS."""
    place, name = os.path.split(config)
    network = names.network_of_file(name)
    ours = network is not None and name == names.config_file(network)
    return network if ours and place in folders else None


def file_of(command: str) -> str:
    """Return the configuration of the program with COMMAND, ours."""
    words = shlex.split(command)
    return words[words.index("-f") + 1]


def config_of(arguments: Sequence[str]) -> str | None:
    """Return the file after -f, if ARGUMENTS are a haproxy's."""
    if not arguments or os.path.basename(arguments[0]) != "haproxy":
        return None
    try:
        return arguments[arguments.index("-f") + 1]
    except (ValueError, IndexError):
        return None


def is_of_same(config: str, other: str) -> bool:
    """Tell whether a haproxy on CONFIG did what one on OTHER, ours, does.

    An agent before us, Neutron's or an older version, had its files in
    another folder.
    """
    place, name = os.path.split(config)
    our_place, our_name = os.path.split(other)
    known = place == our_place or os.path.basename(place) == OLD_FOLDER
    return known and name == our_name


def is_predecessor(process: psutil.Process, command: Sequence[str]) -> bool:
    """Tell whether PROCESS is a haproxy where COMMAND starts one."""
    haproxy = command[command.index("-W") - 1]
    namespace = value_of(command, "--net=") or "/proc/self/ns/net"
    config = config_of(process.cmdline())
    return (
        config is not None
        and is_of_same(config, command[command.index("-f") + 1])
        and _is_haproxy(process, config, haproxy)
        and is_in_namespace(process.pid, namespace)
    )


def is_ours(process: psutil.Process, config: str, haproxy: str) -> bool:
    """Tell whether PROCESS is HAPROXY on CONFIG as we see that path.

    A container may have the same path for something else.
    """
    folder = os.path.dirname(config)
    return _is_haproxy(process, config, haproxy) and _is_same(
        f"/proc/{process.pid}/root{folder}", folder
    )


def _is_haproxy(process: psutil.Process, config: str, haproxy: str) -> bool:
    with process.oneshot():
        arguments = process.cmdline()
        executable = process.exe()
    # Of a haproxy that was upgraded meanwhile: "... (deleted)".
    executable = executable.removesuffix(" (deleted)")
    same = executable == os.path.realpath(haproxy)
    return same and config_of(arguments) == config


def is_in_namespace(pid: int, path: str) -> bool:
    """Tell whether the process PID is in the network namespace PATH."""
    return _is_same(f"/proc/{pid}/ns/net", path)


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def value_of(command: Sequence[str], option: str) -> str:
    """Return the value of OPTION ("--x=") in COMMAND, "" without it."""
    found = (a for a in command if a.startswith(option))
    return next(found, option).removeprefix(option)
