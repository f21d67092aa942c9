"""The local Open vSwitch database: chassis name, bridge, our ports."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ovsdbapp.backend.ovs_idl import command

from ...privsep import names
from ..errors import AgentError, NoBridgeError
from ..model import VswitchPort, VswitchSnapshot
from . import schemas
from .database import Database

SCHEMA = "Open_vSwitch"
# A round of ovs-vswitchd takes some ms.
_VSWITCHD_POLL_S = 0.005
_VSWITCHD_TIMEOUT_S = 10.0
# What the agent waits for while the chassis has no name.
NO_SYSTEM_ID = (
    "system-id in Open_vSwitch external_ids; ovn-controller needs it too"
)
DEFAULT_BRIDGE = "br-int"  # ovn-controller(8), ovn-bridge
# Marks a port as ours, with its network: the port's name has only ten
# characters of the network's id, and an instance's port may have the same.
NETWORK_KEY = "ovn-metadata-network"
# The index of the port's device. A veth that is made again has the same name
# and another index; the userspace datapath would keep the old device.
IFINDEX_KEY = "ovn-metadata-ifindex"
# What os-vif, libvirt and Neutron's other agents write on a port.
_INSTANCE_KEYS = ("attached-mac", "iface-status", "vm-id", "vm-uuid")

_COLUMNS = {
    "Open_vSwitch": (
        *("external_ids", "bridges", "next_cfg", "cur_cfg"),
        *("datapath_types", "other_config"),
    ),
    "Bridge": ("name", "datapath_type", "ports"),
    "Port": ("name", "interfaces"),
    "Interface": ("name", "external_ids", "ofport"),
}


class VswitchIdl(schemas.FollowingIdl):
    """The IDL of the local Open vSwitch.

    `snapshot` is the newest. ON_SNAPSHOT is called after each change on the
    IDL's thread: it must not block.
    """

    columns = _COLUMNS

    def __init__(
        self,
        remote: str,
        helper: Any,
        *,
        chassis_name: str,
        on_snapshot: Callable[[VswitchSnapshot], None],
    ) -> None:
        """CHASSIS_NAME, unless "", takes precedence over the system-id."""
        super().__init__(remote, helper)
        self.snapshot = VswitchSnapshot()
        self._chassis_name = chassis_name
        self._on_snapshot = on_snapshot

    def run(self) -> Any:
        """Process what arrived, then publish the new snapshot."""
        before = self.change_seqno
        changed = super().run()
        if self.change_seqno != before:
            self.snapshot = self._read()
            self._on_snapshot(self.snapshot)
        return changed

    def _read(self) -> VswitchSnapshot:
        tables = {
            name: list(self.tables[name].rows.values()) for name in _COLUMNS
        }
        ids = dict(
            next((row.external_ids for row in tables["Open_vSwitch"]), {})
        )
        chassis = self._chassis_name or ids.get("system-id", "")
        name = bridge_name(ids, chassis)
        bridge = next((b for b in tables["Bridge"] if b.name == name), None)
        ports = bridge.ports if bridge else ()
        external_ids = [*map(_external_ids, ports)]
        return VswitchSnapshot(
            system_id=chassis,
            bridge=name,
            bridge_exists=bridge is not None,
            datapath_type=bridge.datapath_type if bridge else "",
            problem=_problem(tables["Open_vSwitch"], bridge),
            ports={
                port.name: _vswitch_port(port, row.name)
                for row in tables["Bridge"]
                for port in row.ports
                if names.is_outer_veth(port.name)
            },
            ofports={
                row.name: row.ofport[0]
                for row in tables["Interface"]
                if row.ofport and names.is_outer_veth(row.name)
            },
            plugged=_iface_ids(external_ids),
            installed=_iface_ids(
                each for each in external_ids if "ovn-installed" in each
            ),
            applied=next(
                (
                    row.cur_cfg
                    for row in tables["Open_vSwitch"]
                    if row.cur_cfg < row.next_cfg
                ),
                None,
            ),
        )


def _problem(rows: Iterable[Any], bridge: Any) -> str:
    """Return what keeps ovs-vswitchd from forwarding, and what to do."""
    for row in rows if bridge else ():
        if row.other_config.get("flow-restore-wait") == "true":
            return "it waits for flows: remove other_config:flow-restore-wait"
        kind, known = bridge.datapath_type or "system", row.datapath_types
        if known and kind not in known:
            text = f"it can't make the datapath_type {kind} of {bridge.name}"
            return f"{text}: set it to {' or '.join(known)}"
    return ""


def _iface_ids(external_ids: Iterable[Mapping[str, str]]) -> frozenset[str]:
    return frozenset(
        ids["iface-id"] for ids in external_ids if ids.get("iface-id")
    )


def bridge_name(ids: Mapping[str, str], chassis: str) -> str:
    """Return the integration bridge of CHASSIS by Open_vSwitch's IDS."""
    # ovn-controller(8): a key with the chassis' name takes precedence.
    own = ids.get(f"ovn-bridge-{chassis}")
    return own or ids.get("ovn-bridge", DEFAULT_BRIDGE)


def _vswitch_port(port: Any, bridge: str) -> VswitchPort:
    ids = _external_ids(port)
    network = ids.get(NETWORK_KEY, "")
    ours = names.is_network(network)
    ours = ours and port.name == names.outer_veth(network)
    ifindex = ids.get(IFINDEX_KEY, "")
    return VswitchPort(
        bridge=bridge,
        iface_id=ids.get("iface-id", ""),
        network=network if ours else "",
        ifindex=int(ifindex) if ours and ifindex.isdecimal() else None,
        is_instance=any(key in ids for key in _INSTANCE_KEYS),
    )


