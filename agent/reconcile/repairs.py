"""What changes under us is found here, and queued to be repaired."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...privsep import kernel, names
from .site import Site
from .workers import Workers
from .workqueue import Queues

LOG = logging.getLogger(__name__)

_GOOD = ("RUNNING", "STARTING")


class Repairs:
    """Looks at the host itself, which no row speaks of."""

    def __init__(self, site: Site, queues: Queues, workers: Workers) -> None:
        self._site = site
        self._queue = queues.reconcile
        self._workers = workers
        self._gateway: object = None  # the pid of its master

    def queue_all(self) -> bool:
        """Queue everything that is wanted or here; tell if that worked."""
        what = "this host could not be looked through"
        done = self._try(self._workers.queue_all, what)
        kernel.trim_heap()  # of what such a look takes
        return done

    def check_fleet(self) -> None:
        """Have supervisord run, and look after what it gave up on."""
        self._try(self._check_fleet, "the fleet does not answer")

    def _check_fleet(self) -> None:
        programs = self._site.privileged.list_programs()
        # A gateway that was started again has made its socket again.
        gateway = programs.get(names.GATEWAY, {}).get("pid")
        if gateway != self._gateway:
            self._gateway = gateway
            self._queue.add(names.GATEWAY)
        # What failed has its retries, with back-off.
        for key in self._site.status.served_networks():
            if programs.get(key, {}).get("state") not in _GOOD:
                self._queue.add(key)

    def _try(self, work: Callable[[], None], what: str) -> bool:
        """Do WORK; report once that WHAT, and why. It is tried again."""
        problem = ""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            problem = f"{what}: {error}"
        if self._site.status.trouble(what, problem):
            LOG.warning("%s", problem)
        return not problem
