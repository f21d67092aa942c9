"""The agent's life: connect, look at everything once, follow, stop."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from ..privsep.errors import PrivilegedError
from . import names
from .databases import Databases
from .errors import AgentError
from .model import (
    ChassisSnapshot,
    NetworkSnapshot,
    SwitchPort,
    SwitchSnapshot,
)
from .nova_hosts import NovaHosts
from .ovsdb.chassis import Heartbeat
from .reconciler import Reconciler
from .settings import Settings
from .status import Status
from .workqueue import WorkQueue

LOG = logging.getLogger(__name__)

# How often the haproxies' states are looked at: supervisord restarts them
# by itself, this is for what it can't (and for supervisord itself).
FLEET_INTERVAL_S = 5.0
_FIRST_LOOK = "first pass"
# An ovn-controller that starts makes its Chassis row first and claims its
# ports then: what is not bound so soon after is not to be removed.
_SETTLE_S = 30.0
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
        self._stop = threading.Event()
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
        # After the chassis row was made anew: see _SETTLE_S.
        self._last_chassis: uuid.UUID | None = None
        self._settled_at = 0.0
        self._misses_chassis = False

    def stop(self) -> None:
        """Have `run` return soon."""
        self._stop.set()
        self._news.set()

    def reconfigured(self) -> None:
        """Look at everything again: the settings are others."""
        self._nova_hosts.refresh()
        # Now, even where nothing new is known of them: see `_follow`.
        for key in (names.GATEWAY, *self._status.networks()):
            self._queue.add(key)
        self._resync_now.set()
        self._news.set()

    def run(self) -> None:
        """Serve until `stop`; raise AgentError for what can't be waited out.

        The order: what runs already serves on meanwhile; the gateway needs
        no database; removing anything waits until both have been read.
        """
        self._status.waits_for(_FIRST_LOOK, "the first pass over all networks")
        switch = self._databases.connect_switch(self._on_switch)
        if switch is None:
            return
        reconciler = self._make_reconciler(
            switch=switch,
            chassis_snapshot=lambda: self._rows,
            switch_snapshot=lambda: self._switch_rows,
            put_off_removal=self._put_off_removal,
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
                reason = (
                    "system-id in Open_vSwitch external_ids; "
                    "ovn-controller needs it too"
                )
                self._status.waits_for("system-id", reason)
                LOG.warning("waiting for %s", reason)
            self._news.wait()
        return None

    def _on_rows(self, snapshot: ChassisSnapshot) -> None:
        """Take note of SNAPSHOT (on the IDL's thread)."""
        before, self._rows = self._rows, snapshot
        changed = {
            network
            for network in before.networks.keys() | snapshot.networks.keys()
            if before.networks.get(network) != snapshot.networks.get(network)
        }
        if changed or snapshot.synced != before.synced:
            LOG.debug("rows changed for %d networks", len(changed))
        for network in sorted(changed):
            self._queue.add(network)
        for problem in sorted({*snapshot.problems} - {*before.problems}):
            LOG.warning("%s", problem)
        self._status.rows(synced=snapshot.synced, problems=snapshot.problems)
        self._note_chassis(snapshot.chassis)
        if self._heartbeat is not None:
            self._heartbeat.note()
        if snapshot.synced != before.synced:
            # What went while it was not was passed over.
            self._resync_now.set()
            self._news.set()

    def _note_chassis(self, chassis: uuid.UUID | None) -> None:
        """Take note of a Chassis row that went, or came in its place."""
        if chassis is None:
            reason = (
                f"no Chassis row named {self._chassis_name}; "
                f"does ovn-controller run?"
            )
            self._status.waits_for("chassis", reason)
            if not self._misses_chassis:
                LOG.warning("%s What is served is served on", reason)
            self._misses_chassis = True
            return
        self._misses_chassis = False
        self._status.waits_for("chassis", "")
        if self._last_chassis not in (None, chassis):
            LOG.info("ovn-controller has made its Chassis row anew")
            self._settled_at = time.monotonic() + _SETTLE_S
        self._last_chassis = chassis

    def _put_off_removal(self, network: str) -> bool:
        """Tell whether NETWORK is not to be removed yet; look again then."""
        delay = self._settled_at - time.monotonic()
        if not self._databases.hears_southbound():
            # Its ports may have been claimed meanwhile.
            delay = max(delay, FLEET_INTERVAL_S)
        if delay > 0:
            self._queue.add_later(network, delay)
        return delay > 0

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
        for number in range(self._settings().reconcile_workers):
            worker = threading.Thread(
                target=self._work,
                args=(reconciler,),
                name=f"reconcile-{number}",
                daemon=True,
            )
            worker.start()
            self._workers.append(worker)

    def _work(self, reconciler: Reconciler) -> None:
        while (key := self._queue.get()) is not None:
            reason = ""
            try:
                reconciler.reconcile(key)
            # Whatever it was, this network is tried again and the others
            # are not disturbed.
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, AgentError | PrivilegedError):
                    reason = str(error)
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
            LOG.warning("this host could not be looked through: %s", error)
            return False
        for key in sorted(keys):
            self._queue.add(key)
        self._all_queued = True
        self._note_first_pass()
        return True

    def _note_first_pass(self) -> None:
        """Say that all is served once everything was looked at."""
        complete = all(n.complete for n in self._rows.networks.values())
        if self._all_queued and complete and self._queue.is_idle():
            self._status.waits_for(_FIRST_LOOK, "")

    def _check_fleet(self) -> None:
        """Have supervisord run, and look after what it gave up on."""
        try:
            programs = self._list_programs()
        except Exception as error:  # noqa: BLE001 # tried again
            LOG.warning("the fleet does not answer: %s", error)
            return
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
    localport = network.localport
    return localport is not None and port == SwitchPort(
        switch.bridge, localport.logical_port, network.network
    )
