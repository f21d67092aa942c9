"""Take over from the haproxies that ran before supervisord's programs.

A successor starts beside each, on the same sockets; once it serves, the old
one is told to finish what it has and go.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import psutil
from supervisor.states import ProcessStates

from .. import names
from ..fleet import stale
from ..fleet.stale import Stale
from . import listeners
from .programs import Program

# supervisord has other things to do in a round of its loop.
_ROUND_S = 0.1


class Takeover:
    """The stale haproxies, and what becomes of them."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self.folders: set[str] = set()  # of configurations of ours
        # We have no children yet: what runs is an earlier supervisord's.
        self._stale = stale.scan()

    def before(self, program: Program) -> list[Stale]:
        """Return what runs in the place of PROGRAM, the latest first."""
        self.folders.add(program.folder)
        found = [
            one
            for one in self._stale
            if one.network == program.network
            and one.is_ours(program.haproxy, self.folders)
        ]
        return sorted(found, key=lambda one: -one.process.create_time())

    def let_go(self, process: Any, *, kill: bool) -> None:
        """Have PROCESS, of supervisord's, run on as a stale one.

        With KILL it ends at once. Supervisord takes it for stopped.
        """
        options = self._supervisord.options
        if process.pid:
            program = Program.of(process.config)
            self.folders.add(program.folder)
            found = psutil.Process(process.pid)
            self._stale.append(Stale(found, program.network, program.config))
            if kill:  # its workers as well
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            options.pidhistory.pop(process.pid, None)
            options.close_parent_pipes(process.pipes)
        process.pipes, process.dispatchers = {}, {}
        process.pid, process.state = 0, ProcessStates.STOPPED

    def go_on(self) -> None:
        """Have those finish whose successor serves; for a moment."""
        until = time.monotonic() + _ROUND_S
        for _ in range(len(self._stale)):
            one = self._stale.pop(0)
            if self._is_left(one):
                self._stale.append(one)
            if time.monotonic() > until:
                return

    @property
    def is_due(self) -> bool:
        """Tell whether a successor may serve at any moment."""
        programs = self._supervisord.process_groups
        return any(
            one.told is None and names.program_name(one.network) in programs
            for one in self._stale
        )

    def sweep(self, folders: Sequence[str], haproxy: str) -> list[str]:
        """Look again for stale ones; return the networks of those of ours.

        Those are on configurations in FOLDERS, or in a network's namespace.
        """
        self.folders.update(folders)
        groups = self._supervisord.process_groups.values()
        children = {p.pid for g in groups for p in g.processes.values()}
        known = {one.process: one for one in self._stale}
        self._stale = [
            known.get(one.process, one) for one in stale.scan(children)
        ]
        ours = (o for o in self._stale if o.is_ours(haproxy, self.folders))
        return sorted({one.network for one in ours})

    def end(self, network: str, haproxy: str, number: int) -> int:
        """Signal NUMBER to those of NETWORK; count them."""
        mine = [one for one in self._stale if one.network == network]
        return sum(one.send(number, haproxy, self.folders) for one in mine)

    def _is_left(self, one: Stale) -> bool:
        """Have ONE finish if its successor serves; tell if it is still ours.

        It is told again, and more, if it does not go.
        """
        process = self._successor(one)
        if process is None:
            return True
        now = time.monotonic()
        one.told = now if one.told is None else one.told
        number = stale.signal_after(now - one.told)
        if number == one.signalled:
            return True
        program = Program.of(process.config)
        sent = one.send(number, program.haproxy, self.folders)
        if sent and number == stale.FINISH:
            # supervisor's logger formats by keyword.
            self._supervisord.options.logger.info(
                "%(name)s takes over from %(pid)s",
                name=process.config.name,
                pid=one.pid,
            )
        return sent

    def _successor(self, one: Stale) -> Any | None:
        """Return the process that does the work of ONE by now."""
        name = names.program_name(one.network)
        group = self._supervisord.process_groups.get(name)
        for process in group.processes.values() if group else ():
            runs = process.get_state() == ProcessStates.RUNNING
            if process.pid and (
                one.told is not None
                # Where that can't be seen it has run for a second.
                or listeners.has_come_up(process.pid, if_unseen=runs)
            ):
                return process
        return None
