"""What supervisord lacks: loaded into it as an RPC interface.

supervisord's own `reloadConfig` reads every program file again; `start` reads
one. This also makes supervisord hold the programs' sockets (`held`), take over
from stale haproxies (`takeover`), reload a program by SIGHUP, restart it at
once, and report to systemd that it is ready.
"""

import contextlib
import functools
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil
from supervisor import events
from supervisor.options import UnhosedConfigParser
from supervisor.states import (
    ProcessStates,
    SupervisorStates,
    getProcessStateDescription,
)
from supervisor.xmlrpc import Faults, RPCError

from .. import names, signals
from ..errors import sentence
from ..fleet import stale
from ..places import Places
from ..settings import FLEET_DESCRIPTORS
from . import listeners
from .held import HeldSockets
from .request_log import RequestLog
from .takeover import Takeover, network_of

_ALL = 4096  # bytes: one for each signal since the last poll
_SOON_S = 0.05
_STARTING, _RUNNING = ProcessStates.STARTING, ProcessStates.RUNNING
# One that does not listen by then, and does not work on it, never will.
_LISTENS_S = 30.0
_WORKS = psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP

P = ParamSpec("P")
R = TypeVar("R")


def _refusing(act: Callable[P, R]) -> Callable[P, R]:
    """Make the call ACT answer an OSError as a fault with the reason.

    supervisord would answer it with "500 Internal Server Error".
    """

    @functools.wraps(act)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return act(*args, **kwargs)
        except OSError as error:
            raise RPCError(Faults.FAILED, sentence(error)) from None

    return call


