"""Look up the addresses of Nova's metadata API at intervals.

The agent does it because haproxy looks names up when it starts, and its start
hangs while the name servers do. haproxy's own resolver does not read
/etc/hosts.
"""

import dataclasses
import logging

from ...privsep.names import GATEWAY
from ..config.values import is_address
from ..lookup import look_up, own_address
from ..threads import Poller
from .site import Site

LOG = logging.getLogger(__name__)

_RETRY_S = 5.0

Addresses = tuple[str, ...]


@dataclasses.dataclass(eq=False)
class NovaAddresses(Poller):
    """The addresses of the hosts in the settings, kept by a thread.

    If a look-up fails, the addresses found before still count. The gateway is
    queued when a look-up changed them.
    """

    site: Site

    def __post_init__(self) -> None:
        super().__init__("nova", 0)  # it looks up at once
        self._known: dict[str, Addresses] = {}

    def addresses(self, host: str) -> Addresses | None:
        """Return the addresses of HOST, sorted.

        None if it was never looked up; an empty tuple if every look-up has
        failed.
        """
        return (host,) if is_address(host) else self._known.get(host)

    def unresolved(self) -> list[str]:
        """Return the names in the settings whose every look-up has failed."""
        hosts = dict(self.site.settings().nova.hosts)
        return [host for host in hosts if self.addresses(host) == ()]

    def poll(self) -> None:
        """Look all names up."""
        self._interval_s = _RETRY_S
        hosts = {e.host for e in self.site.settings().nova.endpoints}
        names = sorted(host for host in hosts if not is_address(host))
        for name in names:
            # At once, since the next look-up may take long.
            if self._look_up(name):
                self.site.queues.reconcile.add(GATEWAY)
        if all(self._known[name] for name in names):
            self._interval_s = self.site.settings().resolve_interval_s

    def _look_up(self, name: str) -> bool:
        """Look NAME up; return whether its addresses changed."""
        before = self._known.get(name)
        found = before or ()
        try:
            # A name may have IPv6 addresses where the host has no IPv6. Such a
            # server would be down for ever. An address that is in use stays,
            # also if its route is missing for a moment.
            every = sorted(look_up(name))
            usable = [a for a in every if a in found or own_address(a)]
            found = tuple(usable or every)
        except OSError as error:
            if before is None:
                LOG.warning("nova_metadata_host %s: %s", name, error)
        self._known[name] = found
        if before is not None and found != before:
            LOG.info("nova_metadata_host %s is now %s", name, ", ".join(found))
        return found != before
