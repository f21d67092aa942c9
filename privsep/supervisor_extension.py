"""What supervisord lacks: loaded into it as an RPC interface.

supervisord's own `reloadConfig` reads every program file again; `add`
reads one. It also learns here to hand over from the haproxies that an
earlier supervisord left running, and to restart a program at once.
"""

from __future__ import annotations

import os
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.options import UnhosedConfigParser
from supervisor.states import ProcessStates
from supervisor.xmlrpc import Faults, RPCError

from . import names, orphans
from .gateway_socket import GatewaySocket
from .listening import listens


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
        # We have no children yet: what runs is an earlier supervisord's.
        self._orphans = orphans.scan()
        # Since when (monotonic) those beside a program are to finish.
        self._told: dict[orphans.Orphan, float] = {}
        # Programs that run and may not listen yet, beside predecessors.
        self._coming: dict[str, Any] = {}
        events.subscribe(events.ProcessStateRunningEvent, self._running)
        events.subscribe(events.ProcessStateBackoffEvent, self._failing)
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
            self._make_room(program)
        return bool(self._supervisord.add_process_group(group))

    def is_as_written(self, name: str) -> bool:
        """Tell whether NAME runs what its file says, where that says.

        A namespace that was deleted by hand lives on with the processes
        in it; what has its name now is another one. A gateway whose socket
        was removed can't be asked.
        """
        group = self._group(name)
        is_gateway = name == names.program_name(names.GATEWAY)
        if is_gateway and not self._gateway_socket.is_in_order():
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

    def sweep(self, folder: str, haproxy: str) -> list[str]:
        """Look anew for orphans that run on configurations in FOLDER.

        Returns their networks. Those beside a program that runs are told
        to finish: half of the requests would go to what they still know.
        """
        running = {
            _config_of(process.config): process
            for process in self._processes()
            if process.get_state() == ProcessStates.RUNNING
        }
        self._orphans = self._scan()
        self._told = {
            o: self._told[o] for o in self._orphans if o in self._told
        }
        now = time.monotonic()
        found = set()
        for orphan in self._orphans:
            network = orphans.network_of(orphan.config, folder)
            if network is not None:
                found.add(network)
                successor = running.get(orphan.config)
                if successor is not None and _serves(successor):
                    waited_s = now - self._told.setdefault(orphan, now)
                    number = orphans.signal_after(waited_s)
                    orphan.end(haproxy, number=number)
        return sorted(found)

    def _scan(self) -> list[orphans.Orphan]:
        """Return the haproxies that run and are not our children."""
        children = {process.pid for process in self._processes()}
        return [o for o in orphans.scan() if o.pid not in children]

    def _processes(self) -> Iterator[Any]:
        """Yield supervisord's processes, those that do not run as well."""
        for group in self._supervisord.process_groups.values():
            yield from group.processes.values()

    def succeed(self, name: str) -> bool:
        """Have what ran before the program NAME finish: it answers now.

        What is not told so is when NAME has run for a second.
        """
        for process in self._group(name).processes.values():
            if _serves(process):
                self._take_over(process)
        return True

    def end_orphans(self, config: str, haproxy: str) -> int:
        """End the orphans known that run on the file CONFIG; count them."""
        mine = [orphan for orphan in self._orphans if orphan.config == config]
        self._orphans = [o for o in self._orphans if o not in mine]
        return sum(orphan.end(haproxy) for orphan in mine)

    def _failing(self, event: Any) -> None:
        """Make room for a program that was not added, but here at the start.

        Or that was started where Neutron's agent, which runs yet, has
        started one of its own.
        """
        self._make_room(event.process.config)

    def _running(self, event: Any) -> None:
        """Have the predecessors go, as soon as their successor listens."""
        self._coming[event.process.config.name] = event.process
        self._hand_over()

    def _hand_over(self) -> None:
        """Have the predecessors of what listens by now finish and go."""
        for name, process in list(self._coming.items()):
            if process.get_state() != ProcessStates.RUNNING:
                del self._coming[name]  # there is a next time
            elif _serves(process):
                del self._coming[name]
                self._take_over(process)

    def _take_over(self, process: Any) -> None:
        """Have PROCESS, which listens, do alone what predecessors did."""
        if process.config.name == names.program_name(names.GATEWAY):
            self._gateway_socket.publish()
        self._finish(process.config)

    def _make_room(self, config: Any) -> None:
        """Let the program listen beside the orphans on its configuration.

        Where the kernel has no way to, those of another user, Neutron's,
        have to go first, and connections are refused meanwhile.
        """
        command = shlex.split(config.command)
        for orphan in self._on(config):
            if not (orphan.make_room(command) or orphan.has_user_of(command)):
                self._tell_to_finish(config, [orphan])

    def _finish(self, config: Any) -> None:
        """End the orphans on the program's configuration."""
        self._tell_to_finish(config, self._on(config))

    def _on(self, config: Any) -> list[orphans.Orphan]:
        """Return the orphans known on the program's configuration."""
        file = _config_of(config)
        return [orphan for orphan in self._orphans if orphan.config == file]

    def _tell_to_finish(self, config: Any, mine: list[orphans.Orphan]) -> None:
        """Have MINE, which the program succeeds, finish; forget them."""
        command = shlex.split(config.command)
        self._orphans = [o for o in self._orphans if o not in mine]
        told = [orphan.pid for orphan in mine if orphan.finish(command)]
        if told:
            # supervisor's logger formats by keyword.
            self._supervisord.options.logger.info(
                "%(name)s takes over from %(told)s",
                name=config.name,
                told=told,
            )

    def _hook_into_main_loop(self) -> None:
        """Have it look again at once after a program ended.

        supervisord starts an ended program in its next round, up to a
        second later; an instance that boots would wait for that. Each round
        looks after those that are coming, too.
        """
        poller = self._supervisord.options.poller
        poll = poller.poll
        ended = False

        def note(_event: Any) -> None:
            nonlocal ended
            ended = True

        def poll_soon(timeout: float | None) -> Any:
            nonlocal ended
            soon, ended = ended, False
            self._hand_over()
            return poll(0 if soon else timeout)

        events.subscribe(events.ProcessStateExitedEvent, note)
        poller.poll = poll_soon


def _serves(process: Any) -> bool:
    """Tell whether supervisord's PROCESS, a haproxy, listens.

    A network's on its port, the gateway on its unix sockets.
    """
    command = shlex.split(process.config.command)
    in_network = bool(orphans.value_of(command, "--net="))
    return listens(process.pid, tcp=in_network)


def _config_of(config: Any) -> str:
    """Return the haproxy configuration of supervisord's program CONFIG."""
    command = shlex.split(config.command)
    return command[command.index("-f") + 1]


def _tell_ready(address: str) -> None:
    """Tell systemd, at ADDRESS, that our socket answers: sd_notify(3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(address.replace("@", "\0", 1))
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
