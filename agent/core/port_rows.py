"""One row -> one value of the model, or the reason why not.

Rows come as plain values (`PortRow`), so that all of this is a function of
what the database says. What a real Neutron writes: see the fields of
`external_ids` here; everything else is tolerated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from .. import names
from ..model import (
    ChassisSnapshot,
    IPAddress,
    IPInterface,
    Localport,
    NetworkSnapshot,
    VifPort,
)
from . import identity
from .addresses import UnusableRowError, parse_allowed, parse_cidr, parse_macs
from .monitoring import Clause, LocalNetwork, chassis_clause, localport_clause

# What an instance's port can be: "" a VIF, "external" one behind SR-IOV or
# baremetal (ovn-sb(5), Port_Binding type).
_VIF_TYPES = ("", "external")
_LOCALPORT = "localport"
# An address that ports may take one after the other ("virtual parents").
_VIRTUAL = "virtual"
# A load balancer's health monitor has a localport too.
_METADATA_OWNER = "network:distributed"

_NETWORK_NAME = re.compile(r"neutron-(.+)")
# Ids end up in a map file and in headers: nothing but what Nova's and
# Keystone's ids are made of.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}")
_LOGICAL_PORT = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}")
_MAX_MTU = 65535
_MIN_MTU = 68


@dataclasses.dataclass(frozen=True, slots=True)
class PortRow:
    """A Port_Binding with the datapath it refers to."""

    logical_port: str
    type: str
    mac: Sequence[str]
    external_ids: Mapping[str, str]
    datapath: uuid.UUID | None
    datapath_ids: Mapping[str, str] | None  # None: not monitored yet
    parent_port: str = ""
    chassis: uuid.UUID | None = None
    additional_chassis: frozenset[uuid.UUID] = frozenset()
    port_security: Sequence[str] = ()
    virtual_parent: str = ""  # logical port that has taken it


def is_local(row: PortRow, chassis: uuid.UUID | None) -> bool:
    """Tell whether ROW is an instance's port and is bound to CHASSIS."""
    return (
        chassis is not None
        and row.type in _VIF_TYPES
        and (row.chassis == chassis or chassis in row.additional_chassis)
    )


def is_metadata_port(row: PortRow) -> bool:
    """Tell whether ROW is a network's metadata port, of whatever type."""
    owner = row.external_ids.get("neutron:device_owner", "")
    return owner == _METADATA_OWNER


def network_of(row: PortRow) -> str | None:
    """Return the id of the network that ROW is a port of.

    Neutron names a switch `neutron-<network id>` and repeats that on the
    port; the port's own is there before the datapath's row is.
    """
    ids = row.datapath_ids or {}
    if "logical-router" in ids:
        return None
    name = ids.get("name") or row.external_ids.get("neutron:network_name", "")
    match = _NETWORK_NAME.fullmatch(name)
    if match is None:
        return None
    network = match.group(1).lower()
    return network if names.is_network(network) else None


def _identifier(text: str, what: str) -> str:
    if text and _ID.fullmatch(text) is None:
        raise UnusableRowError(f"its {what} {text!r:.60} has strange letters")
    return text


def _logical_port(row: PortRow) -> str:
    if _LOGICAL_PORT.fullmatch(row.logical_port) is None:
        raise UnusableRowError("its name has blanks or control characters")
    return row.logical_port


def parse_vif_port(row: PortRow) -> tuple[VifPort, list[str]]:
    """Return ROW as an instance's port, and what is left out of it.

    Beside its own MAC, which has its addresses, `mac` names the other MACs
    of its allowed address pairs. Raises UnusableRowError.
    """
    macs, left_out = parse_macs(row.mac)
    addresses = dict.fromkeys(
        (address, mac) for mac, own in macs.items() for address in own
    )
    ids = row.external_ids
    port = VifPort(
        logical_port=_logical_port(row),
        mac=next((mac for _, mac in addresses), next(iter(macs))),
        macs=frozenset(macs),
        addresses=tuple(addresses),
        allowed=tuple(
            pair
            for pair in parse_allowed(row.port_security)
            if pair not in addresses
        ),
        instance=_identifier(ids.get("neutron:device_id", ""), "device id"),
        project=_identifier(ids.get("neutron:project_id", ""), "project id"),
        parent=row.parent_port,
    )
    return port, left_out


