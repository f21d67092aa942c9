"""Bring one network to what the databases ask for now.

Which event asked for it does not matter, and doing it again changes
nothing. Whatever fails raises: the queue comes back to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from pathlib import Path

from . import names
from .config.settings import Settings
from .desired import desired_network, hold_on, lacking_ports
from .errors import HaproxyError
from .gateway import Gateway
from .haproxy import mapfile, render
from .haproxy.places import Places
from .host import Host
from .model import (
    ChassisSnapshot,
    MetadataNetwork,
    NetworkSnapshot,
    SwitchPort,
    SwitchSnapshot,
)
from .monitor.status import Status
from .ovsdb.vswitch import Switch
from .proxies import Proxies, Rights
from .traces import Traces

LOG = logging.getLogger(__name__)

_MUTE_TRIES = 3


class Reconciler:
    """Makes this host serve what the snapshots say, network by network."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        places: Places,
        host: Host,
        proxies: Proxies,
        switch: Switch,
        status: Status,
        gateway: Gateway,
        gateway_socket: Path,
        chassis_snapshot: Callable[[], ChassisSnapshot],
        switch_snapshot: Callable[[], SwitchSnapshot],
        unsure: Callable[[str, Set[str]], Set[str]],
        ipv6: bool,
    ) -> None:
        self._settings = settings
        self._places = places
        self._host = host
        self._proxies = proxies
        self._switch = switch
        self._status = status
        self._gateway = gateway
        self._gateway_socket = gateway_socket
        self._chassis_snapshot = chassis_snapshot
        self._switch_snapshot = switch_snapshot
        self._unsure = unsure
        self._ipv6 = ipv6
        self._traces = Traces(host, proxies, switch, switch_snapshot)
        # Networks whose veth was made and whose haproxy, or whose port, does
        # not follow yet; a try that failed half-way must not forget.
        self._new_veths: set[str] = set()
        self._to_plug: set[str] = set()
        # What was known last of those that are served.
        self._last: dict[str, NetworkSnapshot] = {}
        # How often in a row a network's haproxy has not answered.
        self._mute: dict[str, int] = {}

    def reconcile(self, key: str) -> bool:
        """Bring the network KEY (or the gateway) to what is wanted.

        Tells whether that is all, or to be looked at again soon.
        """
        if key == names.GATEWAY:
            return self._gateway.ensure()
        network, wanted = self._wanted(key)
        if wanted is not None and network is not None:
            self._last[key] = network
            self._provision(wanted)
        elif self._is_over(key, network):
            self._teardown(key)
        return True

    def revoke(self, key: str) -> None:
        """Take from who may not speak for an address of KEY any more.

        At once, whatever `reconcile` hangs in: needs nothing privileged.
        Raises as `Proxies.revoke` does.
        """
        if key != names.GATEWAY:
            self._revoke(key, lambda: self._rights(key))

    def _revoke(
        self, network: str, rights: Callable[[], Mapping[str, str] | None]
    ) -> None:
        if taken := self._proxies.revoke(network, rights):
            addresses = ",".join(taken)
            LOG.info("revoked network=%s addresses=%s", network, addresses)

    def _wanted(
        self, key: str
    ) -> tuple[NetworkSnapshot | None, MetadataNetwork | None]:
        """Return what is known of the network KEY, and what it needs.

        Not seen is not the same as not there: while it is not certain, what
        was there last counts.
        """
        snapshot = self._chassis_snapshot()
        network = snapshot.networks.get(key)
        last = self._last.get(key)
        if last is not None and (lacking := lacking_ports(network, last)):
            held = self._unsure(key, lacking) if snapshot.synced else lacking
            if held:
                network = hold_on(network, last, held)
        if network is None:
            return None, None
        return network, desired_network(network, ipv6=self._ipv6)

    def _is_over(self, key: str, network: NetworkSnapshot | None) -> bool:
        """Tell whether KEY, of which NETWORK is known, can be removed."""
        if network is None:
            synced = self._chassis_snapshot().synced
            return synced and not self._unsure(key, {key})
        return network.complete

    def _rights(self, key: str) -> dict[str, str] | None:
        """Return the map of the network KEY as of now.

        None where nothing is to be done: see `reconcile`.
        """
        network, wanted = self._wanted(key)
        if wanted is None:
            return {} if self._is_over(key, network) else None
        return self._entries(wanted)

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
                "program": self._host.list_programs(),
                "haproxy": self._host.sweep(),
            }
        )
        known = {*self._status.networks(), *self._chassis_snapshot().networks}
        return {*here} | known | {names.GATEWAY}

    def _provision(self, wanted: MetadataNetwork) -> None:
        network = wanted.network
        settings = self._settings()

        def rights() -> dict[str, str]:
            """Return its map of now: all of this may have taken a while."""
            now = self._rights(network)
            return self._entries(wanted) if now is None else now

        # First of all: the neighbour entries that are set next let the new
        # owner of an address have answers.
        self._revoke_or_replace(network, rights)
        switch = self._switch_snapshot()
        changes = list(
            self._host.apply(wanted, userspace_datapath=switch.is_userspace)
        )
        changes += self._ensure_port(wanted, switch, made="veth" in changes)
        rendered = render.render_network(
            network,
            places=self._places,
            timeouts=settings.timeouts,
            limit=settings.rate_limit,
            share=settings.fair_share,
            ipv6=wanted.has_ipv6,
            gateway_socket=self._gateway_socket,
        )
        changes += self._proxies.ensure(
            network,
            rendered,
            rights,
            renew=network in self._new_veths,
        )
        self._new_veths.discard(network)
        addresses = sorted(str(cidr) for cidr in wanted.addresses)
        count = len({who.instance for _, who in wanted.instances})
        new_conflicts = self._status.served(
            network,
            addresses=addresses,
            instances=count,
            digest=rendered.digest,
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
        self, wanted: MetadataNetwork, switch: SwitchSnapshot, *, made: bool
    ) -> list[str]:
        """Have the veth of WANTED on the bridge; return what changed.

        MADE tells whether it was made just now; a call that made it may
        have been cut off before it could say so.
        """
        network = wanted.network
        ifindex = self._host.ifindex(network)
        plugged = switch.ports.get(names.outer_veth(network))
        known = plugged.ifindex if plugged is not None else None
        if made or known not in (None, ifindex):
            self._new_veths.add(network)
            self._to_plug.add(network)
        is_new = network in self._to_plug
        if is_new and plugged is not None:
            # The userspace datapath holds on to the device that is gone.
            self._switch.unplug_for_good(names.outer_veth(network))
        if not is_new and plugged == SwitchPort(
            switch.bridge, wanted.localport, network, ifindex
        ):
            return []
        self._switch.plug(
            network,
            bridge=switch.bridge,
            iface_id=wanted.localport,
            ifindex=ifindex,
        )
        self._to_plug.discard(network)
        return ["port"]

    def _revoke_or_replace(self, network: str, rights: Rights) -> None:
        """Take rights away; replace a haproxy that can't be told so.

        The third time in a row: it may have been busy.
        """
        try:
            self._revoke(network, rights)
        except (TimeoutError, HaproxyError) as error:
            count = self._mute.get(network, 0) + 1
            self._mute[network] = count
            if count < _MUTE_TRIES:
                raise
            LOG.warning("network=%s its haproxy is mute: %s", network, error)
            self._proxies.replace(network, rights)
        self._mute.pop(network, None)

    def _teardown(self, network: str) -> None:
        self._last.pop(network, None)
        self._mute.pop(network, None)
        try:
            self._revoke(network, dict)
        except (OSError, HaproxyError) as error:
            # It is ended next, which matters more.
            LOG.warning("network=%s its haproxy is mute: %s", network, error)
        changed = self._traces.remove(network)
        self._new_veths.discard(network)
        self._to_plug.discard(network)
        self._status.gone(network)
        if changed:
            LOG.info("removed network=%s", network)
