"""Look up the addresses of Nova's metadata API at intervals.

The agent does it because haproxy looks names up when it starts, and its start
hangs while the name servers do. haproxy's own resolver does not read
/etc/hosts.
"""

import logging
import threading
from collections.abc import Callable

from ..config.settings import Settings
from ..config.values import is_address
from ..lookup import has_route, look_up

LOG = logging.getLogger(__name__)

_RETRY_S = 5.0

Addresses = tuple[str, ...]


class NovaAddresses:
    """The addresses of the hosts in the settings, kept by a thread.

    If a look-up fails, the addresses found before still count.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._known: dict[str, Addresses] = {}
        self._wake = threading.Event()
        self._stopped = False

    def start(self, on_change: Callable[[], None]) -> None:
        """Look up at once, then at every interval.

        ON_CHANGE is called when a look-up changed the addresses.
        """
        threading.Thread(
            target=self._run, args=(on_change,), name="nova", daemon=True
        ).start()

    def stop(self) -> None:
        """End the thread after its current look-up."""
        self._stopped = True
        self._wake.set()

    def refresh(self) -> None:
        """Look up now, because the settings have changed."""
        self._wake.set()

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

    def _run(self, on_change: Callable[[], None]) -> None:
        while not self._stopped:
            self._wake.clear()
            hosts = {e.host for e in self._settings().nova.endpoints}
            names = sorted(host for host in hosts if not is_address(host))
            for name in names:
                # At once, since the next look-up may take long.
                if self._look_up(name):
                    on_change()
            good = all(self._known[name] for name in names)
            interval_s = self._settings().resolve_interval_s
            self._wake.wait(interval_s if good else _RETRY_S)

    def _look_up(self, name: str) -> bool:
        """Look NAME up; return whether its addresses changed."""
        before = self._known.get(name)
        found = before or ()
        try:
            # A name may have IPv6 addresses where the host has no IPv6. Such a
            # server would be down for ever. An address that is in use stays,
            # also if its route is missing for a moment.
            every = sorted(look_up(name))
            usable = [a for a in every if a in found or has_route(a)]
            found = tuple(usable or every)
        except OSError as error:
            if before is None:
                LOG.warning("nova_metadata_host %s: %s", name, error)
        self._known[name] = found
        if before is not None and found != before:
            LOG.info("nova_metadata_host %s is now %s", name, found)
        return found != before