def parse_localport(row: PortRow) -> tuple[Localport, list[str]]:
    """Return ROW as a network's metadata port, and what is left out of it.

    Its addresses are in `neutron:cidrs` (by blanks; "" with DHCP off), its
    MTU, in bytes, in `neutron:mtu`. Raises UnusableRowError.
    """
    cidrs: set[IPInterface] = set()
    left_out = []
    for word in row.external_ids.get("neutron:cidrs", "").split():
        try:
            cidrs.add(parse_cidr(word))
        except UnusableRowError as error:
            left_out.append(str(error))
    mtu = row.external_ids.get("neutron:mtu", "")
    localport = Localport(
        logical_port=_logical_port(row),
        mac=next(iter(parse_macs(row.mac)[0])),
        cidrs=frozenset(cidrs),
        mtu=int(mtu)
        if mtu.isdecimal()
        and len(mtu) < 6
        and _MIN_MTU <= int(mtu) <= _MAX_MTU
        else 0,
    )
    return localport, left_out


@dataclasses.dataclass(slots=True)
class _Gathered:
    """What has been seen of one network while the rows are read."""

    datapaths: set[uuid.UUID] = dataclasses.field(default_factory=set)
    ports: list[VifPort] = dataclasses.field(default_factory=list)
    localport: Localport | None = None
    seen_localport: str | None = None
    is_elsewhere: bool = False  # that one, on a datapath without ports

    @property
    def datapath(self) -> uuid.UUID | None:
        """Its datapath; the first, should two have its name."""
        return min(self.datapaths, default=None)


def _gather_localports(
    rows: Iterable[PortRow],
    gathered: Mapping[str, _Gathered],
    problems: list[str],
) -> None:
    """Note the metadata port of each network in GATHERED.

    Of several that which is on the datapath of its ports: a switch that was
    made anew may have left another one's behind.
    """
    found = [
        (row.datapath not in entry.datapaths, row.logical_port, row, entry)
        for row in rows
        if is_metadata_port(row)
        and (entry := gathered.get(network_of(row) or "")) is not None
    ]
    for is_elsewhere, _, row, entry in sorted(found, key=lambda f: f[:2]):
        network = network_of(row)
        if row.type != _LOCALPORT:
            # Neutron makes it "virtual" for an allowed address pair that
            # has its address; OVN then delivers nothing to it.
            problems.append(
                f"metadata port {row.logical_port!r:.80} of network "
                f"{network} can't be used: its type is {row.type!r:.20}; is "
                f"its address in the allowed_address_pairs of a port?"
            )
            continue
        if entry.seen_localport is not None:
            problems.append(
                f"metadata port {row.logical_port!r:.80} skipped: network "
                f"{network} has another one"
            )
            continue
        entry.seen_localport = row.logical_port
        entry.is_elsewhere = is_elsewhere
        try:
            entry.localport, left_out = parse_localport(row)
            problems.extend(
                f"metadata port {row.logical_port!r:.80} of network "
                f"{network}, an address is left out: {reason}"
                for reason in left_out
            )
        except UnusableRowError as error:
            problems.append(
                f"metadata port {row.logical_port!r:.80} of network "
                f"{network} can't be used: {error}"
            )


