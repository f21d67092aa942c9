"""Find what others have changed on this host, and queue its repair."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from ...privsep import kernel, names
from ...privsep.errors import NoRootError, sentence
from ..core.codes import KINDS
from ..monitor.fleet import Fleet
from ..monitor.problems import code_of
from .site import Site
from .workers import Workers

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Repairs:
    """Checks for what no row reports: haproxies, namespaces, files."""

    site: Site

    def __post_init__(self) -> None:
        self._codes: dict[str, str] = {}  # of what fails
        self._fleet = Fleet(self.site.haproxies.places.supervisord_pid)
        self.site.status.parts["fleet"] = self._fleet.as_dict
        self.site.status.process = self._process

    def queue_all(self, workers: Workers) -> bool:
        """Queue every network in the rows or here; return if that worked."""
        what = "this host could not be searched for networks"
        done = self._try(workers.queue_all, "OVNMD-405", what)
        kernel.trim_heap()  # such a pass needs much memory for a moment
        return done

    def check_fleet(self) -> None:
        """Ensure supervisord runs; queue the gateway if it was restarted."""
        self._try(self._check_fleet, "OVNMD-302", "the fleet does not answer")

    def _check_fleet(self) -> None:
        programs = self.site.privileged.list_programs()
        self.site.meter.saw(programs)
        before = self._fleet.of(names.GATEWAY)
        self._fleet.note(programs)
        # A restarted gateway has a new socket, which must be published.
        if self._fleet.of(names.GATEWAY)["pid"] != before["pid"]:
            self.site.queues.reconcile.add(names.GATEWAY)

    def _process(self, network: str) -> dict[str, Any]:
        running = self.site.haproxies.running.get(network, "")
        return {**self._fleet.of(network), "digest": running}

    def _try(self, work: Callable[[], None], code: str, what: str) -> bool:
        """Do WORK; if it fails, note and log once that WHAT.

        CODE is the problem's, unless the error shows one of the host. The
        caller tries again. Raises NoRootError, because that would fail for
        ever: the agent ends, and whatever started it as root starts it again.
        """
        problem = ""
        try:
            work()
        except NoRootError:
            raise
        except Exception as error:  # noqa: BLE001
            problem = f"{what}: {sentence(error)}"
            found = code_of(error)
            code = found if KINDS[found].is_hosts else code
        before = self._codes.get(what, code)
        if before != code:
            self.site.status.note(before, "", about=what)
        self._codes[what] = code
        if self.site.status.note(code, problem, about=what):
            LOG.warning("%s", problem)
        return not problem
