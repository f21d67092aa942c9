"""Hand over from the haproxies that an earlier supervisord left running.

Or Neutron's agent. A successor starts beside each; once it listens, the old
one is told to finish what it has and go.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Any

from supervisor.states import ProcessStates

from . import names, orphans
from .gateway_socket import GatewaySocket, is_gateway
from .listeners import listens

# supervisord has other things to do in a round of its loop.
_ROUND_S = 0.1


class Succession:
    """What runs beside supervisord's programs, and what becomes of it."""

    def __init__(self, supervisord: Any, gateway: GatewaySocket) -> None:
        self._supervisord = supervisord
        self._gateway = gateway
        # We have no children yet: what runs is an earlier supervisord's.
        self._orphans = orphans.scan()
        # Since when (monotonic) those beside a program are to finish.
        self._told: dict[orphans.Orphan, float] = {}
        # Programs that run and may not listen yet, beside predecessors.
        self._coming: dict[str, Any] = {}

    def make_room(self, config: Any) -> None:
        """Let the program listen beside the orphans on its configuration.

        Where there is no way to, those of another user, Neutron's, have to
        go first, and connections are refused meanwhile. The gateway has no
        port.
        """
        if is_gateway(config):
            return
        command = shlex.split(config.command)
        for orphan in self._on(config):
            if not (orphan.make_room(command) or orphan.has_user_of(command)):
                self._tell_to_finish(config, [orphan])

    def has_come(self, process: Any) -> None:
        """Note that PROCESS runs: the old ones go as soon as it listens."""
        if self._on(process.config) or is_gateway(process.config):
            self._coming[process.config.name] = process

    def hand_over(self) -> None:
        """Look after those that are coming, for a moment."""
        until = time.monotonic() + _ROUND_S
        for name, process in list(self._coming.items()):
            del self._coming[name]
            if process.get_state() == ProcessStates.RUNNING and not (
                _serves(process) and self._take_over(process)
            ):
                self._coming[name] = process  # behind the others
            if time.monotonic() > until:
                return

    def succeed(self, process: Any) -> None:
        """Have what ran before PROCESS go now, if that listens."""
        if _serves(process):
            self._take_over(process)

    def sweep(self, folders: Sequence[str], haproxy: str) -> list[str]:
        """Look anew for orphans that run on configurations in FOLDERS.

        Returns their networks. Those beside a program that runs are told
        to finish: half of the requests would go to what they still know.
        """
        running = {
            names.network_of_program(process.config.name): process
            for process in self._processes()
            if process.get_state() == ProcessStates.RUNNING
        }
        children = {process.pid for process in self._processes()}
        self._orphans = [o for o in orphans.scan() if o.pid not in children]
        self._told = {
            o: self._told[o] for o in self._orphans if o in self._told
        }
        now = time.monotonic()
        found = set()
        for orphan in self._orphans:
            network = orphans.network_of(orphan.config, folders)
            if network is not None:
                found.add(network)
                successor = running.get(network)
                if (
                    successor is not None
                    and _serves(successor)
                    and self._is_asked(successor)
                ):
                    waited_s = now - self._told.setdefault(orphan, now)
                    number = orphans.signal_after(waited_s)
                    orphan.end(haproxy, number=number)
        return sorted(found)

    def end_orphans(self, config: str, haproxy: str) -> int:
        """End the orphans known that run on the file CONFIG; count them."""
        mine = [orphan for orphan in self._orphans if orphan.config == config]
        self._orphans = [o for o in self._orphans if o not in mine]
        return sum(orphan.end(haproxy) for orphan in mine)

    def _processes(self) -> Iterator[Any]:
        """Yield supervisord's processes, those that do not run as well."""
        for group in self._supervisord.process_groups.values():
            yield from group.processes.values()

    def _take_over(self, process: Any) -> bool:
        """Have PROCESS, which listens, do alone what predecessors did.

        Tells whether they were told: a gateway's is not at once.
        """
        asked = self._is_asked(process)
        if asked:
            self._tell_to_finish(process.config, self._on(process.config))
        return asked

    def _is_asked(self, process: Any) -> bool:
        """Tell whether who asks comes to PROCESS, and has for a moment.

        For a gateway that begins here, and its predecessor goes another
        time: it is to take first what waits in its own queue.
        """
        return not is_gateway(process.config) or self._gateway.publish()

    def _on(self, config: Any) -> list[orphans.Orphan]:
        """Return the orphans known on the program's configuration."""
        file = orphans.file_of(config.command)
        return [
            orphan
            for orphan in self._orphans
            if orphans.is_of_same(orphan.config, file)
        ]

    def _tell_to_finish(self, config: Any, mine: list[orphans.Orphan]) -> None:
        """Have MINE, which the program succeeds, finish; forget them.

        One that could not be told a sweep finds again.
        """
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


def _serves(process: Any) -> bool:
    """Tell whether supervisord's PROCESS, a haproxy, listens.

    A network's on its port, the gateway on its unix sockets.
    """
    return listens(process.pid, tcp=not is_gateway(process.config))