def _external_ids(port: Any) -> dict[str, str]:
    for interface in port.interfaces:
        return dict(interface.external_ids)
    return {}


class Vswitch(Database):
    """ovsdbapp's commands on the local database."""

    def plug(
        self, network: str, *, bridge: str, iface_id: str, ifindex: int
    ) -> None:
        """Ensure that the port of NETWORK is on BRIDGE and on no other.

        It gets IFACE_ID, and IFINDEX is the index of its device.

        Raises NoBridgeError if the bridge does not exist; RuntimeError and
        ovsdbapp's TimeoutException if the database refuses or is gone.
        """
        ids = {
            "iface-id": iface_id,
            NETWORK_KEY: network,
            IFINDEX_KEY: str(ifindex),
        }
        port = names.outer_veth(network)
        self._execute(PlugCommand(self, port, bridge, ids))

    def unplug(self, *ports: str) -> None:
        """Ensure that PORTS are on no bridge."""
        self._execute(*(PlugCommand(self, port, None, {}) for port in ports))

    def unplug_for_good(self, port: str) -> None:
        """Take PORT off its bridge; wait until ovs-vswitchd has released it.

        Waits as ovs-vsctl(8) does: next_cfg counts the requests, cur_cfg
        those that are done. Raises TimeoutError if it takes too long.
        """
        request = CountCommand(self)
        self._execute(PlugCommand(self, port, None, {}), request)
        if request.result is None:
            return  # it was on no bridge
        connection = self.ovsdb_connection
        deadline = time.monotonic() + _VSWITCHD_TIMEOUT_S
        while True:
            with connection.lock:
                tables = connection.idl.tables
                rows = list(tables["Open_vSwitch"].rows.values())
                if rows and rows[0].cur_cfg >= request.result:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    "ovs-vswitchd does not release a port; is it running?"
                )
            time.sleep(_VSWITCHD_POLL_S)

    def _execute(self, *wanted: command.BaseCommand) -> None:
        with self.transaction(check_error=True, log_errors=False) as txn:
            for each in wanted:
                txn.add(each)


class CountCommand(command.BaseCommand):  # type: ignore[misc]  # untyped
    """Ask ovs-vswitchd to report when it has done a transaction."""

    def run_idl(self, txn: Any) -> None:
        """Count one more request, if the transaction changes anything."""
        for row in self.api.idl.tables["Open_vSwitch"].rows.values():
            row.increment("next_cfg")

    def post_commit(self, txn: Any) -> None:
        """Keep the number of this request; our copy of it may be older."""
        self.result = txn.get_increment_new_value()


class PlugCommand(command.BaseCommand):  # type: ignore[misc]  # untyped
    """Put a port with its external_ids on a bridge, or on none."""

    def __init__(
        self, api: Any, port: str, bridge: str | None, ids: Mapping[str, str]
    ) -> None:
        super().__init__(api)
        self.port = port
        self.bridge = bridge
        self.ids = ids

    def run_idl(self, txn: Any) -> None:
        """Add the port where it is missing, remove it from elsewhere."""
        tables = self.api.idl.tables
        if not tables["Open_vSwitch"].rows:
            raise ConnectionError("the database is being read again")
        target = None
        for bridge in list(tables["Bridge"].rows.values()):
            if bridge.name == self.bridge:
                target = bridge
            for port in bridge.ports:
                elsewhere = bridge.name != self.bridge
                if (port.name == self.port and elsewhere) or self._rival(port):
                    bridge.delvalue("ports", port)
        if self.bridge is None:
            return
        if target is None:
            raise NoBridgeError(
                f"bridge {self.bridge} not found; is ovn-bridge set in "
                f"Open_vSwitch external_ids?"
            )
        for port in target.ports:
            if port.name == self.port:
                self._identify(port)
                return
        interface = txn.insert(tables["Interface"])
        interface.name = self.port
        interface.external_ids = dict(self.ids)
        port = txn.insert(tables["Port"])
        port.name = self.port
        port.interfaces = [interface]
        target.addvalue("ports", port)

    def _identify(self, port: Any) -> None:
        for interface in port.interfaces:
            for key, value in self.ids.items():
                interface.setkey("external_ids", key, value)

    def _rival(self, port: Any) -> bool:
        """Return whether PORT is another one with our iface-id.

        ovn-controller would bind either of the two. An agent that named the
        veth in another way may have left it.
        """
        return (
            self.bridge is not None
            and port.name != self.port
            and _external_ids(port).get("iface-id") == self.ids["iface-id"]
        )


def given_chassis_name(option: str) -> str:
    """Return the chassis' name if the database does not decide it; else "".

    OPTION is what ovn-controller is started with (-n). Without it,
    ovn-controller reads 63 bytes of the first line of system-id-override
    when it starts, if that file exists (ovn-controller(8), system-id).
    Raises AgentError if the file can't be read.
    """
    if option:
        return option
    folder = os.environ.get("OVN_SYSCONFDIR", "/etc")
    file = Path(folder, "system-id-override")
    try:
        with file.open(errors="replace") as lines:
            return lines.readline(63).rstrip("\r\n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise AgentError(
            f"{file} has the chassis' name and can't be read: {error.strerror}"
        ) from None


def make_helper(remote: str) -> Any:
    """Return the schema of REMOTE with the columns that are read here."""
    return schemas.make_helper(remote, SCHEMA, _COLUMNS)
