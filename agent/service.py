"""The agent's life: connect, look at everything once, follow, stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Set
from typing import Any

from ..privsep import kernel
from ..privsep.errors import FleetError, PrivilegedError
from . import names
from .certainty import Certainty
from .config.settings import Settings
from .databases import Databases
from .errors import AgentError
from .model import (
    ChassisSnapshot,
    NetworkSnapshot,
    SwitchPort,
    SwitchSnapshot,
)
from .monitor.status import Status
from .nova_hosts import NovaHosts
from .ovsdb import vswitch
from .ovsdb.heartbeat import Heartbeat
from .reconciler import Reconciler
from .workqueue import WorkQueue

LOG = logging.getLogger(__name__)

# How often the haproxies' states are looked at: supervisord restarts them
# by itself, this is for what it can't (and for supervisord itself).
FLEET_INTERVAL_S = 5.0
_FIRST_LOOK = "first pass"
# A haproxy that hangs holds one of them up for some seconds.
_REVOKERS = 2
# For what the workers are at when the agent ends.
_END_S = 2.0
_GOOD = ("RUNNING", "STARTING")


class Service:
    """Follows the databases and keeps this host as they say."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        status: Status,
        nova_hosts: NovaHosts,
        make_reconciler: Callable[..., Reconciler],
        list_programs: Callable[[], Any],
    ) -> None:
        self._settings = settings
        self._status = status
        self._make_reconciler = make_reconciler
        self._list_programs = list_programs
        self._queue = WorkQueue()
        self._revocations = WorkQueue()
        self._stop = threading.Event()
        self._ended = threading.Event()
        # Set when there is something for the main thread to look at.
        self._news = threading.Event()
        self._rows = ChassisSnapshot(None, {})
        self._switch_rows = SwitchSnapshot()
        self._heartbeat: Heartbeat | None = None
        self._chassis_name = ""
        self._all_queued = False
        self._resync_now = threading.Event()
        self._databases = Databases(settings(), status=status, stop=self._stop)
        self._nova_hosts = nova_hosts
        self._workers: list[threading.Thread] = []
        self._gateway: object = None  # the pid of its master
        self._certainty = Certainty(
            status, hears_southbound=self._databases.hears_southbound
        )

    def stop(self) -> None:
        """Have `run` return soon."""
        self._stop.set()
        self._news.set()

    def has_ended(self, timeout_s: float) -> bool:
        """Wait until `run` has returned; tell whether it has."""
        return self._ended.wait(timeout_s)

    def reconfigured(self) -> None:
        """Look at everything again: the settings are others."""
        self._nova_hosts.refresh()
        self._queue.add(names.GATEWAY)
        if not self._rows.synced:  # else the pass below has them all
            for key in self._status.networks():
                self._queue.add(key)
        self._resync_now.set()
        self._news.set()

    def run(self) -> None:
        """Serve until `stop`; raise AgentError for what can't be waited out.

        The order: what runs already serves on meanwhile; the gateway needs
        no database; removing anything waits until both have been read.
        """
        try:
            self._run()
        finally:
            self._ended.set()

    def _run(self) -> None:
        self._status.waits_for(_FIRST_LOOK, "the first pass over all networks")
        switch = self._databases.connect_switch(self._on_switch)
        if switch is None:
            return
        reconciler = self._make_reconciler(
            switch=switch,
            chassis_snapshot=lambda: self._rows,
            switch_snapshot=lambda: self._switch_rows,
            unsure=self._unsure,
        )
        self._start_workers(reconciler)
        self._nova_hosts.start(lambda: self._queue.add(names.GATEWAY))
        try:
            self._queue.add(names.GATEWAY)
            self._run_chassis(reconciler)
        finally:
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self._nova_hosts.stop()
            self._queue.close()
            self._revocations.close()
            for worker in self._workers:
                worker.join(_END_S / len(self._workers))

    def _run_chassis(self, reconciler: Reconciler) -> None:
        chassis_name = self._wait_for_system_id()
        if chassis_name is None:
            return
        self._chassis_name = chassis_name
        self._status.chassis(chassis_name)
        bound = self._databases.connect_southbound(chassis_name, self._on_rows)
        if bound is None:
            return
        self._heartbeat = Heartbeat(
            bound,
            report=lambda problem: self._status.trouble("heartbeat", problem),
            chassis_name=chassis_name,
            bridge=lambda: self._switch_rows.bridge,
            nb_cfg=lambda: self._rows.nb_cfg,
            agent_down_time_s=lambda: self._settings().agent_down_time_s,
        )
        self._heartbeat.start()
        self._follow(reconciler, chassis_name)

    def _wait_for_system_id(self) -> str | None:
        said = False
        while not self._stop.is_set():
            self._news.clear()
            if self._switch_rows.system_id:
                self._status.waits_for("system-id", "")
                return self._switch_rows.system_id
            if not said:
                said = True
                self._status.waits_for("system-id", vswitch.NO_SYSTEM_ID)
                LOG.warning("waiting for %s", vswitch.NO_SYSTEM_ID)
            self._news.wait()
        return None

    def _on_rows(self, snapshot: ChassisSnapshot) -> None:
        """Take note of SNAPSHOT (on the IDL's thread)."""
        # First: a worker that sees the new rows is to know of it.
        self._certainty.note(snapshot, self._chassis_name)
        before, self._rows = self._rows, snapshot
        changed = {
            network
            for network in before.networks.keys() | snapshot.networks.keys()
            if before.networks.get(network) != snapshot.networks.get(network)
        }
        if changed or snapshot.synced != before.synced:
            LOG.debug("rows changed for %d networks", len(changed))
        for network in sorted(changed):
            self._revocations.add(network)
            self._queue.add(network)
        for problem in sorted({*snapshot.problems} - {*before.problems}):
            LOG.warning("%s", problem)
        self._status.rows(synced=snapshot.synced, problems=snapshot.problems)
        if self._heartbeat is not None:
            self._heartbeat.note()
        if snapshot.synced != before.synced:
            # What went while it was not was passed over.
            self._resync_now.set()
            self._news.set()

    def _unsure(self, network: str, lacking: Set[str]) -> Set[str]:
        """Return which of LACKING of NETWORK may only not be seen yet.

        It is looked at again when that is certain.
        """
        unsure, delay_s = self._certainty.unsure(lacking)
        if unsure:
            self._queue.add_later(network, delay_s)
        return unsure

    def _on_switch(self, snapshot: SwitchSnapshot) -> None:
        """Take note of SNAPSHOT (on the IDL's thread)."""
        before, self._switch_rows = self._switch_rows, snapshot
        moved = (before.bridge, before.bridge_exists, before.is_userspace) != (
            snapshot.bridge,
            snapshot.bridge_exists,
            snapshot.is_userspace,
        )
        for network, rows in self._rows.networks.items():
            name = names.outer_veth(network)
            port = snapshot.ports.get(name)
            changed = before.ports.get(name) != port
            # What we have just plugged ourselves needs no second look.
            if moved or (changed and not _is_plugged(port, rows, snapshot)):
                self._queue.add(network)
        if snapshot.system_id != before.system_id:
            self._news.set()

    def _start_workers(self, reconciler: Reconciler) -> None:
        count = self._settings().reconcile_workers
        works = [("reconcile", self._work)] * count
        works += [("revoke", self._revoke)] * _REVOKERS
        for number, (name, work) in enumerate(works):
            worker = threading.Thread(
                target=work,
                args=(reconciler,),
                name=f"{name}-{number}",
                daemon=True,
            )
            worker.start()
            self._workers.append(worker)

    def _revoke(self, reconciler: Reconciler) -> None:
        """Take rights away at once, whatever the workers hang in."""
        while (key := self._revocations.get()) is not None:
            try:
                reconciler.revoke(key)
            except Exception as error:  # noqa: BLE001 # reconcile tells it
                LOG.debug("network=%s not revoked: %s", key, error)
            self._revocations.done(key, failed=False)

    def _work(self, reconciler: Reconciler) -> None:
        while (key := self._queue.get()) is not None:
            reason = ""
            try:
                if not reconciler.reconcile(key):
                    self._queue.add_later(key, FLEET_INTERVAL_S)
            # Whatever it was, this network is tried again and the others
            # are not disturbed.
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, AgentError | PrivilegedError):
                    reason = str(error)
                if isinstance(error, FleetError):
                    self._news.set()  # have supervisord looked after
                LOG.debug("network=%s failed", key, exc_info=True)
            LOG.debug("looked at network=%s", key)
            # Before the key is given back, or a worker that takes it and
            # succeeds would be contradicted.
            news = bool(reason) and self._status.failed(key, reason)
            delay = self._queue.done(key, failed=bool(reason))
            self._note_first_pass()
            if news and not self._stop.is_set():
                LOG.error(
                    "network=%s is not as it should be, next try in %.1f s: "
                    "%s",
                    key,
                    delay,
                    reason,
                )

    def _follow(self, reconciler: Reconciler, chassis_name: str) -> None:
        """Repair what changes under us, until we are stopped."""
        resync_due = 0.0
        while not self._stop.is_set():
            self._news.clear()
            self._databases.check()
            if self._switch_rows.system_id != chassis_name:
                raise AgentError(
                    f"system-id is no longer {chassis_name}; starting anew"
                )
            if time.monotonic() >= resync_due:
                self._resync_now.set()
            if self._rows.synced and self._resync_now.is_set():
                self._resync_now.clear()
                interval_s = self._settings().resync_interval_s
                resync_due = time.monotonic() + interval_s
                if not self._resync(reconciler):
                    self._resync_now.set()
            else:
                self._check_fleet()
            self._news.wait(FLEET_INTERVAL_S)

    def _resync(self, reconciler: Reconciler) -> bool:
        """Queue everything that is wanted or here; tell if that worked."""
        try:
            keys = reconciler.wanted()
        except Exception as error:  # noqa: BLE001 # tried again
            self._tell("this host could not be looked through", error)
            return False
        self._tell("this host could not be looked through", None)
        for key in sorted(keys):
            self._queue.add(key)
        kernel.trim_heap()  # of what the last such look took
        self._all_queued = True
        self._note_first_pass()
        return True

    def _tell(self, what: str, error: Exception | None) -> None:
        """Say once that there is ERROR; None when it is over."""
        problem = f"{what}: {error}" if error else ""
        if self._status.trouble(what, problem):
            LOG.warning("%s", problem)

    def _note_first_pass(self) -> None:
        """Say that all is served once everything was looked at."""
        networks = self._rows.networks
        complete = all(n.complete for n in networks.values())
        is_over = self._all_queued and complete and self._queue.is_idle()
        if is_over and self._status.waits_for(_FIRST_LOOK, ""):
            LOG.info("ready networks=%d", len(networks))

    def _check_fleet(self) -> None:
        """Have supervisord run, and look after what it gave up on."""
        try:
            programs = self._list_programs()
        except Exception as error:  # noqa: BLE001 # tried again
            self._tell("the fleet does not answer", error)
            return
        self._tell("the fleet does not answer", None)
        # A gateway that was started anew has made its socket anew.
        gateway = programs.get(names.GATEWAY, {}).get("pid")
        if gateway != self._gateway:
            self._gateway = gateway
            self._queue.add(names.GATEWAY)
        # What failed has its retries, at their own pace.
        for key in self._status.served_networks():
            if programs.get(key, {}).get("state") not in _GOOD:
                self._queue.add(key)


def _is_plugged(
    port: SwitchPort | None,
    network: NetworkSnapshot,
    switch: SwitchSnapshot,
) -> bool:
    """Tell whether PORT is on the bridge with the localport's name."""
    if network.localport is None or port is None:
        return False
    wanted = switch.bridge, network.localport.logical_port, network.network
    return wanted == (port.bridge, port.iface_id, port.network)