def _gather_ports(
    rows: Iterable[PortRow], chassis: uuid.UUID | None, problems: list[str]
) -> tuple[dict[str, _Gathered], list[LocalNetwork]]:
    """Return the networks with instances' ports on CHASSIS, and the others.

    Those are of ports that are not served: their datapaths stay monitored,
    or a row would come and go with every look at it.
    """
    gathered: dict[str, _Gathered] = {}
    others: list[LocalNetwork] = []
    taken = _virtual_addresses(rows, chassis)
    for row in rows:
        if not is_local(row, chassis):
            continue
        network = network_of(row)
        if network is None:
            others.append(LocalNetwork(None, row.datapath, None))
            if row.datapath_ids is not None or row.datapath is None:
                problems.append(
                    f"port {row.logical_port!r:.80} skipped: its datapath "
                    f"{row.datapath} has no name of the form neutron-<uuid>"
                )
            continue
        try:
            port, left_out = parse_vif_port(row)
        except UnusableRowError as error:
            others.append(LocalNetwork(None, row.datapath, None))
            problems.append(f"port {row.logical_port!r:.80} skipped: {error}")
            continue
        if left_out:
            more = f" (and {len(left_out) - 1} more)" if left_out[1:] else ""
            problems.append(
                f"port {row.logical_port!r:.80}, an address is left out: "
                f"{left_out[0]}{more}"
            )
        virtual = taken.get((row.datapath, row.logical_port), ())
        port = dataclasses.replace(port, virtual=tuple(virtual))
        entry = gathered.setdefault(network, _Gathered())
        entry.ports.append(port)
        if row.datapath is not None:
            entry.datapaths.add(row.datapath)
    return gathered, others


def _virtual_addresses(
    rows: Iterable[PortRow], chassis: uuid.UUID | None
) -> dict[tuple[uuid.UUID | None, str], list[IPAddress]]:
    """Return (datapath, port) -> the virtual addresses that it has taken.

    Who announces the address of a `virtual` port from one of its parents
    has it: ovn-controller says so in the row, and binds it where that is.
    """
    taken: dict[tuple[uuid.UUID | None, str], list[IPAddress]] = {}
    virtual = [
        row
        for row in rows
        if chassis is not None
        and row.chassis == chassis
        and row.type == _VIRTUAL
    ]
    for row in sorted(virtual, key=lambda row: row.logical_port):
        holder = taken.setdefault((row.datapath, row.virtual_parent), [])
        with contextlib.suppress(UnusableRowError):
            for addresses in parse_macs(row.mac)[0].values():
                holder += addresses
    return taken


def chassis_snapshot(
    rows: Iterable[PortRow],
    *,
    chassis: uuid.UUID | None,
    answered: Collection[Clause],
    nb_cfg: int = 0,
    is_filled: bool = True,
) -> tuple[ChassisSnapshot, list[LocalNetwork]]:
    """Return what ROWS say of CHASSIS, and which networks to ask for.

    ANSWERED are the clauses of Port_Binding that the server has answered;
    IS_FILLED tells whether it has anything to answer yet.
    A row that can't be used becomes a problem and disturbs no other.
    """
    rows = list(rows)
    problems: list[str] = []
    gathered, others = _gather_ports(rows, chassis, problems)
    _gather_localports(rows, gathered, problems)
    parents = {
        port.logical_port: port
        for entry in gathered.values()
        for port in entry.ports
    }
    networks = {
        network: NetworkSnapshot(
            network=network,
            datapath=entry.datapath,
            localport=entry.localport,
            ports=tuple(
                sorted(
                    identity.with_parents(entry.ports, parents),
                    key=lambda port: port.logical_port,
                )
            ),
            complete=entry.seen_localport is not None
            or localport_clause(network, None) in answered,
        )
        for network, entry in gathered.items()
    }
    asked = [
        LocalNetwork(
            network,
            entry.datapath,
            # Else a better one would not be seen.
            None if entry.is_elsewhere else entry.seen_localport,
        )
        for network, entry in gathered.items()
    ]
    others += [
        LocalNetwork(None, datapath, None)
        for entry in gathered.values()
        for datapath in entry.datapaths - {entry.datapath}
    ]
    return (
        ChassisSnapshot(
            chassis=chassis,
            networks=networks,
            problems=tuple(sorted(problems)),
            synced=is_filled
            and chassis is not None
            and chassis_clause(chassis) in answered,
            is_filled=is_filled,
            nb_cfg=nb_cfg,
        ),
        asked + others,
    )
