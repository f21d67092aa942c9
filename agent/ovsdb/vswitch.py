"""The local Open vSwitch database: chassis name, bridge, our ports."""

from __future__ import annotations

import collections
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from ovsdbapp.backend.ovs_idl import command
from ovsdbapp.backend.ovs_idl.connection import Connection

from ...privsep import names
from ...privsep.gate import Gate
from ..errors import AgentError
from ..model import VswitchPort, VswitchSnapshot
from . import schemas
from .connect import Database

SCHEMA = "Open_vSwitch"
# How long a change of a port waits for others.
_GATHER_S = 1.0
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
# A veth's name; an instance's tap device may have it too.
_VETH = re.compile("tap[0-9a-f]{8}-[0-9a-f]0")
_MARK, _SINCE = "ovn-installed", "ovn-installed-ts"  # ovn-controller(8)
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

    ON_SNAPSHOT is called after each change on the IDL's thread: it must not
    block.
    """

    schema = SCHEMA
    columns = _COLUMNS

    def __init__(
        self,
        remote: str,
        *,
        chassis_name: str,
        on_snapshot: Callable[[VswitchSnapshot], None],
    ) -> None:
        """CHASSIS_NAME, unless "", takes precedence over the system-id."""
        super().__init__(remote)
        self._decoded: dict[uuid.UUID, Port] = {}
        self._chassis_name = chassis_name
        self._on_snapshot = on_snapshot

    def _publish(self) -> None:
        root = next(iter(self.tables["Open_vSwitch"].rows.values()), None)
        ids = dict(root.external_ids) if root else {}
        chassis = self._chassis_name or ids.get("system-id", "")
        name = bridge_name(ids, chassis)
        bridges = self.bridges()
        bridge, _ = bridges.get(name, (None, []))
        ports = [(on, port) for on in bridges for port in bridges[on][1]]
        here = [port for on, port in ports if on == name]
        working = _by_iface_id(here)
        # The host may have another chassis, with a bridge of its own.
        elsewhere = [port for on, port in ports if on not in ids.values()]
        astray = _by_iface_id(p for p in elsewhere if "attached-mac" in p.ids)
        veths = [each for each in ports if _VETH.fullmatch(each[1].name)]
        named = collections.Counter(p.ids.get("iface-id") for p in here)
        is_late = root and root.cur_cfg < root.next_cfg
        snapshot = VswitchSnapshot(
            system_id=chassis,
            bridge=name,
            bridge_exists=bridge is not None,
            datapath_type=bridge.datapath_type if bridge else "",
            problem=_problem(root, bridge),
            ports={veth.name: veth.on_bridge(on, named) for on, veth in veths},
            ofports={v.name: v.ofport for _, v in veths if v.ofport},
            plugged=frozenset(working),
            doubled=_doubled(working),
            astray=frozenset(astray.keys() - working.keys()),
            installed={
                ids["iface-id"]: _seconds(ids.get(_SINCE, ""))
                for ids in (port.ids for port in here)
                if _MARK in ids and "iface-id" in ids
            },
            marked=frozenset(
                port.ids.get("iface-id", "")
                for port in here
                if _MARK in port.ids or _SINCE in port.ids
            ),
            applied=root.cur_cfg if root and is_late else None,
        )
        self._on_snapshot(snapshot)

    def bridges(self) -> dict[str, tuple[Any, list[Port]]]:
        """Return the row and the ports of each bridge, by its name.

        A port is decoded once, until `notify` reports a change: there may be
        hundreds, and the library takes 0.1 ms for one.
        """
        before, self._decoded = self._decoded, {}
        found = {}
        for bridge in self.tables["Bridge"].rows.values():
            ports = []
            for row in _referred(bridge, "ports", self.tables["Port"]):
                first = _referred(row, "interfaces", self.tables["Interface"])
                interface = next(first, row)
                port = before.get(interface.uuid)
                if port is None or port.row is not row:
                    has = interface is not row
                    ids = dict(interface.external_ids) if has else {}
                    ofport = next(iter(interface.ofport), 0) if has else 0
                    port = Port(row, row.name, ids, ofport, interface.uuid)
                self._decoded[interface.uuid] = port
                ports.append(port)
            found[bridge.name] = bridge, ports
        return found

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Note that ROW has changed."""
        super().notify(event, row, updates)
        self._decoded.pop(row.uuid, None)


def _referred(row: Any, column: str, table: Any) -> Iterator[Any]:
    """Yield the rows of TABLE that COLUMN of ROW refers to."""
    for key in row._data[column].values:
        if (found := table.rows.get(key.value)) is not None:
            yield found


def _seconds(milliseconds: str) -> int:
    return (schemas.number(milliseconds) or 0) // 1000


