"""Read the haproxies' counters; report who uses more than its share."""

import dataclasses
import logging
import time

from ...privsep import names
from ..errors import HaproxyError
from ..haproxy import limits
from ..haproxy.counters import Sums
from ..reconcile.site import Site
from ..threads import Poller

LOG = logging.getLogger(__name__)

_INTERVAL_S = 1.0  # the gateway is asked each time: all networks need it
_TURNS = 5  # polls in which each network is asked once, if none hangs
_FEW_DESCRIPTORS = (
    "the gateway takes {} connections instead of {}, and the networks' "
    "haproxies may take fewer too"
)


@dataclasses.dataclass(eq=False)
class Watch(Poller):
    """Compares the counters with the last ones, on a thread of its own."""

    site: Site

    def __post_init__(self) -> None:
        super().__init__("watch", _INTERVAL_S)
        self._sums: dict[str, Sums] = {}
        self._turn = 0
        self._due: list[str] = []  # networks to ask in this round

    def poll(self) -> None:
        """Read the counters of those whose turn it is."""
        begun = time.monotonic()
        served = self.site.status.served_networks()
        for network in self._sums.keys() - set(served):
            del self._sums[network]
        if self._turn == 0 and not self._due:
            self._due = sorted(served, reverse=True)
        if names.GATEWAY in served:
            self._poll_shares(names.GATEWAY)
        at_once = -(-len(served) // _TURNS)
        for _ in range(min(at_once, len(self._due))):
            # Haproxies that hang must not delay the gateway's turn.
            if time.monotonic() - begun > _INTERVAL_S or self._stop.is_set():
                break
            network = self._due.pop()
            if network in served:
                self._poll_shares(network)
        self._turn = (self._turn + 1) % _TURNS

    def _poll_shares(self, network: str) -> None:
        try:
            counted = self.site.haproxies.counted(network)
        except (OSError, HaproxyError) as error:
            LOG.debug("network=%s counters not read: %s", network, error)
            # A reconcile repairs or reports it.
            self.site.queues.visit(network)
            return
        if counted is not None:
            self.site.meter.counted(network, counted)
        sums = self._sums.setdefault(network, Sums())
        counted = counted or (sums.last if sums.over else None)
        if counted is None:
            return
        new = sums.add(counted, time.monotonic())
        by_name = sums.by_name(is_gateway=network == names.GATEWAY)
        for source in new:
            LOG.warning(
                "network=%s over its share: %s; %s",
                network,
                source,
                " ".join(f"{what}={count}" for what, count in by_name.items()),
            )
        self.site.status.shares(network, by_name, over=sums.over)
        if network == names.GATEWAY:
            has, wanted = counted.connections, limits.GATEWAY_CONNECTIONS
            few = _FEW_DESCRIPTORS.format(has, wanted) * (0 < has < wanted)
            self.site.status.tell("OVNMD-303", few)