class FleetInterface:
    """The RPC namespace `fleet` of supervisord.

    Each call raises the fault FAILED if the system refuses something.
    """

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        places = Places(Path(supervisord.options.configfile).parent)
        self._places = places
        self._inode = 0  # of our socket
        self._pipes: dict[str, int | None] = {}  # of the last start
        self._takeover = Takeover(supervisord, places)
        self._held = HeldSockets(places.gateway_socket, self._takeover)
        self._log = RequestLog(
            places.request_log, foreground=supervisord.options.nodaemon
        )
        self._subscribe()
        self._hook_into_main_loop()

    def ping(self) -> int:
        """Return the version of these calls."""
        return names.FLEET_PROTOCOL

    @_refusing
    def start(self, name: str, kill: bool) -> bool:  # noqa: FBT001
        """Load and start the program NAME from its file.

        One that runs under that name finishes when the new one serves. With
        KILL it ends at once, and clients wait. Faults: BAD_NAME for a name
        that is not ours, NO_FILE if it has no file, SHUTDOWN_STATE if
        supervisord ends, SPAWN_ERROR if it can't hold the sockets.
        """
        if self._supervisord.options.mood < SupervisorStates.RUNNING:
            raise RPCError(Faults.SHUTDOWN_STATE)
        config = self._read(name)
        self._drop(name, kill=kill)
        added = bool(self._supervisord.add_process_group(config))
        # Not only in the main loop's next round: when this returns, clients
        # may come, and supervisord has to hold the sockets.
        self._supervisord.process_groups[name].transition()
        why = self._held.refused.get(str(names.network_of_program(name)))
        if why is not None:
            raise RPCError(Faults.SPAWN_ERROR, f"its sockets: {why}")
        return added

    def _drop(self, name: str, *, kill: bool) -> bool:
        """Forget NAME; return whether supervisord knew it.

        Its haproxy still runs, as a stale one. With KILL it ends at once.
        """
        group = self._supervisord.process_groups.pop(name, None)
        for process in group.processes.values() if group else ():
            self._takeover.adopt(process, kill=kill)
        return group is not None

    @_refusing
    def state(self, name: str) -> str:
        """Return RUNNING, STARTING or BACKOFF for NAME; "" to start it.

        RUNNING means that it serves; to supervisord, that it has run for a
        second. NAME is to be started if it is unknown or was stopped, does
        not run as its file says, or clients do not reach it. A namespace that
        was deleted by hand still exists as long as a process is in it, and
        another one may have its name now. Sockets that the haproxy was given
        may be out of clients' reach. Faults: as `start`.
        """
        group = self._supervisord.process_groups.get(name)
        (process,) = group.processes.values() if group else (None,)
        if process is None:
            return ""
        state = _state(process)
        return state if self._is_in_order(name, process, state) else ""

    def _is_in_order(self, name: str, process: Any, state: str) -> bool:
        (wanted,) = self._read(name).process_configs
        if process.config.command != wanted.command:
            return False
        network = network_of(wanted)
        if state == "BACKOFF":  # supervisord tries again by itself
            refused = network in self._held.refused
            return not refused and self._held.are_as_tried(process)
        if state not in ("STARTING", "RUNNING"):
            return False
        return self._held.are_in_order(wanted) and (
            network == names.GATEWAY
            # It may not have entered the namespace yet.
            or state == "STARTING"
            or stale.is_in_namespace(process.pid, network)
        )

    def _read(self, name: str) -> Any:
        """Return supervisord's configuration of the program NAME."""
        network = names.network_of_program(name)
        if network is None:
            raise RPCError(Faults.BAD_NAME, name)
        file = self._places.program(network)
        options = self._supervisord.options
        parser = UnhosedConfigParser()
        parser.expansions = options.environ_expansions
        if not parser.read(str(file)):
            raise RPCError(Faults.NO_FILE, str(file))
        for config in options.process_groups_from_parser(parser):
            if config.name == name:
                return config
        raise RPCError(Faults.NO_FILE, str(file))

    def programs(self) -> str:
        """Return a line for each program: its name, state, pid and start.

        supervisord's own getAllProcessInfo returns 1.5 kB for each. It sends
        4 kB of an answer, then looks at all programs, and so on.
        """
        groups = self._supervisord.process_groups.values()
        return "\n".join(
            f"{one.config.name} {getProcessStateDescription(one.get_state())} "
            f"{one.pid} {int(one.laststart)}"
            for group in groups
            for one in group.processes.values()
        )

    @_refusing
    def end(self, name: str, folder: str) -> bool:
        """Forget NAME and end its haproxies; return whether it had any.

        Those that `sweep` finds too; FOLDER as there. This does not wait for
        their end; one that hangs is killed ten seconds later.
        """
        network = str(names.network_of_program(name))
        was_known = self._drop(name, kill=False)
        self._held.close(network)
        self._takeover.folders.add(folder)
        return self._takeover.end(network, stale.END) > 0 or was_known

    @_refusing
    def sweep(self, folder: str) -> list[str]:
        """Return what `Takeover.sweep` does."""
        return self._takeover.sweep(folder)

    def _subscribe(self) -> None:
        """Follow the states of the programs and the end of supervisord."""
        held = self._held
        for kind, act in (
            (events.ProcessStateStartingEvent, held.start),
            (events.ProcessStateStartingEvent, self._reload_by_signal),
            (events.ProcessStateStartingEvent, self._note_pipes),
            (events.ProcessStateBackoffEvent, held.fail),
            (events.ProcessStateBackoffEvent, self._note_end),
            (events.ProcessStateBackoffEvent, self._forget_pipes),
            (events.ProcessStateExitedEvent, self._note_end),
            (events.ProcessStateFatalEvent, held.fail),
            (events.SupervisorRunningEvent, _survive_hangup),
            (events.SupervisorStoppingEvent, held.stop),
            (events.SupervisorStoppingEvent, self._log.close),
            (events.SupervisorStoppingEvent, _close_wakeup),
        ):
            events.subscribe(kind, functools.partial(self._safely, act))

    def _reload_by_signal(self, event: Any) -> None:
        """Have a successor read the files at supervisord's SIGHUP."""
        process = event.process

        def send(number: int) -> Any:
            if number != signal.SIGHUP:
                return type(process).signal(process, number)
            self.start(process.config.name, kill=False)
            return None

        process.signal = send

    def _note_pipes(self, event: Any) -> None:
        """Note the pipes that supervisord makes for a process."""
        options, self._pipes = event.process.config.options, {}

        def make(stderr: bool) -> Any:  # noqa: FBT001 # supervisord's own
            self._pipes = type(options).make_pipes(options, stderr)
            return self._pipes

        options.make_pipes = make

    def _forget_pipes(self, event: Any) -> None:
        """Forget the pipes of a process that can't be started.

        If it can't be forked, supervisord closes them and keeps their
        dispatchers. These would read from what gets such a number next, like
        the connection of a call, which then has no answer. If the log can't
        be opened, supervisord leaves them open.
        """
        process, options = event.process, event.process.config.options
        if process.pid:
            return
        process.dispatchers = {}
        if process.pipes is not self._pipes:
            options.close_parent_pipes(self._pipes)
            options.close_child_pipes(self._pipes)

    def _hook_into_main_loop(self) -> None:
        """Make the main loop poll again at once after a program ended.

        supervisord starts an ended program in its next round, up to a
        second later; an instance that boots would wait for that. Each round
        also continues the takeover, and the next one is soon if that is due.
        """
        self._ended = False
        self._woken = _wake_on_signals()
        poller = self._supervisord.options.poller
        poller.poll = functools.partial(self._poll, poller, poller.poll)

    def _note_end(self, _event: Any) -> None:
        self._ended = True

    def _poll(
        self, poller: Any, poll: Callable[..., Any], timeout: float | None
    ) -> tuple[list[int], list[int]]:
        """Call POLL, supervisord's own, with a shorter TIMEOUT where due."""
        self._safely(self._end_if_unreachable)
        self._safely(self._takeover.go_on)
        if self._takeover.is_due:
            timeout = _SOON_S
        if self._ended:
            self._ended, timeout = False, 0
        own = [self._woken]
        if self._log.socket is not None:
            own.append(self._log.socket.fileno())
        for descriptor in own:
            poller.register_readable(descriptor)
        readable, writable = poll(timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, _ALL)
        self._safely(self._log.print)
        return [fd for fd in readable if fd not in own], writable

    def _end_if_unreachable(self) -> None:
        """End, as if killed, if our socket's file is gone or was replaced.

        Nobody can call us then. The agent starts a second supervisord, and we
        would start each haproxy again that it takes over.
        """
        file, inode = self._places.socket, 0
        with contextlib.suppress(FileNotFoundError):
            inode = file.stat().st_ino
        self._inode = self._inode or inode
        if not inode or inode != self._inode:
            self._supervisord.options.logger.critical(
                "%(file)s is gone: this supervisord ends",
                file=file,
            )
            os._exit(1)  # the haproxies still serve, for the next one

    def _safely(self, act: Callable[..., object], *args: object) -> None:
        """Call ACT; an error is logged and does not end supervisord."""
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001
            # supervisor's logger formats by keyword.
            self._supervisord.options.logger.error(
                "%(what)s: %(error)r", what=act.__name__, error=error
            )


