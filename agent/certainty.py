"""Is what is not seen really not there?

ovn-controller makes its Chassis row first and claims its ports then; while
the Southbound database is away they may be claimed unheard. What lacks in
the rows at such a time is not to be removed.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Set

from .model import ChassisSnapshot
from .status import Status

LOG = logging.getLogger(__name__)

# What an ovn-controller that starts may take to claim its ports.
SETTLE_S = 30.0
# Until the next look while the Southbound database is away.
AWAY_S = 10.0


class Certainty:
    """Knows since when the rows tell all that is bound here.

    HEARS_SOUTHBOUND tells whether its server is connected.
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
        # Whose bindings are known, and from when on they are all.
        self._chassis: uuid.UUID | None = None
        self._settled_at = 0.0
        # Networks and logical ports that were bound in the time before that:
        # if they are no longer, they are really gone.
        self._seen: frozenset[str] = frozenset()
        self._is_missing = False
        self._was_missing = False  # since its bindings were known last

    def note(self, snapshot: ChassisSnapshot, chassis_name: str) -> None:
        """Take note of SNAPSHOT: of a Chassis row that went, or came."""
        reason = ""
        if snapshot.chassis is None:
            reason = (
                f"no Chassis row named {chassis_name}; "
                f"does ovn-controller run?"
            )
            if not self._is_missing:
                LOG.warning("%s What is served is served on", reason)
            self._was_missing = True
        self._is_missing = snapshot.chassis is None
        self._status.waits_for("chassis", reason)
        reason = ""
        if not snapshot.is_filled:
            reason = "ovn-northd has written nothing to OVN Southbound yet"
        self._status.waits_for("northd", reason)
        is_another = snapshot.chassis != self._chassis or self._was_missing
        if snapshot.synced and is_another:
            self._begin(snapshot)
        if self._clock() < self._settled_at:
            self._seen = self._seen.union(_names(snapshot))

    def _begin(self, snapshot: ChassisSnapshot) -> None:
        """Take note of the first SNAPSHOT with another chassis' bindings."""
        is_anew = self._chassis not in (None, snapshot.chassis)
        if is_anew:
            LOG.info("ovn-controller has made its Chassis row anew")
        # At our own start it may have been made just now, as well.
        if is_anew or self._was_missing or not snapshot.networks:
            self._settled_at = self._clock() + SETTLE_S
            self._seen = frozenset()
        self._chassis = snapshot.chassis
        self._was_missing = False

    def unsure(self, lacking: Set[str]) -> tuple[Set[str], float]:
        """Return which of LACKING may only not be seen yet.

        LACKING are ids of networks or names of logical ports. Also the
        seconds after which to look again.
        """
        delay_s = max(0.0, self._settled_at - self._clock())
        if not self._hears_southbound():
            # They may have been claimed meanwhile.
            return lacking, max(delay_s, AWAY_S)
        return (lacking - self._seen if delay_s else frozenset()), delay_s


def _names(snapshot: ChassisSnapshot) -> Iterator[str]:
    for network in snapshot.networks.values():
        yield network.network
        yield from (port.logical_port for port in network.ports)