def _problem(root: Any, bridge: Any) -> str:
    """Return what keeps ovs-vswitchd from forwarding, and what to do."""
    if root is None or bridge is None:
        return ""
    if root.other_config.get("flow-restore-wait") == "true":
        return "it waits for flows: remove other_config:flow-restore-wait"
    kind, known = bridge.datapath_type or "system", root.datapath_types
    if known and kind not in known:
        text = f"it can't make the datapath_type {kind} of {bridge.name}"
        return f"{text}: set it to {' or '.join(known)}"
    return ""


def _by_iface_id(ports: Iterable[Port]) -> dict[str, list[Mapping[str, str]]]:
    """Return the external_ids of those PORTS that have a device, by iface-id.

    An instance that is shut off leaves a port without one. ovn-controller
    does not bind it.
    """
    found: dict[str, list[Mapping[str, str]]] = {}
    for port in ports:
        if port.ofport > 0 and (iface_id := port.ids.get("iface-id")):
            found.setdefault(iface_id, []).append(port.ids)
    return found


def _doubled(working: Mapping[str, list[Mapping[str, str]]]) -> frozenset[str]:
    """Return those of WORKING that several ports have, if OVN may be wrong.

    ovn-controller takes one of the ports, and marks it. That is the right one
    if Nova has made it, or has made none of them.
    """

    def is_right(several: list[Mapping[str, str]]) -> bool:
        marked = ["attached-mac" in ids for ids in several if _MARK in ids]
        novas = any("attached-mac" in ids for ids in several)
        return len(marked) == 1 and (marked[0] or not novas)

    return frozenset(
        iface_id
        for iface_id, several in working.items()
        if len(several) > 1 and not is_right(several)
    )


def bridge_name(ids: Mapping[str, str], chassis: str) -> str:
    """Return the integration bridge of CHASSIS by Open_vSwitch's IDS."""
    # ovn-controller(8): a key with the chassis' name takes precedence.
    own = ids.get(f"ovn-bridge-{chassis}")
    return own or ids.get("ovn-bridge", DEFAULT_BRIDGE)


class Port(NamedTuple):
    """A port of a bridge, with what its first interface has."""

    row: Any
    name: str
    ids: Mapping[str, str]  # external_ids
    ofport: int  # 0: none yet
    interface: uuid.UUID

    def on_bridge(
        self, bridge: str, named: Mapping[str | None, int]
    ) -> VswitchPort:
        """Return it as the model has it, on BRIDGE.

        NAMED is how many ports of the integration bridge have each iface-id.
        """
        network = self.ids.get(NETWORK_KEY, "")
        ours = names.is_network(network)
        ours = ours and self.name == names.outer_veth(network)
        ifindex = self.ids.get(IFINDEX_KEY, "")
        iface_id = self.ids.get("iface-id", "")
        return VswitchPort(
            bridge=bridge,
            iface_id=iface_id,
            network=network if ours else "",
            ifindex=schemas.number(ifindex) if ours else None,
            is_instance=not ours
            and any(key in self.ids for key in _INSTANCE_KEYS),
            has_rival=bool(iface_id) and named[iface_id] > 1,
            row=self.interface,
        )


class Wanted(NamedTuple):
    """A port with its external_ids, and its bridge; "" for none."""

    port: str
    bridge: str = ""
    ids: Mapping[str, str] = {}


