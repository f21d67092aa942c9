"""Connect to both databases; report when a connection is lost."""

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from ovsdbapp.backend.ovs_idl.connection import Connection

from .config.settings import Settings
from .model import ChassisSnapshot, VswitchSnapshot
from .monitor.progress import Progress
from .monitor.status import Status
from .ovsdb import connect, southbound, vswitch
from .ovsdb.database import Database
from .ovsdb.heartbeat import Heartbeat
from .reconcile.snapshots import Snapshots

LOG = logging.getLogger(__name__)

VSWITCH = "Open vSwitch"
SOUTHBOUND = "OVN Southbound"
# The thread of an IDL runs every few seconds, whatever the server does.
_RUNS_S = 60.0
_LOST = {VSWITCH: "OVNMD-102", SOUTHBOUND: "OVNMD-101"}


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
        self.status.parts |= {
            "southbound": lambda: _report(self._idls.get(SOUTHBOUND)),
            "vswitch": lambda: _report(self._idls.get(VSWITCH)),
            "registration": lambda: _report(self._heartbeat),
        }
        self._heartbeat: Heartbeat | None = None
        self._idls: dict[str, connect.Idl] = {}
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
            Database(link),
            note_problem=lambda problem: self.status.note(
                "OVNMD-108", problem
            ),
            chassis_name=chassis_name,
            bridge=lambda: self.snapshots.vswitch.bridge,
            nb_cfg=lambda: self.snapshots.chassis.nb_cfg,
            agent_down_time_s=lambda: self.settings().agent_down_time_s,
        )
        self._heartbeat.start()
        return True

    def _connect(
        self,
        name: str,
        remote: str,
        make: Callable[[str], connect.Idl],
        timeout_s: int,
    ) -> Connection | None:
        slow: list[connect.Idl] = []

        def attempt() -> Connection:
            # It waits longer for a server each time; a new one would not.
            idl = slow.pop() if slow else make(remote)
            try:
                link = connect.start(idl, timeout_s)
            except TimeoutError:
                slow.append(idl)
                raise
            self._idls[name] = idl
            self.progress.expect(
                f"the thread of {name}", _RUNS_S, idl.stands_s
            )
            return link

        return connect.wait_for_database(
            name,
            remote,
            attempt,
            stop=self.stopping,
            report=lambda why: self.status.waits_for(name, why, _LOST[name]),
            meanwhile=self.meanwhile,
        )

    def _take_chassis(self, rows: ChassisSnapshot) -> None:
        self.snapshots.take_chassis(rows)
        if self._heartbeat is not None:
            self._heartbeat.note()

    def _take_vswitch(self, snapshot: VswitchSnapshot) -> None:
        self.snapshots.take_vswitch(snapshot)
        if self._heartbeat is not None:
            self._heartbeat.note()  # of another bridge, perhaps

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
            if idl.is_connected():
                if self._outages.pop(name, ()):
                    LOG.info("%s is connected again", name)
                    self.status.waits_for(name, "", _LOST[name])
            elif name in self._outages:
                self._log_lost(name, idl.problem())
            else:
                self._outages[name] = set()

    def _log_lost(self, name: str, problem: str) -> None:
        """Report PROBLEM of the database NAME; log each once an outage."""
        reason = f"connection to {name} lost: {problem}"
        self.status.waits_for(name, reason, _LOST[name])
        if reason not in self._outages[name]:
            self._outages[name].add(reason)
            LOG.warning("%s; the networks are still served", reason)


def _report(part: connect.Idl | Heartbeat | None) -> dict[str, Any] | None:
    """Return how PART is; None before the first contact."""
    return None if part is None else part.report()
