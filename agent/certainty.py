"""Is what is not seen really not there?

ovn-controller makes its Chassis row first and claims its ports then; while
the Southbound database is away they may be claimed unheard. What lacks in
the rows at such a time is not to be removed.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Set

from .model import ChassisSnapshot
from .monitor.status import Status

LOG = logging.getLogger(__name__)

# What an ovn-controller that starts may take to claim its ports.
SETTLE_S = 30.0
# The same at our own start, where it has long run in most cases.
START_SETTLE_S = 5.0
# Until the next look while the Southbound database is away.
AWAY_S = 10.0


class Certainty:
    """Knows since when the rows tell all that is bound here.

    HEARS_SOUTHBOUND tells whether its server is connected. Rows come on
    one thread, and every worker asks: one of them at a time.
    """

    def __init__(
        self,
        status: Status,
        *,
        hears_southbound: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._hears_southbound = hears_southbound
        self._clock = clock
        self._lock = threading.Lock()
        # Whose bindings are known, and from when on they are all.
        self._chassis: uuid.UUID | None = None
        self._settled_at: float | None = None  # None: they are
        # Networks and logical ports that were bound in the time before that:
        # if they are no longer, they are really gone.
        self._seen: frozenset[str] = frozenset()
        self._was_missing = False  # since its bindings were known last

    def note(self, snapshot: ChassisSnapshot, chassis_name: str) -> None:
        """Take note of SNAPSHOT: of a Chassis row that went, or came."""
        reason = ""
        if snapshot.chassis is None:
            reason = (
                f"no Chassis row named {chassis_name}; "
                f"does ovn-controller run?"
            )
            self._was_missing = True
        if self._status.waits_for("chassis", reason) and reason:
            LOG.warning("%s What is served is served on", reason)
        reason = ""
        if not snapshot.is_filled:
            reason = "ovn-northd has written nothing to OVN Southbound yet"
        self._status.waits_for("northd", reason)
        with self._lock:
            is_another = snapshot.chassis != self._chassis or self._was_missing
            if snapshot.synced and is_another:
                self._begin(snapshot)
            if self._settling_s():
                self._seen = self._seen.union(_names(snapshot))

    def _begin(self, snapshot: ChassisSnapshot) -> None:
        """Take note of the first SNAPSHOT with another chassis' bindings."""
        is_anew = self._chassis not in (None, snapshot.chassis)
        if is_anew:
            LOG.info("ovn-controller has made its Chassis row anew")
        is_fresh = is_anew or self._was_missing or not snapshot.networks
        self._seen = frozenset()
        delay_s = SETTLE_S if is_fresh else START_SETTLE_S
        self._settled_at = self._clock() + delay_s
        self._chassis = snapshot.chassis
        self._was_missing = False

    def _settling_s(self) -> float:
        """Return how long it still takes until all is certain; 0: it is.

        While the Southbound database is away ovn-controller can't go on.
        """
        if self._settled_at is None:
            return 0.0
        now = self._clock()
        if not self._hears_southbound():
            self._settled_at = max(self._settled_at, now + SETTLE_S)
        elif now >= self._settled_at:
            self._settled_at = None
            return 0.0
        return self._settled_at - now

    def unsure(self, lacking: Set[str]) -> tuple[Set[str], float]:
        """Return which of LACKING may only not be seen yet.

        LACKING are ids of networks or names of logical ports. Also the
        seconds after which to look again.
        """
        with self._lock:
            delay_s = self._settling_s()
            if not delay_s:
                return frozenset(), 0.0
            return lacking - self._seen, min(delay_s, AWAY_S)


def _names(snapshot: ChassisSnapshot) -> Iterator[str]:
    for network in snapshot.networks.values():
        yield network.network
        yield from (port.logical_port for port in network.ports)
