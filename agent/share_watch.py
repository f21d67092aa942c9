"""Report who asks for more than its share, network by network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from . import names
from .errors import HaproxyError
from .haproxy.ledger import Counted, Ledger
from .status import Status

LOG = logging.getLogger(__name__)


class ShareWatch:
    """Compares what the haproxies have counted with the last time."""

    def __init__(
        self, counted: Callable[[str], Counted], status: Status
    ) -> None:
        self._counted = counted
        self._status = status
        self._ledgers: dict[str, Ledger] = {}

    def look(self) -> None:
        """Look at each haproxy once; it takes 0.3 ms.

        haproxy forgets a source a minute after its last word.
        """
        networks = self._status.served_networks()
        for network in self._ledgers.keys() - set(networks):
            del self._ledgers[network]
        for network in networks:
            try:
                self._look(network)
            except (OSError, HaproxyError) as error:
                # Its reconcile tells whether it is well.
                LOG.debug("network=%s not counted: %s", network, error)

    def _look(self, network: str) -> None:
        is_gateway = network == names.GATEWAY
        ledger = self._ledgers.setdefault(network, Ledger())
        news = ledger.add(self._counted(network), time.monotonic())
        sums = _named(ledger, is_gateway=is_gateway)
        for source in news:
            LOG.warning(
                "network=%s over its share: %s; %s",
                network,
                source,
                " ".join(f"{what}={count}" for what, count in sums.items()),
            )
        self._status.shares(network, sums, over=ledger.over)


def _named(ledger: Ledger, *, is_gateway: bool) -> Mapping[str, int]:
    """Return the sums of LEDGER by what they count."""
    what = ("refused_connections", "unlogged_requests")
    if is_gateway:
        what = ("queued_requests", "refused_requests")
    return {
        what[0]: ledger.sums[0],
        what[1]: ledger.sums[1],
        "incomplete_requests": ledger.incomplete,
    }
