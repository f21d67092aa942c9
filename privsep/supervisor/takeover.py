"""Take over from the haproxies that ran before supervisord's programs.

A successor starts beside each, on the same sockets. Once it serves, the old
one is told to finish its connections and end.
"""

import contextlib
import os
import signal
import time
from typing import Any

import psutil
from supervisor.states import ProcessStates

from .. import names
from ..fleet import stale
from ..fleet.stale import Stale
from ..places import Places
from . import listeners

# At most this long in a round of supervisord's loop, which has other work.
_ROUND_S = 0.1


class Takeover:
    """The stale haproxies, until each has ended."""

    def __init__(self, supervisord: Any, places: Places) -> None:
        self._supervisord = supervisord
        self._places = places
        # Of configurations: ours, and Neutron's agent's, once it is known.
        self.folders = {str(places.config_folder)}
        # We have no children at the start: all that run are stale.
        self._stale = stale.scan()

    def before(self, network: str) -> list[Stale]:
        """Return the stale ones of NETWORK that run."""
        return [
            one
            for one in self._stale
            if one.network == network and one.is_ours(self.folders)
        ]

    def is_awaited(self, network: str) -> bool:
        """Return whether a stale one serves NETWORK until its program does."""
        return any(one.finishing_since is None for one in self.before(network))

    def note_pid(self, network: str, pid: int) -> None:
        """Write into its PID file that PID serves NETWORK (or "gateway")."""
        file = self._places.pid(network)
        fresh = file.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk stops no haproxy
            fresh.write_text(f"{pid}\n")
            fresh.replace(file)

    def adopt(self, process: Any, *, kill: bool) -> None:
        """Make PROCESS of supervisord a stale one, which still runs.

        With KILL it ends at once. supervisord treats it as stopped.
        """
        options = self._supervisord.options
        if process.pid:
            found = psutil.Process(process.pid)
            network = network_of(process.config)
            config = str(self._places.config(network))
            one = Stale(found, network, config, is_child=True)
            self._stale.append(one)
            if kill:  # and its children, which a broken-in haproxy may have
                one.finishing_since = time.monotonic()
                for send in (os.kill, os.killpg):
                    with contextlib.suppress(ProcessLookupError):
                        send(process.pid, signal.SIGKILL)
            options.pidhistory.pop(process.pid, None)
            # Other pipes may get these numbers before the next poll.
            for number in options.poller.readables & {*process.dispatchers}:
                options.poller.unregister_readable(number)
            options.close_parent_pipes(process.pipes)
        process.pipes, process.dispatchers = {}, {}
        process.pid, process.state = 0, ProcessStates.STOPPED

    def go_on(self) -> None:
        """End those whose successor serves, for at most _ROUND_S."""
        until = time.monotonic() + _ROUND_S
        for _ in range(len(self._stale)):
            one = self._stale.pop(0)
            self._stale.append(one)  # also if this raises
            if not self._is_left(one):
                self._stale.pop()
            if time.monotonic() > until:
                return

    @property
    def is_due(self) -> bool:
        """Return whether a successor may begin to serve at any moment."""
        return any(
            one.finishing_since is None and self._successor(one) is not None
            for one in self._stale
        )

    def sweep(self, folder: str) -> list[str]:
        """Search again for stale haproxies; return the networks of ours.

        FOLDER has the configurations of Neutron's agent. `go_on` ends those
        whose network a program serves.
        """
        self.folders.add(folder)
        groups = self._supervisord.process_groups.values()
        children = {p.pid for g in groups for p in g.processes.values()}
        known = {one.process for one in self._stale}  # `go_on` drops these
        found = stale.scan(children)
        new = [one for one in found if one.process not in known]
        self._stale = new + self._stale
        ours = (one for one in self._stale if one.is_ours(self.folders))
        return sorted({one.network for one in ours})

    def end(self, network: str, number: int) -> int:
        """Send signal NUMBER to those of NETWORK; return how many got it.

        `go_on` kills those that do not end.
        """
        mine = [one for one in self._stale if one.network == network]
        since = time.monotonic() - stale.PATIENCE_S * (number == stale.END)
        for one in mine:
            # The first time counts: this may be called again and again.
            one.finishing_since = min(since, one.finishing_since or since)
        mine = [one for one in mine if one.signalled != number]
        return sum(one.send(number, self.folders) for one in mine)

    def stop(self) -> None:
        """End those that programs of ours have replaced: supervisord ends."""
        for one in self._stale:
            if one.is_child or one.finishing_since is not None:
                one.send(stale.END, self.folders)

    def _is_left(self, one: Stale) -> bool:
        """Make ONE finish if its successor serves; return if it is left.

        One that does not end gets stronger signals later.
        """
        now = time.monotonic()
        if one.finishing_since is None:
            process = self._successor(one)
            if process is None:
                return bool(one.process.is_running())
            if not listeners.serves(process):
                return True  # its PID is written when it does
            one.finishing_since = now
            self.note_pid(one.network, process.pid)
        number = stale.signal_after(now - one.finishing_since)
        sent = number != one.signalled and one.send(number, self.folders)
        if sent and number == stale.FINISH:
            # supervisor's logger formats by keyword.
            self._supervisord.options.logger.info(
                "%(name)s takes over from %(pid)s",
                name=names.program_name(one.network),
                pid=one.process.pid,
            )
        return bool(one.process.is_running())

    def _successor(self, one: Stale) -> Any | None:
        """Return supervisord's process for the network of ONE, if it runs."""
        name = names.program_name(one.network)
        group = self._supervisord.process_groups.get(name)
        (process,) = group.processes.values() if group else (None,)
        return process if process is not None and process.pid else None


def network_of(config: Any) -> str:
    """Return the network (or "gateway") of supervisord's program CONFIG."""
    return str(names.network_of_program(config.name))
