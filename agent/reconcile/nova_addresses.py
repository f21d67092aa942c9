"""Look up the addresses of Nova's metadata API at intervals.

The agent does it because haproxy looks names up when it starts, and its start
hangs while the name servers do. haproxy's own resolver does not read
/etc/hosts.
"""

import logging
from collections.abc import Callable

from ..config.settings import Settings
from ..config.values import is_address
from ..lookup import look_up, own_address
from ..threads import Poller

LOG = logging.getLogger(__name__)

_RETRY_S = 5.0

Addresses = tuple[str, ...]


class NovaAddresses(Poller):
    """The addresses of the hosts in the settings, kept by a thread.

    If a look-up fails, the addresses found before still count. ON_CHANGE is
    called when a look-up changed them.
    """

    def __init__(
        self, settings: Callable[[], Settings], on_change: Callable[[], None]
    ) -> None:
        super().__init__("nova", 0)  # it looks up at once
        self._settings = settings
        self._on_change = on_change
        self._known: dict[str, Addresses] = {}

    def addresses(self, host: str) -> Addresses | None:
        """Return the addresses of HOST, sorted.

        None if it was never looked up; an empty tuple if every look-up has
        failed.
        """
        return (host,) if is_address(host) else self._known.get(host)

    def unresolved(self) -> list[str]:
        """Return the names in the settings whose every look-up has failed."""
        hosts = dict.fromkeys(e.host for e in self._settings().nova.endpoints)
        return [host for host in hosts if self.addresses(host) == ()]

    def poll(self) -> None:
        """Look all names up."""
        self._interval_s = _RETRY_S
        hosts = {e.host for e in self._settings().nova.endpoints}
        names = sorted(host for host in hosts if not is_address(host))
        for name in names:
            # At once, since the next look-up may take long.
            if self._look_up(name):
                self._on_change()
        if all(self._known[name] for name in names):
            self._interval_s = self._settings().resolve_interval_s

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
