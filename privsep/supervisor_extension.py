"""What supervisord lacks: loaded into it as an RPC interface.

supervisord's own `reloadConfig` reads every program file again; `add`
reads one. It also learns here to restart a program at once, to hand over
from what ran before (`succession`), and to tell systemd that it is ready.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.options import UnhosedConfigParser
from supervisor.xmlrpc import Faults, RPCError

from . import names, orphans
from .gateway_socket import GatewaySocket
from .succession import Succession

_ALL = 4096  # bytes, of the signals since the last look


class FleetInterface:
    """The RPC namespace `fleet` of supervisord."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._programs = Path(supervisord.options.configfile).parent
        self._programs /= "programs"
        self._gateway_socket = GatewaySocket(
            self._programs.parent / names.GATEWAY_SOCKET,
            logger=supervisord.options.logger,
        )
        self._succession = Succession(supervisord, self._gateway_socket)
        self._hook_into_main_loop()

    def ping(self) -> int:
        """Answer that this supervisord is the fleet's, and how it works."""
        return names.FLEET_PROTOCOL

    def add(self, name: str) -> bool:
        """Load and start the program NAME from its file.

        Returns False if it is there already. Faults: BAD_NAME for a name
        that is not ours, NO_FILE if it has no file.
        """
        group = self._read(name)
        for program in group.process_configs:
            self._succession.make_room(program)
        return bool(self._supervisord.add_process_group(group))

    def is_as_written(self, name: str) -> bool:
        """Tell whether NAME runs what its file says, where that says.

        A namespace that was deleted by hand lives on with the processes
        in it; what has its name now is another one. A gateway whose socket
        was removed can't be asked.
        """
        group = self._group(name)
        gateway = names.program_name(names.GATEWAY)
        if name == gateway and not self._gateway_socket.is_in_order():
            return False
        (wanted,) = self._read(name).process_configs
        command = shlex.split(wanted.command)
        namespace = orphans.value_of(command, "--net=")
        return all(
            process.config.command == wanted.command
            and (
                not process.pid
                or not namespace
                or orphans.is_in_namespace(process.pid, namespace)
            )
            for process in group.processes.values()
        )

    def _read(self, name: str) -> Any:
        """Return what supervisord makes of the file of the program NAME."""
        network = names.network_of_program(name)
        if network is None:
            raise RPCError(Faults.BAD_NAME, name)
        file = self._programs / names.config_file(network)
        options = self._supervisord.options
        parser = UnhosedConfigParser()
        parser.expansions = options.environ_expansions
        if not parser.read([str(file)]):
            raise RPCError(Faults.NO_FILE, str(file))
        for config in options.process_groups_from_parser(parser):
            if config.name == name:
                return config
        raise RPCError(Faults.NO_FILE, str(file))

    def _group(self, name: str) -> Any:
        """Return supervisord's group of the program NAME."""
        try:
            return self._supervisord.process_groups[name]
        except KeyError:
            raise RPCError(Faults.BAD_NAME, name) from None

    def sweep(self, folders: Sequence[str], haproxy: str) -> list[str]:
        """Have predecessors go where they are not needed any more.

        Returns the networks, with configurations in FOLDERS, of those that
        run yet.
        """
        return self._succession.sweep(folders, haproxy)

    def succeed(self, name: str) -> bool:
        """Have what ran before the program NAME finish: it answers now.

        What is not told so is when NAME has run for a second.
        """
        for process in self._group(name).processes.values():
            self._succession.succeed(process)
        return True

    def end_orphans(self, config: str, haproxy: str) -> int:
        """End the predecessors that run on the file CONFIG; count them."""
        return self._succession.end_orphans(config, haproxy)

    def _hook_into_main_loop(self) -> None:
        """Have it look again at once after a program ended.

        supervisord starts an ended program in its next round, up to a
        second later; an instance that boots would wait for that. Each round
        looks after those that are coming, too.
        """
        succession, safely = self._succession, self._safely
        gateway_socket = self._gateway_socket
        poller = self._supervisord.options.poller
        poll = poller.poll
        ended = False
        # A child's pipe closes before it can be reaped: that look is too
        # early, and Python waits on when SIGCHLD comes (PEP 475).
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

        def note(_event: Any) -> None:
            nonlocal ended
            ended = True

        def failing(event: Any) -> None:
            # It was here at the start, or Neutron's agent, which runs yet,
            # has started one of its own.
            safely(succession.make_room, event.process.config)

        def running(event: Any) -> None:
            safely(succession.has_come, event.process)

        def poll_soon(timeout: float | None) -> Any:
            nonlocal ended
            soon, ended = ended, False
            safely(gateway_socket.publish_if_nobody_answers)
            safely(succession.hand_over)
            poller.register_readable(woken)
            readable, writable = poll(0 if soon else timeout)
            with contextlib.suppress(BlockingIOError):
                os.read(woken, _ALL)
            return [fd for fd in readable if fd != woken], writable

        def stopping(_event: Any) -> None:
            # A reload closes all descriptors, and others get the numbers.
            signal.set_wakeup_fd(-1)
            gateway_socket.close()

        events.subscribe(events.SupervisorStoppingEvent, stopping)
        events.subscribe(events.ProcessStateRunningEvent, running)
        events.subscribe(events.ProcessStateBackoffEvent, failing)
        events.subscribe(events.ProcessStateBackoffEvent, note)
        events.subscribe(events.ProcessStateExitedEvent, note)
        poller.poll = poll_soon

    def _safely(self, act: Callable[..., object], *args: object) -> None:
        """ACT; whatever goes wrong, supervisord goes on."""
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001
            self._supervisord.options.logger.error(
                "%(what)s: %(error)r", what=act.__name__, error=error
            )


def _tell_ready(address: str) -> None:
    """Tell systemd, at ADDRESS, that our socket answers: sd_notify(3)."""
    if address.startswith("@"):  # an abstract one
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(address)
        notify.send(b"READY=1")


def make_interface(supervisord: Any, **_config: Any) -> FleetInterface:
    """Build the interface for supervisord (`rpcinterface_factory`)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    os.environ.clear()  # nothing of root's own reaches a haproxy
    if address:
        events.subscribe(
            events.SupervisorRunningEvent, lambda _event: _tell_ready(address)
        )
    return FleetInterface(supervisord)
