"""Bring one network to what the databases ask for now.

Which event asked for it does not matter, and doing it again changes
nothing. Whatever fails raises: the queue comes back to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from ...privsep import names
from ..core.desired import desired_network
from ..errors import HaproxyError
from ..haproxy import mapfile, render
from ..model import (
    ChassisSnapshot,
    MetadataNetwork,
    VswitchPort,
    VswitchSnapshot,
)
from ..ovsdb.vswitch import Vswitch
from .maps import Rights
from .site import Site
from .snapshots import Snapshots
from .traces import Traces

LOG = logging.getLogger(__name__)

_UNRESPONSIVE_TRIES = 3


class Reconciler:
    """Makes this host serve what the snapshots say, network by network."""

    def __init__(
        self, site: Site, snapshots: Snapshots, vswitch_db: Vswitch
    ) -> None:
        self._settings = site.settings
        self._privileged = site.privileged
        self._haproxies = site.haproxies
        self._status = site.status
        self._has_ipv6 = site.has_ipv6
        self._snapshots = snapshots
        self._vswitch_db = vswitch_db
        self._traces = Traces(
            site.privileged,
            site.haproxies,
            vswitch_db,
            lambda: snapshots.vswitch,
        )
        # Networks whose veth was made and whose port does not follow yet; a
        # try that failed half-way must not forget.
        self._to_plug: set[str] = set()
        # How often in a row a network's haproxy has not answered.
        self._unresponsive: dict[str, int] = {}

    def reconcile(self, network: str) -> bool:
        """Bring NETWORK to what is wanted.

        Tells whether that is all, or to be looked at again soon: what may
        only not be seen is left as it is.
        """
        snapshot = self._snapshots.chassis
        if not snapshot.is_certain(network):
            return False
        wanted = self._desired(snapshot, network)
        if wanted is None:
            self._teardown(network)
        else:
            self._provision(wanted)
        return True

    def revoke(self, network: str) -> None:
        """Take its addresses from a port that may not have them any more.

        At once, whatever `reconcile` hangs in: needs nothing privileged.
        Raises as `Maps.revoke` does.
        """
        self._revoke(network, lambda: self._rights(network))

    def _revoke(
        self, network: str, rights: Callable[[], Mapping[str, str] | None]
    ) -> None:
        if taken := self._haproxies.maps.revoke(network, rights):
            addresses = ",".join(taken)
            LOG.info("revoked network=%s addresses=%s", network, addresses)

    def _desired(
        self, snapshot: ChassisSnapshot, network: str
    ) -> MetadataNetwork | None:
        known = snapshot.networks.get(network)
        if known is None:
            return None
        return desired_network(known, ipv6=self._has_ipv6)

    def _rights(self, network: str) -> dict[str, str] | None:
        """Return the map of NETWORK as of now; None to leave it alone."""
        snapshot = self._snapshots.chassis
        if not snapshot.is_certain(network):
            return None
        wanted = self._desired(snapshot, network)
        return {} if wanted is None else self._entries(wanted)

    def _entries(self, wanted: MetadataNetwork) -> dict[str, str]:
        secret = self._settings().shared_secret
        return mapfile.entries(wanted.instances, secret)

    def wanted(self) -> set[str]:
        """Return all that has to be looked at: wanted, or here.

        Here is what there is any trace of, of ours or of Neutron's: what
        is not wanted is removed, however little is left of it.
        """
        here = self._traces.find(
            {
                "program": self._privileged.list_programs(),
                "haproxy": self._privileged.sweep(),
            }
        )
        known = {*self._status.networks(), *self._snapshots.chassis.networks}
        return {*here} | known | {names.GATEWAY}

    def _provision(self, wanted: MetadataNetwork) -> None:
        network = wanted.network

        def rights() -> dict[str, str]:
            """Return its map of now: all of this may have taken a while."""
            now = self._rights(network)
            return self._entries(wanted) if now is None else now

        # First of all: the neighbour entries that are set next let the new
        # owner of an address have answers.
        self._revoke_or_replace(network, rights)
        vswitch = self._snapshots.vswitch
        changes = list(
            self._privileged.apply(
                wanted, userspace_datapath=vswitch.is_userspace
            )
        )
        changes += self._ensure_port(wanted, vswitch, made="veth" in changes)
        rendered = self._render(wanted)
        changes += self._haproxies.ensure(network, rendered, rights)
        self._report_served(wanted, rendered.digest, changes)

    def _render(self, wanted: MetadataNetwork) -> render.Rendered:
        settings = self._settings()
        return render.render_network(
            wanted.network,
            places=self._haproxies.places,
            timeouts=settings.timeouts,
            limit=settings.rate_limit,
            share=settings.fair_share,
            ipv6=wanted.has_ipv6,
            gateway_socket=self._haproxies.fleet.gateway_socket,
        )

    def _report_served(
        self, wanted: MetadataNetwork, digest: str, changes: list[str]
    ) -> None:
        network = wanted.network
        addresses = sorted(str(cidr) for cidr in wanted.addresses)
        count = len({who.instance for _, who in wanted.instances})
        new_conflicts = self._status.served(
            network,
            addresses=addresses,
            instances=count,
            digest=digest,
            conflicts=wanted.conflicts,
        )
        for conflict in new_conflicts:
            LOG.warning("network=%s left out: %s", network, conflict)
        if changes:
            LOG.info(
                "provisioned network=%s instances=%d addresses=%s changes=%s",
                network,
                count,
                ",".join(addresses),
                ",".join(changes),
            )

    def _ensure_port(
        self, wanted: MetadataNetwork, vswitch: VswitchSnapshot, *, made: bool
    ) -> list[str]:
        """Have the veth of WANTED on the bridge; return what changed.

        MADE tells whether it was made just now; a call that made it may
        have been cut off before it could say so.
        """
        network = wanted.network
        ifindex = self._privileged.ifindex(network)
        plugged = vswitch.ports.get(names.outer_veth(network))
        known = plugged.ifindex if plugged is not None else None
        if made or known not in (None, ifindex):
            self._to_plug.add(network)
        is_new = network in self._to_plug
        if is_new and plugged is not None:
            # The userspace datapath holds on to the device that is gone.
            self._vswitch_db.unplug_for_good(names.outer_veth(network))
        if not is_new and plugged == VswitchPort(
            vswitch.bridge, wanted.localport, network, ifindex
        ):
            return []
        self._vswitch_db.plug(
            network,
            bridge=vswitch.bridge,
            iface_id=wanted.localport,
            ifindex=ifindex,
        )
        self._to_plug.discard(network)
        return ["port"]

    def _revoke_or_replace(self, network: str, rights: Rights) -> None:
        """Take rights away; replace a haproxy that does not do so.

        The third time in a row: it may have been busy.
        """
        try:
            self._revoke(network, rights)
        except (TimeoutError, HaproxyError) as error:
            count = self._unresponsive.get(network, 0) + 1
            self._unresponsive[network] = count
            if count < _UNRESPONSIVE_TRIES:
                raise
            LOG.warning("network=%s unresponsive haproxy: %s", network, error)
            self._haproxies.replace(network, rights)
        self._unresponsive.pop(network, None)

    def _teardown(self, network: str) -> None:
        self._unresponsive.pop(network, None)
        try:
            self._revoke(network, dict)
        except (OSError, HaproxyError) as error:
            # It is ended next, which matters more.
            LOG.warning("network=%s unresponsive haproxy: %s", network, error)
        changed = self._traces.remove(network)
        self._to_plug.discard(network)
        self._status.gone(network)
        if changed:
            LOG.info("removed network=%s", network)
