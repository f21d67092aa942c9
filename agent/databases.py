"""Connect to both databases; report when a connection is lost."""

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable
from concurrent import futures

from ovsdbapp.backend.ovs_idl.connection import Connection

from .config.settings import Settings
from .model import ChassisSnapshot, VswitchSnapshot
from .monitor.progress import Progress
from .monitor.status import Status
from .ovsdb import connect, southbound, vswitch
from .ovsdb.heartbeat import Heartbeat
from .reconcile.snapshots import Snapshots
from .startup.threads import in_thread

LOG = logging.getLogger(__name__)

VSWITCH = "Open vSwitch"
SOUTHBOUND = "OVN Southbound"
# The thread of an IDL runs every few seconds, whatever the server does.
_RUNS_S = 60.0
_RETRY_S = 1.0
_STOP_POLL_S = 0.2
_LOST = {VSWITCH: "OVNMD-102", SOUTHBOUND: "OVNMD-101"}
_PARTS = {VSWITCH: "vswitch", SOUTHBOUND: "southbound"}
_HEARTBEAT = "registration"


@dataclasses.dataclass(eq=False)
class Databases:
    """The local Open vSwitch database and OVN's Southbound one.

    Their rows go to `snapshots`. The heartbeat for Neutron goes to Southbound.
    """

    settings: Callable[[], Settings]
    snapshots: Snapshots
    status: Status
    progress: Progress
    stopping: threading.Event
    meanwhile: Callable[[], None]  # called while it waits for a database

    def __post_init__(self) -> None:
        for part in (*_PARTS.values(), _HEARTBEAT):  # before the first contact
            self.status.parts[part] = lambda: None
        self._heartbeat: Heartbeat | None = None
        self._idls: dict[str, connect.Idl] = {}
        self._slow: dict[str, connect.Idl] = {}  # those that took too long
        # Name of a disconnected database -> the reasons that are logged.
        self._outages: dict[str, set[str]] = {}
        # The library has one set of certificates for both databases.
        connect.use_certificates(self.settings().southbound)

    def connect_vswitch(self) -> vswitch.Vswitch | None:
        """Wait for the local database and return it; None if stopped."""
        settings = self.settings().vswitch
        chassis = vswitch.given_chassis_name(self.settings().chassis_name)
        remote = settings.connection
        make = functools.partial(
            vswitch.VswitchIdl,
            remote,
            chassis_name=chassis,
            on_snapshot=self._take_vswitch,
        )
        link = self._connect(VSWITCH, remote, make, settings.timeout_s)
        return None if link is None else vswitch.Vswitch(link)

    def connect_southbound(self, chassis_name: str) -> bool:
        """Follow the rows of CHASSIS_NAME and send its heartbeat.

        Returns False if we are stopped before the database is there.
        """
        settings = self.settings().southbound
        remote = ",".join(settings.remotes)
        make = functools.partial(
            southbound.SouthboundIdl,
            remote,
            chassis_name=chassis_name,
            on_snapshot=self._take_chassis,
            plugged=lambda: self.snapshots.vswitch.metadata_ports,
            max_backoff_ms=settings.retry_max_interval_s * 1000,
            probe_interval=settings.probe_interval_ms,
        )
        link = self._connect(SOUTHBOUND, remote, make, settings.timeout_s)
        if link is None:
            return False
        self._heartbeat = Heartbeat(
            connect.Database(link),
            functools.partial(self.status.tell, "OVNMD-108"),
            chassis_name=chassis_name,
            bridge=lambda: self.snapshots.vswitch.bridge,
            nb_cfg=lambda: self.snapshots.chassis.nb_cfg,
            agent_down_time_s=lambda: self.settings().agent_down_time_s,
        )
        self.status.parts[_HEARTBEAT] = self._heartbeat.report
        self._heartbeat.start()
        return True

    def _connect(
        self,
        name: str,
        remote: str,
        make: Callable[[], connect.Idl],
        timeout_s: int,
    ) -> Connection | None:
        """Return the connection to the database NAME; None if stopped.

        An attempt that hangs (the server accepts the connection and sends
        nothing) ends with the agent.
        """
        code, logged = _LOST[name], set()
        attempt = functools.partial(self._attempt, name, make, timeout_s)
        self.status.waits_for(name, f"connecting to {name} at {remote}", code)
        while not self.stopping.is_set():
            outcome = in_thread(attempt)
            while not outcome.done():
                futures.wait([outcome], _STOP_POLL_S)
                if self.stopping.is_set():
                    return None
                self.meanwhile()
            error = outcome.exception()
            if error is None:
                self.status.waits_for(name, "", code)
                LOG.info("connected to %s at %s", name, remote)
                return outcome.result()
            reason = f"{name} not reachable at {remote}: {error}"
            self.status.waits_for(name, reason, code)
            if reason not in logged:
                logged.add(reason)
                LOG.warning("%s; waiting for it", reason)
            self.stopping.wait(_RETRY_S)
            self.meanwhile()  # an attempt may fail at once
        return None

    def _attempt(
        self, name: str, make: Callable[[], connect.Idl], timeout_s: int
    ) -> Connection:
        # It waits longer for a server each time; a new one would not.
        idl = self._slow.pop(name, None) or make()
        try:
            link = connect.start(idl, timeout_s)
        except TimeoutError:
            self._slow[name] = idl
            raise
        self._idls[name] = idl
        self.status.parts[_PARTS[name]] = idl.report
        self.progress.expect(f"the thread of {name}", _RUNS_S, idl.stands_s)
        return link

    def _take_chassis(self, rows: ChassisSnapshot) -> None:
        self.snapshots.take_chassis(rows)
        if self._heartbeat is not None:
            self._heartbeat.wake()

    def _take_vswitch(self, snapshot: VswitchSnapshot) -> None:
        before = self.snapshots.vswitch.bridge
        self.snapshots.take_vswitch(snapshot)
        # Neutron binds ports to that bridge. Nothing else here may move the
        # heartbeat's time, which shows that Southbound's rows arrive.
        if self._heartbeat is not None and snapshot.bridge != before:
            self._heartbeat.wake()

    def stop(self) -> None:
        """Stop the heartbeat."""
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def is_connected(self, name: str = SOUTHBOUND) -> bool:
        """Return whether the server of the database NAME is connected now."""
        idl = self._idls.get(name)
        return idl is not None and idl.is_connected()

    def rows(self) -> tuple[ChassisSnapshot | None, VswitchSnapshot | None]:
        """Return what to act on; None while its database is disconnected."""
        return (
            self.snapshots.chassis if self.is_connected() else None,
            self.snapshots.vswitch if self.is_connected(VSWITCH) else None,
        )

    def problem(self, name: str) -> str:
        """Return why the database NAME is disconnected; "" if it is not."""
        idl = self._idls.get(name)
        return "it was never connected" if idl is None else idl.problem()

    def southbound_read_until_ms(self) -> int:
        """Return until when (since the epoch) the rows of Southbound are read.

        It stands still while the server is disconnected.
        """
        idl = self._idls.get(SOUTHBOUND)
        return getattr(idl, "read_until_ms", 0)

    def report_lost(self) -> None:
        """Report lost connections; to be called every few seconds.

        Only the second check in a row reports: a server may restart.
        """
        for name, idl in self._idls.copy().items():  # a thread adds one
            if not (problem := idl.problem()):
                if self._outages.pop(name, ()):
                    LOG.info("%s is connected again", name)
                    self.status.waits_for(name, "", _LOST[name])
            elif name in self._outages:
                self._log_lost(name, problem)
            else:
                self._outages[name] = set()

    def _log_lost(self, name: str, problem: str) -> None:
        """Report PROBLEM of the database NAME; log each once an outage."""
        reason = f"connection to {name} lost: {problem}"
        self.status.waits_for(name, reason, _LOST[name])
        if reason not in self._outages[name]:
            self._outages[name].add(reason)
            LOG.warning("%s; the networks are still served", reason)