def _state(process: Any) -> str:
    """Return the state of PROCESS, which runs once it listens.

    Where many start at once that takes seconds, and minutes if the host has
    too little CPU: then to start it again would take as long.
    """
    state = process.get_state()
    if process.pid and state in (_STARTING, _RUNNING):
        up = listeners.serves(process) or _never_will(process)
        state = _RUNNING if up else _STARTING
    return str(getProcessStateDescription(state))


def _never_will(process: Any) -> bool:
    """Return whether PROCESS, which does not serve, waits for something."""
    is_late = time.monotonic() > process.began + _LISTENS_S
    with contextlib.suppress(psutil.Error):  # it ended
        return is_late and psutil.Process(process.pid).status() not in _WORKS
    return False


def _wake_on_signals() -> int:
    """Return a descriptor that is readable after each signal.

    A child's pipe closes before the child can be reaped: that round is too
    early, and Python does not end a poll when SIGCHLD comes (PEP 475).
    """
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return woken


def _survive_hangup(_event: object) -> None:
    # supervisord would end all haproxies, and then start them again.
    signal.signal(signal.SIGHUP, lambda *_: None)


def _close_wakeup(_event: object) -> None:
    # A reload closes all descriptors; others get their numbers.
    signal.set_wakeup_fd(-1)


def _notify_ready(address: str) -> None:
    """Report to systemd, at ADDRESS, that we are ready: sd_notify(3)."""
    if address.startswith("@"):  # an abstract one
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", address)


def _allow_descriptors() -> None:
    """Raise the limit of descriptors to the fleet's, or the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(FLEET_DESCRIPTORS, hard if hard >= 0 else FLEET_DESCRIPTORS)
    if 0 <= soft < most:  # negative: RLIM_INFINITY
        with contextlib.suppress(OSError, ValueError):  # it works with fewer
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def make_interface(supervisord: Any, **_config: Any) -> FleetInterface:
    """Build the interface for supervisord (`rpcinterface_factory`)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    os.environ.clear()  # no haproxy gets a variable of root's environment
    _allow_descriptors()
    # Before supervisord's own: it shuts down at SIGQUIT, and opens its logs
    # again at SIGUSR2.
    signals.survive()
    if address:
        events.subscribe(
            events.SupervisorRunningEvent,
            lambda _event: _notify_ready(address),
        )
    return FleetInterface(supervisord)
