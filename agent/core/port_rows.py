"""Port_Binding rows -> the model's values, or the reason why not.

Rows come as plain values (`PortRow`), so all of this is a function of what
the database says. The keys of `external_ids` are those that Neutron writes;
everything else is tolerated.
"""

import collections
import contextlib
import dataclasses
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from ...privsep import names, validate
from ..model import (
    ChassisSnapshot,
    IPAddress,
    IPInterface,
    Localport,
    NetworkSnapshot,
    VifPort,
)
from .addresses import (
    NO_MAC,
    UnusableRowError,
    parse_allowed,
    parse_cidr,
    parse_macs,
)
from .monitoring import Clause, LocalNetwork, chassis_clause, localport_clause

# What an instance's port can be: a VIF, or "external", one behind SR-IOV or
# baremetal (ovn-sb(5), Port_Binding type).
_VIF = ""
_EXTERNAL = "external"
VIF_TYPES = (_VIF, _EXTERNAL)
# An address that ports may use one after the other (its virtual parents).
_VIRTUAL = "virtual"
# A load balancer's health monitor has a localport too, of another owner.
_METADATA_OWNER = "network:distributed"

_NETWORK_NAME = re.compile(r"neutron-(.+)")
# Ids end up in a map file and in headers: nothing but what Nova's and
# Keystone's ids are made of.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}")
_LOGICAL_PORT = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}")
# The text after it stays the same while ports of the datapath come and go.
SKIPPED = " skipped: datapath "
_ANOTHER = " has another"
_NO_MAC = f" skipped: {NO_MAC}"
# Long enough to recognise a name.
_MOST_NAME = 80


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
    tag: int = 0
    chassis: uuid.UUID | None = None
    additional_chassis: frozenset[uuid.UUID] = frozenset()
    requested_chassis: uuid.UUID | None = None
    requested_additional_chassis: frozenset[uuid.UUID] = frozenset()
    port_security: Sequence[str] = ()
    virtual_parent: str = ""  # the logical port that uses it now
    row: uuid.UUID | None = None


# The columns of Port_Binding that are read; the fields have their names.
_FIELDS = {field.name for field in dataclasses.fields(PortRow)}
COLUMNS = sorted(_FIELDS - {"datapath_ids", "row"})

# The ports of one network's instances here, each with its row.
_Placed: TypeAlias = list[tuple[PortRow, VifPort]]


def is_harmless(problem: str) -> bool:
    """Tell whether PROBLEM of a snapshot is no fault of the cloud's."""
    return SKIPPED in problem or problem.endswith((_ANOTHER, _NO_MAC))


def is_local(row: PortRow, chassis: uuid.UUID | None) -> bool:
    """Tell whether ROW is an instance's port that CHASSIS has to serve."""
    return (
        chassis is not None
        and row.type in VIF_TYPES
        and (_is_bound(row, chassis) or _is_requested(row, chassis))
    )


def _is_bound(row: PortRow, chassis: uuid.UUID | None) -> bool:
    """Tell whether ROW is bound to CHASSIS.

    As an additional chassis only while it is requested: if ovn-controller
    (23.03) is dead when a migration is aborted, it stays in the row.
    """
    return row.chassis == chassis or (
        chassis in row.additional_chassis and _is_requested(row, chassis)
    )


def _is_requested(row: PortRow, chassis: uuid.UUID | None) -> bool:
    """Tell whether ROW is to be bound to CHASSIS, to this one as well.

    A port that moves may still be bound to the chassis it comes from. An
    external port is bound to a gateway, whatever is requested.
    """
    requested = row.requested_chassis, *row.requested_additional_chassis
    return row.type == _VIF and chassis in requested


