"""Make this chassis serve one network as the databases have it now.

It does not matter which event caused the call, and a second call changes
nothing. A step that fails raises, and the queue retries the network.
"""

import dataclasses
import functools
import logging
import socket
import time
from typing import TypeAlias

from ...privsep import names
from ...privsep.errors import sentence
from ..config.settings import Settings
from ..core.found import found
from ..errors import AgentError, HaproxyError
from ..haproxy import mapfile, render, shield
from ..model import MetadataNetwork, VswitchPort, VswitchSnapshot
from ..ovsdb.vswitch import Vswitch
from .site import Site
from .snapshots import Snapshots
from .traces import Traces

LOG = logging.getLogger(__name__)

# When Neutron deletes a network, the localport's row may go first.
_LOST_S = 10.0
# Instances can hear of a new MAC once OVN has the flows of the metadata port.
# For so long each visit announces it.
_ANNOUNCED_S = 12.0
_PLUGGED = {"port", "port again"}  # as `_ensure_port` says it
# What a network was made from: rows, bridge, datapath, options, and its map.
_Cause: TypeAlias = tuple[MetadataNetwork, str, bool, Settings, dict[str, str]]


@dataclasses.dataclass(eq=False)
class Reconciler:
    """Provision or tear down one network at a time, from the snapshots."""

    site: Site
    snapshots: Snapshots
    vswitch_db: Vswitch

    def __post_init__(self) -> None:
        self._haproxies = self.site.haproxies
        self._traces = Traces(
            self._haproxies, self.vswitch_db, lambda: self.snapshots.vswitch
        )
        # Since when a network with ports has no localport.
        self._lost: dict[str, float] = {}
        # Until when the MAC of a network is announced.
        self._announced: dict[str, float] = {}
        # What each network here was made from.
        self._causes: dict[str, _Cause] = {}
        # What was changed by tries that failed later on.
        self._changes: dict[str, list[str]] = {}

    def reconcile(self, network: str) -> bool:
        """Provision NETWORK, or tear it down.

        Returns False if the rows may be incomplete (then it is left as it
        is), or if its MAC is to be announced: the caller tries again soon.
        Raises AgentError if it has ports and, for some seconds, no localport.
        """
        snapshot = self.snapshots.chassis
        if not snapshot.is_certain(network):
            return False
        desired = self.site.desired(snapshot, network)
        if desired is not None:
            self._provision(desired)
            self._lost.pop(network, None)
            return not self._is_announced(network)
        self._teardown(network)
        known = snapshot.networks.get(network)
        if known is None or known.spare:
            self._lost.pop(network, None)
            self.site.status.gone(network)
            return True
        if network not in self._lost:
            self._lost[network] = time.monotonic()
            self.site.status.gone(network)
        if time.monotonic() - self._lost[network] < _LOST_S:
            return False
        raise AgentError(
            f"{len(known.ports)} ports here get no metadata: OVN Southbound "
            f"has no localport with a MAC address for the network; run "
            f"neutron-ovn-db-sync-util in repair mode to create it",
            "OVNMD-201",
        )

    def revoke(self, network: str) -> None:
        """Remove addresses of NETWORK from its map that have changed owner.

        It needs no privileged call, so it works while `reconcile` hangs in
        one. Raises as `Maps.revoke` does.
        """
        rights = functools.partial(self._rights, network)
        if taken := self._haproxies.maps.revoke(network, rights):
            addresses = ",".join(taken)
            LOG.info("revoked network=%s addresses=%s", network, addresses)

    def _rights(self, network: str) -> dict[str, str] | None:
        """Return the map of NETWORK by its rows now; None to keep it."""
        snapshot = self.snapshots.chassis
        if not snapshot.is_certain(network):
            return None
        desired = self.site.desired(snapshot, network)
        return {} if desired is None else self._entries(desired)

    def _newest_rights(self, desired: MetadataNetwork) -> dict[str, str]:
        """Return the map of DESIRED without what the rows have no longer.

        What they have besides by now waits for its neighbour entries: without
        those, the last owner of an address could get the answers.
        """
        now, rights = self._rights(desired.network), self._entries(desired)
        return rights if now is None else mapfile.common(rights, now)

    def _entries(self, desired: MetadataNetwork) -> dict[str, str]:
        settings, network = self.site.settings(), desired.network
        known = self.snapshots.chassis.networks.get(network)
        ports = known.ports if known else ()
        up_at = shield.up_at(ports, self.snapshots.vswitch.installed)
        shielded = functools.partial(shield.entry, settings, network, up_at)
        return mapfile.entries(
            desired.instances.items(), settings.shared_secret, shielded
        )

    def keys_to_visit(self) -> set[str]:
        """Return every network in the rows or on this host, and "gateway".

        On this host is a network of which anything is left, made by us or
        by Neutron's agent. A visit removes it if the rows don't have it.
        """
        programs = self.site.privileged.list_programs()
        haproxies = self.site.privileged.sweep()
        here = self._traces.find({"program": programs, "haproxy": haproxies})
        rows = self.snapshots.chassis.networks.keys()
        return {*here, *self.site.status.networks(), names.GATEWAY} | rows

    def _provision(self, desired: MetadataNetwork) -> None:
        network = desired.network
        rights = functools.partial(self._newest_rights, desired)
        before = self._changes.get(network, ())
        changes = self._changes[network] = [*dict.fromkeys(before)]
        # This comes first: with the neighbour entries, which are set next,
        # the new owner of an address begins to receive answers.
        changes += self._haproxies.ask_or_replace(
            network, rights, functools.partial(self.revoke, network)
        )
        vswitch = self.snapshots.vswitch
        bridge = vswitch.bridge, vswitch.is_userspace
        cause = desired, *bridge, self.site.settings(), self._entries(desired)
        if (was := self._causes.get(network)) != cause:
            # If a step fails, the next try finds what this one has left.
            self._causes.pop(network, None)
        with self.vswitch_db.gate.coming():
            applied = self._apply(desired, vswitch)
            changes += applied
            # A client is refused where nobody listens, and its boot is lost.
            # So the sockets come first, then the addresses, then the port.
            rendered = self._render(desired)
            files, program = self._haproxies.listen(network, rendered, rights)
            if any("/" in change for change in applied):  # an address differs
                self.site.privileged.set_addresses(desired)
            changes += files
            is_made = "veth" in changes and not _PLUGGED & {*changes}
            changes += self._ensure_port(desired, vswitch, made=is_made)
        # Last, since it fails if the haproxy can't start: clients then wait
        # in the sockets.
        changes += self._haproxies.serve(network, rendered, rights, program)
        # What rows that came meanwhile have taken away is gone already.
        now = self.site.desired(self.snapshots.chassis, network)
        self._causes[network] = cause
        self._report_served(
            desired,
            rendered.digest,
            self._changes.pop(network),
            is_explained=(was, now, rights()) != (cause, desired, cause[-1]),
        )

    def _apply(
        self, desired: MetadataNetwork, vswitch: VswitchSnapshot
    ) -> tuple[str, ...]:
        """Do what `Privileged.apply` does, and announce a MAC that is new."""
        network = desired.network
        apply = functools.partial(
            self.site.privileged.apply,
            desired,
            userspace_datapath=vswitch.is_userspace,
            hop_limit=shield.hop_limit(self.site.settings().shield, desired),
        )
        changes = apply()
        if self._is_announced(network) and not changes:
            # This announces it. The kernel forgets the neighbours with that.
            self.site.privileged.set_addresses(desired)
            apply()
        is_new = any(change.startswith("mac ") for change in changes)
        if is_new or network in self._lost:
            self._announced[network] = time.monotonic() + _ANNOUNCED_S
        return changes

    def _is_announced(self, network: str) -> bool:
        return time.monotonic() < self._announced.get(network, 0)

    def _render(self, desired: MetadataNetwork) -> render.Rendered:
        return render.render_network(
            desired.network,
            places=self._haproxies.places,
            settings=self.site.settings(),
            ipv6=desired.has_ipv6,
        )

    def _report_served(
        self,
        desired: MetadataNetwork,
        digest: str,
        changes: list[str],
        *,
        is_explained: bool,
    ) -> None:
        """Note that DESIRED is served after CHANGES.

        If they are not explained by rows or options, it was broken.
        """
        network = desired.network
        addresses = sorted(str(cidr) for cidr in desired.addresses)
        instances = {owner.instance for owner in desired.instances.values()}
        new_conflicts = self.site.status.served(
            network,
            addresses=addresses,
            instances=instances,
            spare=desired.spare,
            digest=digest,
            conflicts=desired.conflicts,
        )
        for conflict in new_conflicts:
            LOG.warning("network=%s left out: %s", network, conflict)
        if "program" in changes:
            waited_s = self.snapshots.with_waiting()[1].get(network)
            if waited_s is not None:  # else nobody waits for it
                self.site.meter.observe("provision_duration_seconds", waited_s)
        broken = ", ".join(found(changes))
        if broken and not is_explained:
            self.site.status.repaired(network)
            self.site.meter.add("repairs_total")
            LOG.warning("network=%s found: %s; set up again", network, broken)
        elif changes:
            LOG.info(
                "provisioned network=%s instances=%d addresses=%s changes=%s",
                network,
                len(instances),
                ",".join(addresses),
                ",".join(changes),
            )

    def _ensure_port(
        self, desired: MetadataNetwork, vswitch: VswitchSnapshot, *, made: bool
    ) -> list[str]:
        """Ensure the veth of DESIRED is on the bridge; return what changed.

        A port of another device than the veth is unplugged first: the
        userspace datapath still holds the device that is gone. MADE is
        whether the veth was made and its port not plugged since, by this try
        or by earlier ones that failed: a port of Neutron's agent has no
        interface index to compare. A port that ovs-vswitchd can't use, it
        tries again when it is plugged again. Plugging again also repairs two
        faults of ovn-controller (23.03): it leaves a localport's flows on the
        OpenFlow port of before, and it removes them with those of another
        port that had the same iface-id.
        """
        network, to_replug = desired.network, self.snapshots.to_replug
        name, bridge = names.outer_veth(network), vswitch.bridge
        ifindex = socket.if_nametoindex(name)
        plugged = vswitch.ports.get(name)
        is_bad = network in to_replug or vswitch.ofports.get(name, 0) < 0
        if plugged is not None and (
            made
            or is_bad
            or plugged.has_rival
            or plugged.ifindex not in (None, ifindex)
        ):
            self.vswitch_db.unplug_for_good(name)
        elif plugged == VswitchPort(
            bridge, desired.localport, network, ifindex
        ):
            return []
        self.vswitch_db.plug(
            network, bridge=bridge, iface_id=desired.localport, ifindex=ifindex
        )
        to_replug.discard(network)
        is_missing = plugged is None or plugged.bridge != bridge
        return ["port" if is_missing else "port again"]

    def _teardown(self, network: str) -> None:
        try:
            self.revoke(network)
        except (OSError, HaproxyError) as error:
            # It is stopped next, which takes every right away.
            why = sentence(error)
            LOG.warning("network=%s map not emptied: %s", network, why)
        changed = self._traces.remove(network)
        self.snapshots.to_replug.discard(network)
        self._causes.pop(network, None)
        self._changes.pop(network, None)
        self._announced.pop(network, None)
        if changed:
            LOG.info("removed network=%s", network)
