"""The agent's life: connect, visit every network once, follow, stop."""

import contextlib
import functools
import logging
import math
import threading
import time

from ..privsep import context, names
from .databases import Databases
from .errors import AgentError
from .exported import Collector
from .exporter import Exporter
from .ovsdb import vswitch
from .reconcile.gateway import Gateway
from .reconcile.network import Reconciler
from .reconcile.nova_addresses import NovaAddresses
from .reconcile.repairs import Repairs
from .reconcile.site import Site
from .reconcile.snapshots import Snapshots
from .reconcile.workers import FIRST_SYNC, Workers
from .threads import Poller, Steps, stop
from .watches.confirmation import Confirmation
from .watches.nova_watch import NovaWatch
from .watches.ovn_watch import OvnWatch
from .watches.selfcheck import SelfCheck
from .watches.watch import Watch
from .why import answer, asked
from .why.gather import Gather

LOG = logging.getLogger(__name__)

# How often supervisord is checked.
FLEET_INTERVAL_S = 5.0
# A step of the service makes a few privileged calls, each of which may take
# its time. So does a reconcile, which waits for Open vSwitch too.
_CALLS_S = 4 * context.CALL_TIMEOUT_S
_NO_NAME = "OVNMD-103"


class Service:
    """Follow the databases and keep the networks of this chassis served.

    `Databases` hands rows to `Snapshots`, which puts the keys of changed
    networks into `Queues`. `Workers` take keys out and call `Reconciler`.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._status = site.status
        self._queues = site.queues
        self._nova_addresses = NovaAddresses(site)
        site.status.queue = self._queues.reconcile.waiting
        self._snapshots = Snapshots(site)
        self._stop = threading.Event()
        self._databases = Databases(site, self._snapshots)
        self._repairs = Repairs(site)
        self._failure = ""
        nova = NovaWatch(site, self._nova_addresses)
        # Each has a thread of its own, from start to end.
        self._watches: list[Poller] = [
            self._nova_addresses,
            Confirmation(site, self._databases),
            Watch(site),
            nova,
            OvnWatch(site, self._databases),
            SelfCheck(site, self._snapshots, nova),
            Exporter(site, Collector(site, self._snapshots)),
        ]
        context.observers.append(site.meter.called)
        gather = Gather(site, self._databases, self._nova_addresses)
        # What answers `agent-status why` and `agent-status asks`.
        self.why = functools.partial(answer.answer, gather)
        self.asks = functools.partial(asked.answer, gather)

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stop.set()
        self._queues.news.set()

    def fail(self, reason: str) -> None:
        """Make `run` raise AgentError with REASON soon; the first counts."""
        if not self._stop.is_set():
            self._failure = reason
            self.stop()

    def reconfigured(self) -> None:
        """Visit every network and the gateway again: settings have changed."""
        for watch in self._watches:
            # Both wait for intervals of the old settings. `Confirmation` must
            # not poll early: what it confirms has to be half a second old.
            if isinstance(watch, NovaAddresses | SelfCheck):
                watch.wake()
        self._queues.reconcile.add(names.GATEWAY)
        if not self._snapshots.chassis.synced:  # else `resync` queues them
            for key in self._status.networks():
                self._queues.reconcile.add(key)
        self._queues.resync()

    def run(self) -> None:
        """Serve until `stop`; raise AgentError if only a restart can help.

        The haproxies that run already still serve meanwhile. The gateway
        starts first, since it needs nothing of Southbound. Nothing is removed
        before both databases have been read.
        """
        for watch in self._watches:
            watch.start()
        try:
            self._run()
        finally:
            stop(self._watches)
        if self._failure:
            raise AgentError(self._failure)

    def _run(self) -> None:
        """Take one step of `_life` after the other, until `stop`.

        Whatever it waits for, databases and fleet are checked in between.
        """
        began = time.monotonic()
        self._status.expect(
            "the service", _CALLS_S, lambda: time.monotonic() - began
        )
        with contextlib.closing(self._life()) as life:
            for wait_s in life:
                began = time.monotonic()
                self._databases.report_lost()
                self._repairs.check_fleet()
                self._queues.news.wait(min(FLEET_INTERVAL_S, wait_s))
                self._queues.news.clear()
                if self._stop.is_set():
                    return

    def _life(self) -> Steps[None]:
        self._status.waits_for(FIRST_SYNC, "the first pass over all networks")
        vswitch_db = yield from self._databases.connect_vswitch()
        queue = self._queues.reconcile
        workers = Workers(
            self._site,
            self._snapshots,
            Reconciler(self._site, self._snapshots, vswitch_db),
            Gateway(self._site, self._nova_addresses),
        )
        workers.start(self._site.settings().reconcile_workers)
        # A transaction waits for its turn, and then for its result.
        most_s = _CALLS_S + 2 * self._site.settings().vswitch.timeout_s
        revoke, expect = self._queues.revoke, self._status.expect
        expect("a reconcile", most_s, queue.longest_s)
        expect("a revoke", most_s, revoke.longest_s)
        try:
            queue.add(names.GATEWAY)
            chassis_name = yield from self._system_id()
            yield from self._databases.connect_southbound(chassis_name)
            yield from self._follow(chassis_name, workers)
        finally:
            workers.stop()

    def _system_id(self) -> Steps[str]:
        """Return the chassis' name, once it has one."""
        while not (chassis_name := self._snapshots.vswitch.system_id):
            reason = f"the agent waits for {vswitch.NO_SYSTEM_ID}"
            if self._status.waits_for("system-id", reason, _NO_NAME):
                LOG.warning("%s", reason)
            yield math.inf
        self._status.waits_for("system-id", "", _NO_NAME)
        self._status.chassis = chassis_name
        return chassis_name

    def _follow(self, chassis_name: str, workers: Workers) -> Steps[None]:
        """Act on what the databases have now, again and again."""
        queues = self._queues
        while self._snapshots.vswitch.system_id == chassis_name:
            settles_s = self._snapshots.settle(
                connected=self._databases.is_connected()
            )
            is_due = time.monotonic() >= queues.resync_at
            if self._snapshots.chassis.synced and is_due:
                # Passes over hundreds would keep a processor busy.
                many = len(self._snapshots.chassis.networks)
                interval_s = max(self._site.settings().resync_interval_s, many)
                queues.resync_at = time.monotonic() + interval_s
                if not self._repairs.queue_all(workers):
                    queues.resync_at = 0.0
            yield settles_s
        raise AgentError(f"system-id is no longer {chassis_name}; restarting")
