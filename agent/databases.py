"""Connect to both databases and see whether they stay connected."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .config.settings import Settings
from .model import ChassisSnapshot, SwitchSnapshot
from .monitor.status import Status
from .ovsdb import connect, southbound, vswitch

LOG = logging.getLogger(__name__)

SWITCH = "Open vSwitch"
SOUTHBOUND = "OVN Southbound"


class Databases:
    """The local Open vSwitch database and OVN's Southbound one."""

    def __init__(
        self, settings: Settings, *, status: Status, stop: threading.Event
    ) -> None:
        self._settings = settings
        self._status = status
        self._stop = stop
        # By name: whether they were connected when last looked at.
        self._idls: dict[
            str, southbound.SouthboundIdl | vswitch.SwitchIdl
        ] = {}
        self._away: dict[str, int] = {}
        # For both: the library knows one set.
        tls = settings.southbound
        connect.use_certificates(tls.private_key, tls.certificate, tls.ca_cert)

    def connect_switch(
        self, on_snapshot: Callable[[SwitchSnapshot], None]
    ) -> vswitch.Switch | None:
        """Return the local database, once it is there; None if stopped."""
        settings = self._settings.vswitch
        remote = settings.connection
        chassis = vswitch.given_chassis_name(self._settings.chassis_name)

        def attempt() -> vswitch.Switch:
            idl = vswitch.SwitchIdl(
                remote,
                vswitch.make_helper(remote),
                chassis_name=chassis,
                on_snapshot=on_snapshot,
            )
            link = connect.start(idl, settings.timeout_s)
            self._idls[SWITCH] = idl
            return vswitch.Switch(link)

        return connect.wait_for_database(
            SWITCH,
            remote,
            attempt,
            stop=self._stop,
            report=lambda why: self._status.waits_for(SWITCH, why),
        )

    def connect_southbound(
        self,
        chassis_name: str,
        on_snapshot: Callable[[ChassisSnapshot], None],
    ) -> southbound.Southbound | None:
        """Return the Southbound database, once there; None if stopped."""
        settings = self._settings.southbound
        remote = ",".join(settings.remotes)

        def attempt() -> southbound.Southbound:
            idl = southbound.SouthboundIdl(
                remote,
                southbound.make_helper(remote),
                chassis_name=chassis_name,
                on_snapshot=on_snapshot,
                max_backoff_ms=settings.retry_max_interval_s * 1000,
                probe_interval=settings.probe_interval_ms,
            )
            link = connect.start(idl, settings.timeout_s)
            self._idls[SOUTHBOUND] = idl
            return southbound.Southbound(link)

        return connect.wait_for_database(
            SOUTHBOUND,
            remote,
            attempt,
            stop=self._stop,
            report=lambda why: self._status.waits_for(SOUTHBOUND, why),
        )

    def hears_southbound(self) -> bool:
        """Tell whether the Southbound server is connected now."""
        idl = self._idls.get(SOUTHBOUND)
        return idl is not None and idl.is_connected()

    def check(self) -> None:
        """Note which one is away; to be called every few seconds.

        Twice in a row: a server that restarts is not worth a word.
        """
        for name, idl in self._idls.items():
            if idl.is_connected():
                if self._away.pop(name, 0) > 1:
                    LOG.info("%s is connected again", name)
                    self._status.waits_for(name, "")
                continue
            self._away[name] = self._away.get(name, 0) + 1
            if self._away[name] == 2:
                reason = f"connection to {name} lost"
                LOG.warning("%s; what is served is served on", reason)
                self._status.waits_for(name, reason)