def network_of(row: PortRow) -> str | None:
    """Return the id of the network that ROW is a port of.

    Neutron names a switch `neutron-<network id>` and writes the same on the
    port, which arrives before the row of its datapath.
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
        raise UnusableRowError(
            f"its {what} {text!r:.60} has characters that no id has"
        )
    return text


def _name(text: str) -> str:
    """Return TEXT, which a project chose, as it may be printed."""
    letters = (letter if letter.isprintable() else "?" for letter in text)
    return "".join(letters)[:_MOST_NAME]


def _logical_port(row: PortRow) -> str:
    if _LOGICAL_PORT.fullmatch(row.logical_port) is None:
        raise UnusableRowError("its name has blanks or control characters")
    return row.logical_port


def _vif_port(
    row: PortRow, chassis: uuid.UUID | None, local: Mapping[str, PortRow]
) -> tuple[VifPort, list[str]]:
    """Return ROW as an instance's port on CHASSIS, and what is left out.

    The `mac` column has the port's own MAC with its addresses, then the
    other MACs of its allowed address pairs. Neutron writes no device id on a
    trunk's subport; it has the instance of its parent, if that is LOCAL.
    Raises UnusableRowError.
    """
    macs, left_out = parse_macs(row.mac)
    addresses = dict.fromkeys(
        (address, mac) for mac, own in macs.items() for address in own
    )
    ids = owner = row.external_ids
    if row.parent_port and not ids.get("neutron:device_id"):
        owner = {**ids, **local.get(row.parent_port, row).external_ids}
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
        instance=_identifier(owner.get("neutron:device_id", ""), "device id"),
        project=_identifier(owner.get("neutron:project_id", ""), "project id"),
        parent=row.parent_port,
        name=_name(ids.get("neutron:port_name", "")),
        bound=_is_bound(row, chassis),
        moves_here=chassis in row.additional_chassis,
        tag=row.tag,
        is_external=row.type == _EXTERNAL,
    )
    return port, left_out


def parse_localport(row: PortRow) -> tuple[Localport, list[str]]:
    """Return ROW as a network's metadata port, and what is left out of it.

    `neutron:cidrs` has its addresses, separated by blanks ("" with DHCP
    off), `neutron:mtu` its MTU in bytes. Raises UnusableRowError.
    """
    cidrs: set[IPInterface] = set()
    left_out = []
    for word in row.external_ids.get("neutron:cidrs", "").split():
        try:
            cidrs.add(parse_cidr(word))
        except UnusableRowError as error:
            left_out.append(str(error))
    text = row.external_ids.get("neutron:mtu", "")
    mtu = int(text) if text.isdecimal() and len(text) < 6 else 0
    localport = Localport(
        logical_port=_logical_port(row),
        mac=next(iter(parse_macs(row.mac)[0])),
        cidrs=frozenset(cidrs),
        mtu=mtu if validate.MIN_MTU <= mtu <= validate.MAX_MTU else 0,
    )
    return localport, left_out


def chassis_snapshot(
    rows: Iterable[PortRow],
    *,
    chassis: uuid.UUID | None,
    answered: Collection[Clause],
    plugged: Collection[str] = (),
    is_filled: bool = True,
) -> tuple[ChassisSnapshot, list[LocalNetwork]]:
    """Return what ROWS say of CHASSIS, and which networks to ask for.

    ANSWERED are the clauses of Port_Binding that the server has answered;
    PLUGGED has the names of the metadata ports that are on the bridge;
    IS_FILLED tells whether ovn-northd has written the database at all.
    A row that can't be used becomes a problem and disturbs no other.
    """
    rows = sorted(rows, key=lambda row: row.logical_port)
    problems: list[str] = []
    placed, asked = _read_ports(rows, chassis, problems)
    metadata = collections.defaultdict(list)
    for row in rows:  # a metadata port may have any type
        if row.external_ids.get("neutron:device_owner") == _METADATA_OWNER:
            metadata[network_of(row)].append(row)
    networks = {}
    for network, ports in placed.items():
        own = _localports(metadata[network], network, ports, plugged, problems)
        networks[network] = _snapshot(network, ports, own, answered, problems)
        asked += _to_ask_for(network, ports, own)
    snapshot = ChassisSnapshot(
        chassis=chassis,
        networks=networks,
        problems=tuple(sorted(problems)),
        synced=is_filled
        and chassis is not None
        and chassis_clause(chassis) in answered,
        is_filled=is_filled,
        names=frozenset(
            row.logical_port
            for row in rows
            if row.chassis or not _is_requested(row, chassis)
        ),
        cookies={
            row.logical_port: row.row.int >> 96 for row in rows if row.row
        },
    )
    return snapshot, asked


def _read_ports(
    rows: Iterable[PortRow], chassis: uuid.UUID | None, problems: list[str]
) -> tuple[dict[str, _Placed], list[LocalNetwork]]:
    """Return network -> the instances' ports on CHASSIS, or soon there.

    Also what to ask for of ports that can't be served, whose reasons are
    added to PROBLEMS: without a clause the row of their datapath would go
    and come back.
    """
    networks: dict[str, _Placed] = {}
    unserved: list[LocalNetwork] = []
    foreign: dict[uuid.UUID | None, list[str]] = {}
    virtual = _virtual_addresses(rows, chassis)
    local = {row.logical_port: row for row in rows if is_local(row, chassis)}
    for row in local.values():
        network = network_of(row)
        if network is None:
            unserved.append(LocalNetwork(None, row.datapath, None))
            if row.datapath_ids is not None or row.datapath is None:
                foreign.setdefault(row.datapath, []).append(row.logical_port)
            continue
        what = f"port {row.logical_port!r:.80}"
        try:
            port, left_out = _vif_port(row, chassis, local)
        except UnusableRowError as error:
            unserved.append(LocalNetwork(None, row.datapath, None))
            problems.append(f"{what} skipped: {error}")
            continue
        problems += _left_out(what, left_out)
        used = virtual.get((row.datapath, row.logical_port), ())
        port = dataclasses.replace(port, virtual=tuple(used))
        networks.setdefault(network, []).append((row, port))
    problems += map(_foreign, foreign, foreign.values())
    return networks, unserved


def _left_out(what: str, reasons: list[str]) -> list[str]:
    """Return one problem of WHAT for all REASONS; none if there are none."""
    more = f" (and {len(reasons) - 1} more)" if reasons[1:] else ""
    first = reasons[:1]
    return [f"{what}, an address is left out: {why}{more}" for why in first]


def _foreign(datapath: uuid.UUID | None, ports: list[str]) -> str:
    """Return one problem for all PORTS of a DATAPATH that is not Neutron's.

    Another CMS may have hundreds in the same database.
    """
    which = (
        f"port {ports[0]!r:.80}" if len(ports) == 1 else f"{len(ports)} ports"
    )
    return f"{which}{SKIPPED}{datapath} has no name of the form neutron-<uuid>"


def _virtual_addresses(
    rows: Iterable[PortRow], chassis: uuid.UUID | None
) -> dict[tuple[uuid.UUID | None, str], list[IPAddress]]:
    """Return (datapath, port) -> the virtual addresses that it uses.

    The address of a `virtual` port belongs to the parent that announces it:
    ovn-controller writes that into the row and binds it to its chassis.
    """
    used: dict[tuple[uuid.UUID | None, str], list[IPAddress]] = {}
    for row in rows:
        if row.type == _VIRTUAL and row.chassis == chassis:
            addresses = used.setdefault((row.datapath, row.virtual_parent), [])
            with contextlib.suppress(UnusableRowError):
                for own in parse_macs(row.mac)[0].values():
                    addresses += own
    return used


def _localports(
    rows: Iterable[PortRow],
    network: str,
    placed: _Placed,
    plugged: Collection[str],
    problems: list[str],
) -> list[PortRow]:
    """Return those of NETWORK's metadata ports ROWS that may serve.

    The first one does: the best is on a datapath of the ports PLACED, since a
    switch that was made again may have left an old one. Then one that is
    PLUGGED: DHCP gave the route by its address. Two of Neutron's servers may
    have made one each.
    """
    datapaths = _datapaths(placed)
    ranked = sorted(
        rows,
        key=lambda row: (
            row.datapath not in datapaths,
            row.logical_port not in plugged,
        ),
    )
    found: list[PortRow] = []
    for row in ranked:
        name = f"metadata port {row.logical_port!r:.80}"
        if row.type != "localport":
            # Neutron makes it "virtual" when its address is an allowed
            # address pair; OVN then delivers nothing to it.
            problems.append(
                f"{name} of network {network} can't be used: its type is "
                f"{row.type!r:.20}; is its address in the "
                f"allowed_address_pairs of a port?"
            )
            continue
        if found:
            problems.append(f"{name} skipped: network {network}{_ANOTHER}")
        found.append(row)
    return found


def _snapshot(
    network: str,
    placed: _Placed,
    localports: Sequence[PortRow],
    answered: Collection[Clause],
    problems: list[str],
) -> NetworkSnapshot:
    """Return NETWORK with the ports PLACED and the first of LOCALPORTS.

    Ports on another switch are left out. Two may have the name of one
    network, after Neutron has failed to make it again. Such a port may have
    the address of an instance that can be reached.
    """
    localport, ports = None, [port for _, port in placed]
    for row in localports[:1]:
        what = f"metadata port {row.logical_port!r:.80} of network {network}"
        try:
            localport, left_out = parse_localport(row)
        except UnusableRowError as error:
            problems.append(f"{what} can't be used: {error}")
            continue
        problems += _left_out(what, left_out)
        # Else the right one has not been seen yet.
        if row.datapath in _datapaths(placed):
            for other, port in placed:
                if other.datapath not in (None, row.datapath):
                    ports.remove(port)
                    problems.append(
                        f"port {port.logical_port!r:.80} skipped: it is on "
                        f"another switch than the metadata port of network "
                        f"{network}"
                    )
    return NetworkSnapshot(
        network=network,
        localport=localport,
        ports=tuple(ports),
        complete=bool(localports)
        or localport_clause(network, None) in answered,
        # northd copies it from the switch's neutron:network_name.
        name=_name((placed[0][0].datapath_ids or {}).get("name2", "")),
    )


def _to_ask_for(
    network: str, placed: _Placed, localports: Sequence[PortRow]
) -> list[LocalNetwork]:
    datapaths = _datapaths(placed)
    on = [row.datapath for row in localports]
    # A condition with its name would hide others: one on the datapath of the
    # ports, or a second one there.
    is_known = on[:1] and on[0] in datapaths and on.count(on[0]) == 1
    name = localports[0].logical_port if is_known else None
    return [LocalNetwork(network, each, name) for each in datapaths or (None,)]


def _datapaths(placed: _Placed) -> set[uuid.UUID]:
    return {row.datapath for row, _ in placed if row.datapath}