class Vswitch(Database):
    """ovsdbapp's commands on the local database."""

    def __init__(self, link: Connection) -> None:
        super().__init__(link)
        # A thread that will soon call `plug` is `coming` to this gate.
        self.gate = Gate(_GATHER_S)
        # Ports off their bridges that ovs-vswitchd may still have.
        self._unreleased: set[str] = set()
        self._turn = threading.Lock()
        self._waiting: collections.deque[tuple[Wanted, Future[None]]]
        self._waiting = collections.deque()

    def plug(
        self, network: str, *, bridge: str, iface_id: str, ifindex: int
    ) -> None:
        """Ensure that the port of NETWORK is on BRIDGE and on no other.

        It gets IFACE_ID, and IFINDEX is the index of its device.

        Raises AgentError if the bridge does not exist; RuntimeError and
        ovsdbapp's TimeoutException if the database refuses or is gone;
        TimeoutError as `unplug_for_good`.
        """
        port = names.outer_veth(network)
        if port in self._unreleased:
            self.unplug_for_good(port)
        ids = {
            "iface-id": iface_id,
            NETWORK_KEY: network,
            IFINDEX_KEY: str(ifindex),
        }
        self._change(Wanted(port, bridge, ids))

    def unplug(self, port: str) -> None:
        """Ensure that PORT is on no bridge; raise as `plug` does."""
        self._unreleased.add(port)
        self._change(Wanted(port))

    def _change(self, wanted: Wanted) -> None:
        """Make WANTED so, in one transaction with what others want.

        For a transaction ovs-vswitchd and ovn-controller look at all ports:
        40 ms of CPU, if one of them changes or twenty.
        """
        outcome: Future[None] = Future()
        self._waiting.append((wanted, outcome))
        self.gate.wait()
        with self._turn:
            if not outcome.done():  # no other thread has made it
                many = range(len(self._waiting))
                self._make([self._waiting.popleft() for _ in many])
        outcome.result()

    def _make(self, changes: list[tuple[Wanted, Future[None]]]) -> None:
        """Make CHANGES and set their outcomes; one by one if refused.

        Not if the database hangs: each of them would wait as long again.
        """
        try:
            wanted = [each for each, _ in changes]
            counts = not all(each.bridge for each in wanted)
            request = PlugCommand(self, wanted, counts=counts)
            request.execute(check_error=True, log_errors=False)
        except Exception as error:  # noqa: BLE001 # for those who wait
            if type(error) is RuntimeError and changes[1:]:
                for change in changes:
                    self._make([change])
                return
            for _, outcome in changes:
                outcome.set_exception(error)
        else:
            for _, outcome in changes:
                outcome.set_result(None)

    def unplug_for_good(self, port: str) -> None:
        """Take PORT off its bridge; wait until ovs-vswitchd has released it.

        Waits as ovs-vsctl(8) does: next_cfg counts the requests, cur_cfg
        those that are done. Raises TimeoutError if it takes too long: the
        next call waits again. ovs-vswitchd does not see that a port goes if
        it is plugged again meanwhile, and keeps its device, which may be gone.
        """
        request = PlugCommand(self, [Wanted(port)], counts=True)
        count = request.execute(check_error=True, log_errors=False)
        if count is None and port not in self._unreleased:
            return  # it was on no bridge
        self._unreleased.add(port)
        connection = self.ovsdb_connection
        deadline = time.monotonic() + _VSWITCHD_TIMEOUT_S
        while True:
            with connection.lock:
                for row in connection.idl.tables["Open_vSwitch"].rows.values():
                    count = count or row.next_cfg
                    if row.cur_cfg >= count:
                        self._unreleased.discard(port)
                        return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    "ovs-vswitchd does not release a port; is it running?"
                )
            time.sleep(_VSWITCHD_POLL_S)


class PlugCommand(command.BaseCommand):  # type: ignore[misc]  # untyped
    """Put ports with their external_ids on a bridge, or on none.

    If it COUNTS and changes anything, its result is the number of this
    request to ovs-vswitchd.
    """

    def __init__(
        self, api: Any, wanted: Iterable[Wanted], *, counts: bool = False
    ) -> None:
        super().__init__(api)
        self.wanted = {each.port: each for each in wanted}
        self.counts = counts

    def run_idl(self, txn: Any) -> None:
        """Add the ports where they are missing; remove them from elsewhere.

        Another port with the iface-id of one of them goes: ovn-controller
        would bind either. An agent that named the veth in another way may
        have left it.
        """
        tables = self.api.idl.tables
        if not tables["Open_vSwitch"].rows:
            raise ConnectionError("the database is being read again")
        iface_ids = {w.ids["iface-id"] for w in self.wanted.values() if w.ids}
        missing = {w.port: w for w in self.wanted.values() if w.bridge}
        bridges = self.api.idl.bridges()
        for name, (bridge, ports) in bridges.items():
            for port in ports:
                wanted = self.wanted.get(port.name)
                if wanted is not None and wanted.bridge == name:
                    _identify(port.row, missing.pop(port.name).ids)
                elif wanted or port.ids.get("iface-id") in iface_ids:
                    bridge.delvalue("ports", port.row)
        for each in missing.values():
            if each.bridge not in bridges:
                raise AgentError(
                    f"bridge {each.bridge} not found; is ovn-bridge set in "
                    f"Open_vSwitch external_ids?",
                    "OVNMD-110",
                )
            _add(txn, tables, bridges[each.bridge][0], each)
        if self.counts:
            for row in tables["Open_vSwitch"].rows.values():
                row.increment("next_cfg")

    def post_commit(self, txn: Any) -> None:
        """Keep the number of this request; our copy of it may be older."""
        if self.counts:
            self.result = txn.get_increment_new_value()


def _identify(port: Any, ids: Mapping[str, str]) -> None:
    for interface in port.interfaces:
        for key, value in ids.items():
            interface.setkey("external_ids", key, value)


def _add(txn: Any, tables: Any, bridge: Any, wanted: Wanted) -> None:
    interface = txn.insert(tables["Interface"])
    interface.name = wanted.port
    interface.external_ids = dict(wanted.ids)
    port = txn.insert(tables["Port"])
    port.name = wanted.port
    port.interfaces = [interface]
    bridge.addvalue("ports", port)


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
