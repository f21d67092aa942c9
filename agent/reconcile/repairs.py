"""Find what others have changed on this host, and queue its repair."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...privsep import kernel, names
from ...privsep.errors import NoRootError, sentence
from .site import Site
from .workers import Workers
from .workqueue import Queues

LOG = logging.getLogger(__name__)


class Repairs:
    """Checks for what no row reports: haproxies, namespaces, files."""

    def __init__(self, site: Site, queues: Queues, workers: Workers) -> None:
        self._site = site
        self._queue = queues.reconcile
        self._workers = workers
        self._gateway_pid: object = None  # of its master process

    def queue_all(self) -> bool:
        """Queue every network in the rows or here; return if that worked."""
        what = "this host could not be searched for networks"
        done = self._try(self._workers.queue_all, "OVNMD-405", what)
        kernel.trim_heap()  # such a pass needs much memory for a moment
        return done

    def check_fleet(self) -> None:
        """Ensure supervisord runs; queue the gateway if it was restarted."""
        self._try(self._check_fleet, "OVNMD-302", "the fleet does not answer")

    def _check_fleet(self) -> None:
        programs = self._site.privileged.list_programs()
        self._site.meter.saw(programs)
        # A restarted gateway has a new socket, which must be published.
        gateway_pid = programs.get(names.GATEWAY, {}).get("pid")
        if gateway_pid != self._gateway_pid:
            self._gateway_pid = gateway_pid
            self._queue.add(names.GATEWAY)

    def _try(self, work: Callable[[], None], code: str, what: str) -> bool:
        """Do WORK; if it fails, note CODE and log once that WHAT.

        The caller tries again.

        Raises NoRootError, because that would fail for ever: the agent ends,
        and whatever started it as root starts it again.
        """
        problem = ""
        try:
            work()
        except NoRootError:
            raise
        except Exception as error:  # noqa: BLE001
            problem = f"{what}: {sentence(error)}"
        if self._site.status.note(code, problem):
            LOG.warning("%s", problem)
        return not problem
