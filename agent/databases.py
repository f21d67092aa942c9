"""Connect to both databases; report when a connection is lost."""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable

from ovsdbapp.backend.ovs_idl.connection import Connection

from .model import ChassisSnapshot, VswitchSnapshot
from .ovsdb import connect, southbound, vswitch
from .ovsdb.heartbeat import Heartbeat
from .reconcile.site import Site
from .reconcile.snapshots import Snapshots
from .threads import Steps, apart

LOG = logging.getLogger(__name__)

VSWITCH = "Open vSwitch"
SOUTHBOUND = "OVN Southbound"
# The thread of an IDL runs every few seconds, whatever the server does.
_RUNS_S = 60.0
_RETRY_S = 1.0
_RESTART_S = 5.0
_LOST = {VSWITCH: "OVNMD-102", SOUTHBOUND: "OVNMD-101"}
_PARTS = {VSWITCH: "vswitch", SOUTHBOUND: "southbound"}
_HEARTBEAT = "registration"


@dataclasses.dataclass(eq=False)
class Databases:
    """The local Open vSwitch database and OVN's Southbound one.

    Their rows go to `snapshots`. The heartbeat for Neutron goes to Southbound.
    """

    site: Site
    snapshots: Snapshots

    def __post_init__(self) -> None:
        for part in (*_PARTS.values(), _HEARTBEAT):  # before the first contact
            self.site.status.parts[part] = lambda: None
        self._heartbeat: Heartbeat | None = None
        self._idls: dict[str, connect.Idl] = {}
        # Name of a disconnected database -> since when, and logged reasons.
        self._outages: dict[str, tuple[float, set[str]]] = {}
        # The library has one set of certificates for both databases.
        connect.use_certificates(self.site.settings().southbound)

    def connect_vswitch(self) -> Steps[vswitch.Vswitch]:
        """Return the local database, once it is there."""
        settings = self.site.settings().vswitch
        chassis = vswitch.given_chassis_name(self.site.settings().chassis_name)
        remote = settings.connection
        make = functools.partial(
            vswitch.VswitchIdl,
            remote,
            chassis_name=chassis,
            on_snapshot=self._take_vswitch,
        )
        link = yield from apart(
            lambda: self._connect(VSWITCH, remote, make, settings.timeout_s),
            self.site.queues.news.set,
        )
        return vswitch.Vswitch(link)

    def connect_southbound(self, chassis_name: str) -> Steps[None]:
        """Follow the rows of CHASSIS_NAME and send its heartbeat."""
        settings = self.site.settings().southbound
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
        link = yield from apart(
            lambda: self._connect(
                SOUTHBOUND, remote, make, settings.timeout_s
            ),
            self.site.queues.news.set,
        )
        self._heartbeat = Heartbeat(
            connect.Database(link),
            functools.partial(self.site.status.tell, "OVNMD-108"),
            chassis_name=chassis_name,
            bridge=lambda: self.snapshots.vswitch.bridge,
            nb_cfg=lambda: self.snapshots.chassis.nb_cfg,
            agent_down_time_s=lambda: self.site.settings().agent_down_time_s,
        )
        self.site.status.parts[_HEARTBEAT] = self._heartbeat.report
        self._heartbeat.start()

    def _connect(
        self,
        name: str,
        remote: str,
        make: Callable[[], connect.Idl],
        timeout_s: int,
    ) -> Connection:
        """Return the connection to the database NAME, once it is there.

        This may hang: the server accepts a connection and sends nothing.
        """
        code, logged, idl = _LOST[name], set(), None
        status = self.site.status
        status.waits_for(name, f"connecting to {name} at {remote}", code)
        while True:
            try:
                idl = idl or make()
                link = connect.start(idl, timeout_s)
                break
            except Exception as error:  # noqa: BLE001 # of any library below
                # It waits longer for a server each time; a new one would not.
                idl = idl if isinstance(error, TimeoutError) else None
                reason = f"{name} not reachable at {remote}: {error}"
            status.waits_for(name, reason, code)
            if reason not in logged:
                logged.add(reason)
                LOG.warning("%s; waiting for it", reason)
            time.sleep(_RETRY_S)
        self._idls[name] = idl
        status.parts[_PARTS[name]] = idl.report
        status.expect(f"the thread of {name}", _RUNS_S, idl.stands_s)
        status.waits_for(name, "", code)
        LOG.info("connected to %s at %s", name, remote)
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

        One is reported after some seconds only: a server may restart.
        """
        for name, idl in self._idls.copy().items():  # a thread adds one
            problem, now = idl.problem(), time.monotonic()
            since, logged = self._outages.setdefault(name, (now, set()))
            if not problem:
                del self._outages[name]
                if logged:
                    LOG.info("%s is connected again", name)
                    self.site.status.waits_for(name, "", _LOST[name])
            elif now >= since + _RESTART_S:
                reason = f"connection to {name} lost: {problem}"
                self.site.status.waits_for(name, reason, _LOST[name])
                if reason not in logged:
                    logged.add(reason)
                    LOG.warning("%s; the networks are still served", reason)
