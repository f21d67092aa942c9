"""The threads that take keys from the queues and work on them."""

import dataclasses
import logging
import threading
import time

from ...privsep import names
from ...privsep.errors import FleetError, sentence
from .gateway import Gateway
from .network import Reconciler
from .site import Site
from .snapshots import Snapshots

LOG = logging.getLogger(__name__)

FIRST_SYNC = "first pass"
# Two, since a haproxy that hangs blocks one for some seconds.
_REVOKERS = 2
# How long the threads may still work when the agent ends.
_END_S = 2.0
# Until the next try for a key that waits for something without an event.
_SOON_S = 5.0


@dataclasses.dataclass(eq=False)
class Workers:
    """Reconcile and revoke, each key on one thread at a time.

    A key that fails is tried again and does not delay the others.
    """

    site: Site
    snapshots: Snapshots
    reconciler: Reconciler
    gateway: Gateway

    def __post_init__(self) -> None:
        self._queues = self.site.queues
        self._threads: list[threading.Thread] = []
        self._all_queued = False

    def start(self, count: int) -> None:
        """Start COUNT threads that reconcile, and those that revoke."""
        works = [("reconcile", self._work)] * count
        works += [("revoke", self._revoke)] * _REVOKERS
        for number, (name, work) in enumerate(works):
            thread = threading.Thread(
                target=work, name=f"{name}-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads; those that hang are not waited for."""
        self._queues.reconcile.close()
        self._queues.revoke.close()
        for thread in self._threads:
            thread.join(_END_S / len(self._threads))

    def queue_all(self) -> None:
        """Queue every network in the rows or here; raise if that fails."""
        keys = self.reconciler.keys_to_visit()
        for key in self.snapshots.chassis.in_order(keys):
            self._queues.reconcile.add(key, routine=True)
        self._all_queued = True
        self._note_first_pass()

    def _revoke(self) -> None:
        """Revoke at once, even while the other threads hang."""
        queue = self._queues.revoke
        while (key := queue.get()) is not None:
            try:
                self.reconciler.revoke(key)
            except Exception as error:  # noqa: BLE001 # reconcile reports it
                LOG.debug("network=%s not revoked: %s", key, error)
            queue.done(key, failed=False)

    def _work(self) -> None:
        queue = self._queues.reconcile
        while (key := queue.get()) is not None:
            began = time.monotonic()
            error = self._reconcile(key)
            seconds = time.monotonic() - began
            self.site.meter.observe("reconcile_duration_seconds", seconds)
            LOG.debug("reconciled network=%s", key)
            # Note it before `done`. After that another worker may take the
            # key and succeed, and this failure would hide it.
            news = error is not None and self.site.status.failed(key, error)
            delay = queue.done(key, failed=error is not None)
            self._note_first_pass()
            if error is not None and news and not queue.closed:
                LOG.error(
                    "network=%s is not as it should be, next try in %.1f s: "
                    "%s",
                    key,
                    delay,
                    sentence(error),
                )

    def _reconcile(self, key: str) -> Exception | None:
        """Reconcile KEY; return why that failed, or None."""
        try:
            if key == names.GATEWAY:
                done = self.gateway.ensure()
            else:
                done = self.reconciler.reconcile(key)
            if not done:
                self._queues.reconcile.add_later(key, _SOON_S)
        except Exception as error:
            LOG.debug("network=%s failed", key, exc_info=True)
            if isinstance(error, FleetError):
                self._queues.news.set()  # the service then checks supervisord
            return error
        return None

    def _note_first_pass(self) -> None:
        """Report ready once every network was reconciled."""
        networks = self.snapshots.chassis.networks
        complete = all(n.complete for n in networks.values())
        is_idle = self._queues.reconcile.is_idle()
        is_over = self._all_queued and complete and is_idle
        if is_over and self.site.status.waits_for(FIRST_SYNC, ""):
            LOG.info("ready networks=%d", len(networks))
