"""Confirm to the gateway that the networks' maps are as the rows are.

Only then does it answer 404 to an address in no map (`haproxy.unknown`). When
the agent ends, hangs, or is disconnected it confirms nothing, and requests
that arrive from then on are held, and answered 503.
"""

import contextlib
import dataclasses
import time
from collections.abc import Mapping

from ...privsep.names import GATEWAY
from ..core import signs
from ..databases import Databases
from ..errors import HaproxyError
from ..haproxy import mapfile, runtime
from ..haproxy.unknown import CONFIRMED
from ..model import ChassisSnapshot
from ..reconcile.site import Site
from ..threads import Poller

_INTERVAL_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Until when, in ms since the epoch, rows are known to be in the maps.

    `read_ms` holds for every network that is not in `waiting`, which has the
    time of each network that waits for a reconcile or for rows. `at` is on the
    queue's clock.
    """

    at: float
    read_ms: int = 0
    waiting: Mapping[str, int] = dataclasses.field(default_factory=dict)


def next_reading(
    last: Reading,
    snapshot: ChassisSnapshot,
    *,
    at: float,
    read_ms: int,
    waited_s: Mapping[str, float],
) -> Reading:
    """Return what is known at AT, after LAST; all rows are in SNAPSHOT.

    WAITED_S has the networks that wait for a reconcile that succeeds. The map
    of one has what was read before it began to wait. What was bound earlier
    may be missing from that: the agent may have been disconnected, or not
    there. So nothing is known of a network that was never reconciled.
    """
    waiting = {}
    for network, waited in waited_s.items():
        before = last.waiting.get(network)
        is_new = waited < at - last.at and before != 0
        waiting[network] = last.read_ms if is_new else before or 0
    waiting |= {
        network: 0
        for network, known in snapshot.networks.items()
        if not known.complete
    }
    return Reading(at, read_ms, waiting)


@dataclasses.dataclass(eq=False)
class Confirmation(Poller):
    """Tells the gateway twice a second, on a thread of its own."""

    site: Site
    databases: Databases

    def __post_init__(self) -> None:
        super().__init__("confirmation", _INTERVAL_S)
        self._last = Reading(time.monotonic())
        # Ports that are plugged here and in no row -> since when.
        self._unknown: dict[str, float] = {}

    def poll(self) -> None:
        """Confirm; `Watch` finds a gateway that does not answer."""
        # READ_MS is read before the queue. Rows that arrive in between are in
        # the queue then, so their networks are not confirmed.
        snapshots = self.databases.snapshots
        was_synced = snapshots.chassis.synced
        read_ms = self.databases.southbound_read_until_ms()
        at = time.monotonic()
        snapshot, waited_s = snapshots.with_waiting()
        vswitch = snapshots.vswitch
        self._unknown = {
            port: self._unknown.get(port, at)
            for port in signs.unknown_ports(snapshot, vswitch)
        }
        is_whole = not signs.may_lack(self._unknown, vswitch, now=at)
        if not (is_whole and was_synced and snapshot.synced):
            self._last = dataclasses.replace(self._last, at=at)
            return
        last = self._last
        self._last = next_reading(
            last, snapshot, at=at, read_ms=read_ms, waited_s=waited_s
        )
        # What was known half a second ago: a haproxy that is replaced may
        # still hold a request for so long, and has the map of before.
        known = {CONFIRMED: last.read_ms, **last.waiting}
        times = {key: str(ms) for key, ms in known.items()}
        haproxies = self.site.haproxies
        stats, file = haproxies.stats(GATEWAY), haproxies.places.confirmed
        with contextlib.suppress(OSError, HaproxyError):
            present = runtime.read_map(stats, file)
            # What is not confirmed, first.
            before = present.get(CONFIRMED, "0")
            first = {**present, **times, CONFIRMED: before}
            runtime.change_map(stats, mapfile.commands(file, present, first))
            runtime.change_map(stats, mapfile.commands(file, first, times))
