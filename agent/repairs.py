"""What changes under us is found here, and queued to be repaired."""

from __future__ import annotations

import logging

from ..privsep import kernel
from . import names
from .reconciler import Reconciler
from .site import Site
from .workers import Workers
from .workqueue import Queues

LOG = logging.getLogger(__name__)

_GOOD = ("RUNNING", "STARTING")


class Repairs:
    """Looks at the host itself, which no row speaks of."""

    def __init__(
        self,
        site: Site,
        queues: Queues,
        *,
        reconciler: Reconciler,
        workers: Workers,
    ) -> None:
        self._site = site
        self._queues = queues
        self._reconciler = reconciler
        self._workers = workers
        self._gateway: object = None  # the pid of its master

    def queue_all(self) -> bool:
        """Queue everything that is wanted or here; tell if that worked."""
        try:
            keys = self._reconciler.wanted()
        except Exception as error:  # noqa: BLE001 # tried again
            self._report("this host could not be looked through", error)
            return False
        self._report("this host could not be looked through", None)
        self._workers.add_all(keys)
        kernel.trim_heap()  # of what the last such look took
        return True

    def check_fleet(self) -> None:
        """Have supervisord run, and look after what it gave up on."""
        try:
            programs = self._site.host.list_programs()
        except Exception as error:  # noqa: BLE001 # tried again
            self._report("the fleet does not answer", error)
            return
        self._report("the fleet does not answer", None)
        # A gateway that was started again has made its socket again.
        gateway = programs.get(names.GATEWAY, {}).get("pid")
        if gateway != self._gateway:
            self._gateway = gateway
            self._queues.reconcile.add(names.GATEWAY)
        # What failed has its retries, with back-off.
        for key in self._site.status.served_networks():
            if programs.get(key, {}).get("state") not in _GOOD:
                self._queues.reconcile.add(key)

    def _report(self, what: str, error: Exception | None) -> None:
        """Say once that there is ERROR; None when it is over."""
        problem = f"{what}: {error}" if error else ""
        if self._site.status.trouble(what, problem):
            LOG.warning("%s", problem)
