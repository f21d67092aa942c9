"""The newest snapshot of both databases, and what a new one changes.

The two IDLs' threads put snapshots in. The keys of the networks that differ
go into the queues. A reconcile reads the newest snapshot when it begins.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ...privsep import names
from ..core import port_rows, settling, spare
from ..core.codes import KINDS
from ..haproxy import shield
from ..model import (
    ChassisSnapshot,
    NetworkSnapshot,
    VswitchPort,
    VswitchSnapshot,
)
from .site import Site

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Snapshots:
    """Hold the newest snapshots; queue the keys of changed networks.

    `chassis` is what to act on, by `core.settling` and `core.spare`;
    `vswitch` is as the rows are. Both are frozen and replaced as a whole; any
    thread may read them.
    """

    site: Site
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.chassis = ChassisSnapshot(None, {})
        self.vswitch = VswitchSnapshot()
        # Networks whose flows ovn-controller lacks, or has on another
        # OpenFlow port.
        self.to_replug: set[str] = set()
        # Rows arrive on one thread; the grace period ends on another.
        self._lock = threading.Lock()
        self._rows = self.chassis
        self._settled = settling.Settled()
        self._spare = spare.Spare()

    def with_waiting(self) -> tuple[ChassisSnapshot, dict[str, float]]:
        """Return what to act on, and `waiting` of the queue, of one moment."""
        with self._lock:
            return self.chassis, self.site.queues.reconcile.waiting()

    def take_chassis(self, rows: ChassisSnapshot) -> None:
        """Take ROWS of Southbound (on its IDL's thread)."""
        with self._lock:
            before, self._rows = self._rows, rows
            due_at = self._settled.due_at
            self._settle(connected=True)
            if self._settled.due_at < due_at:
                self.site.queues.news.set()  # for `settle`, in time
        self._report(before, rows)
        self.site.status.names = _names(self.chassis.networks.values())
        if rows.synced != before.synced:
            # While it was False nothing was removed from the host.
            self.site.queues.resync()

    def settle(self, *, connected: bool) -> float:
        """End what `core.settling` and `core.spare` hold, when it is due.

        CONNECTED is whether the Southbound server is connected. Returns the
        seconds until the next call is due; infinite if none is.
        """
        with self._lock:
            self._settle(connected=connected)
            due_at = min(self._settled.due_at, self._spare.due_at)
        return max(0, due_at - self.clock())

    def _settle(self, *, connected: bool) -> None:
        last, before = self._settled, self.chassis
        now = self.clock()
        self._settled = settling.settle(
            last,
            self._rows,
            plugged=self.vswitch.plugged,
            now=now,
            connected=connected,
        )
        settings = self.site.settings().spare_networks
        self._spare = spare.add_spare(
            self._spare,
            self._settled.snapshot,
            limit=settings.limit,
            keep_s=settings.keep_s,
            now=now,
            connected=connected,
        )
        self.chassis = self._spare.snapshot
        if last.chassis not in (None, self._settled.chassis):
            LOG.info("ovn-controller has made its Chassis row again")
        old, new = before.networks, self.chassis.networks
        # New ones first: nobody answers their clients, whose TCP asks less and
        # less often. A network that is served holds the requests meanwhile.
        order = self.chassis.in_order(old.keys() | new.keys())
        order.sort(key=lambda network: (network in old, network not in new))
        for network in order:
            if old.get(network) != new.get(network):
                LOG.debug("rows changed network=%s", network)
                self.site.queues.revoke.add(network)
                self.site.queues.reconcile.add(network)

    def _report(self, before: ChassisSnapshot, rows: ChassisSnapshot) -> None:
        """Log and note what is wrong with ROWS or missing from them."""
        status = self.site.status
        reason = ""
        if rows.chassis is None:
            name, kind = self.vswitch.system_id, KINDS["OVNMD-104"]
            what = f"no Chassis row named {name} in OVN Southbound"
            reason = f"{what}: {kind.remedy}"
        if status.waits_for("chassis", reason, "OVNMD-104") and reason:
            LOG.warning("%s. The networks are still served", reason)
        reason = "ovn-northd has written nothing to OVN Southbound yet"
        reason = "" if rows.is_filled else reason
        status.waits_for("northd", reason, "OVNMD-105")
        known = {*map(_lasting, before.problems)}
        for problem in rows.problems:
            if _lasting(problem) not in known:
                LOG.warning("%s", problem)
        status.rows(
            synced=rows.synced,
            problems={_lasting(each): each for each in rows.problems},
            harmless=[*filter(port_rows.is_harmless, rows.problems)],
        )

    def take_vswitch(self, snapshot: VswitchSnapshot) -> None:
        """Take SNAPSHOT of Open vSwitch (on its IDL's thread)."""
        before, self.vswitch = self.vswitch, snapshot
        old, new = before.installed, snapshot.installed
        has_window = self.site.settings().shield.boot_window_s > 0
        # Those of networks whose rows have not arrived yet, too.
        renumbered = set(_renumbered_networks(before, snapshot))
        self.to_replug |= renumbered
        for network in self.chassis.networks.values():
            ports = network.ports
            came_up = has_window and (
                shield.up_at(ports, old) != shield.up_at(ports, new)
            )
            is_unplugged = _is_unplugged(before, snapshot, network)
            is_renumbered = network.network in renumbered
            if is_renumbered or is_unplugged or came_up:
                self.site.queues.reconcile.add(network.network)
        renamed = snapshot.system_id != before.system_id
        if renamed or (self._settled.flapping and snapshot != before):
            self.site.queues.news.set()


def _names(networks: Iterable[NetworkSnapshot]) -> dict[str, str]:
    """Return id -> name of NETWORKS; of an instance, one of its ports'."""
    found = {}
    for network in networks:
        found[network.network] = network.name
        found |= {
            port.instance: port.name for port in network.ports if port.name
        }
    return found


def _lasting(problem: str) -> str:
    """Return PROBLEM without the number or the name of its ports."""
    _, is_of_datapath, lasting = problem.partition(port_rows.SKIPPED)
    return lasting if is_of_datapath else problem


def _is_unplugged(
    before: VswitchSnapshot, after: VswitchSnapshot, network: NetworkSnapshot
) -> bool:
    """Return whether the bridge has changed, or NETWORK's port there."""
    old, new = (
        (each.bridge, each.bridge_exists, each.is_userspace)
        for each in (before, after)
    )
    name = names.outer_veth(network.network)
    port, localport = after.ports.get(name), network.localport
    if old != new:
        return True
    if port == before.ports.get(name):
        return False
    # A port that we have just plugged needs no reconcile.
    return (
        port is None
        or localport is None
        or dataclasses.replace(port, ifindex=None)
        != VswitchPort(after.bridge, localport.logical_port, network.network)
    )


def _renumbered_networks(
    before: VswitchSnapshot, after: VswitchSnapshot
) -> Iterator[str]:
    """Yield the networks whose port has another OpenFlow port now."""
    for name, port in after.ports.items():
        last = before.ports.get(name)
        was, now = before.ofports.get(name, 0), after.ofports.get(name, 0)
        is_other = was != now and min(was, now) > 0
        if is_other and last and last.row == port.row and port.network:
            yield port.network
