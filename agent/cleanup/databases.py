"""The databases as `ovn-metadata-cleanup` takes them: if they answer."""

from __future__ import annotations

from collections.abc import Collection

from ..config.settings import Settings
from ..model import SwitchSnapshot
from ..ovsdb import connect, vswitch
from . import registration
from .registration import Registration

_TIMEOUT_S = 10


class CleanupDatabases:
    """The local Open vSwitch database, and the Southbound one.

    `unseen` are those that did not answer, each with the reason.
    """

    def __init__(self, settings: Settings) -> None:
        southbound = settings.southbound
        self._southbound = ",".join(southbound.remotes)
        self._switch: vswitch.Switch | None = None
        self.snapshot = SwitchSnapshot()
        self.unseen: list[str] = []
        connect.use_certificates(
            southbound.private_key, southbound.certificate, southbound.ca_cert
        )
        remote = settings.vswitch.connection
        try:
            idl = vswitch.SwitchIdl(
                remote,
                vswitch.make_helper(remote),
                chassis_name=vswitch.given_chassis_name(settings.chassis_name),
                on_snapshot=self._note,
            )
            self._switch = vswitch.Switch(connect.start(idl, _TIMEOUT_S))
        # ovsdbapp raises a bare Exception when no server answers.
        except Exception as error:  # noqa: BLE001
            self.unseen += [
                f"Open vSwitch at {remote}: {error}",
                "the registration in OVN Southbound: system-id is not known",
            ]

    def _note(self, snapshot: SwitchSnapshot) -> None:
        self.snapshot = snapshot

    def registration(self) -> Registration:
        """Return what Southbound says; an empty one if it does not answer.

        Also whose localports the ports without our mark are named by.
        """
        nothing = Registration((), "", {})
        if self._switch is None:
            return nothing
        chassis = self.snapshot.system_id
        try:
            if not chassis:
                raise ConnectionError("no system-id in Open_vSwitch")
            return registration.read(
                self._southbound,
                chassis_name=chassis,
                logical_ports={
                    port.iface_id
                    for port in self.snapshot.ports.values()
                    if port.iface_id and not port.network
                },
            )
        except OSError as error:
            reason = f"OVN Southbound at {self._southbound}: {error}"
            if reason not in self.unseen:
                self.unseen.append(reason)
            return nothing

    def remove_ports(self, ports: Collection[str]) -> None:
        """Have PORTS on no bridge; raise if the database refuses."""
        if self._switch is not None:
            self._switch.unplug(*ports)

    def remove_registration(self) -> None:
        """Remove our keys from our chassis' row; raise OSError."""
        registration.remove(
            self._southbound, chassis_name=self.snapshot.system_id
        )
