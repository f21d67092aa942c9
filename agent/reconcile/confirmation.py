"""Confirm to the gateway that the networks' maps are as the rows are.

Only then does it answer 404 to an address in no map (`haproxy.unknown`). When
the agent ends, hangs, or is disconnected it confirms nothing, and requests
that arrive from then on are held, and answered 503.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from ..errors import HaproxyError
from ..haproxy import unknown
from ..model import ChassisSnapshot
from .haproxies import Haproxies
from .snapshots import Snapshots
from .workqueue import WorkQueue

LOG = logging.getLogger(__name__)

_INTERVAL_S = 0.5
_END_S = 1.0


class Confirmation:
    """Tells the gateway twice a second, on a thread of its own.

    READ_UNTIL_MS returns until when (since the epoch) the rows of Southbound
    are in SNAPSHOTS, and the networks that they change in QUEUE.
    """

    def __init__(
        self,
        haproxies: Haproxies,
        snapshots: Snapshots,
        queue: WorkQueue,
        read_until_ms: Callable[[], int],
    ) -> None:
        self._haproxies = haproxies
        self._snapshots = snapshots
        self._queue = queue
        self._read_until_ms = read_until_ms
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="confirmation", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Confirm nothing more; do not wait for a gateway that hangs."""
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            try:
                self._confirm()
            except (OSError, HaproxyError) as error:
                LOG.debug("nothing confirmed to the gateway: %s", error)
            except Exception:
                LOG.exception("nothing confirmed to the gateway")

    def _confirm(self) -> None:
        # First, so that rows that arrive meanwhile are not confirmed.
        read_ms = self._read_until_ms()
        waiting = self._queue.waiting()
        now_ms = time.time_ns() // 1_000_000
        since = {key: now_ms - int(s * 1000) for key, s in waiting.items()}
        times = confirmed(self._snapshots.chassis, since, read_ms=read_ms)
        if times:
            self._haproxies.confirm(
                {key: str(at_ms) for key, at_ms in times.items()}
            )


def confirmed(
    snapshot: ChassisSnapshot, waiting: Mapping[str, int], *, read_ms: int
) -> dict[str, int]:
    """Return until when the maps have what was bound, or nothing.

    In ms since the epoch: of all networks, READ_MS; of those that are WAITING
    for a reconcile that succeeds, since when they are.
    """
    if not snapshot.synced:
        return {}
    incomplete = {
        network: 0
        for network, known in snapshot.networks.items()
        if not known.complete
    }
    return {unknown.CONFIRMED: read_ms, **waiting, **incomplete}
