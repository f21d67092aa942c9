"""Port_Binding rows -> the model's values, or the reason why not.

Rows come as plain values (`PortRow`), so all of this is a function of what
the database says. The keys of `external_ids` are those that Neutron writes;
everything else is tolerated.
"""

import contextlib
import dataclasses
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from ...privsep import names, validate
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

# What an instance's port can be: a VIF, or "external", one behind SR-IOV or
# baremetal (ovn-sb(5), Port_Binding type).
_VIF = ""
_EXTERNAL = "external"
VIF_TYPES = (_VIF, _EXTERNAL)
_LOCALPORT = "localport"
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


def is_harmless(problem: str) -> bool:
    """Tell whether PROBLEM of a snapshot keeps no instance from its data."""
    return SKIPPED in problem or problem.endswith(_ANOTHER)


def is_local(row: PortRow, chassis: uuid.UUID | None) -> bool:
    """Tell whether ROW is an instance's port that CHASSIS has to serve."""
    return (
        chassis is not None
        and row.type in VIF_TYPES
        and (_is_bound(row, chassis) or _is_requested(row, chassis))
    )


def _is_bound(row: PortRow, chassis: uuid.UUID | None) -> bool:
    return row.chassis == chassis or chassis in row.additional_chassis


def _is_requested(row: PortRow, chassis: uuid.UUID | None) -> bool:
    """Tell whether ROW is to be bound to CHASSIS, to this one as well.

    A port that moves may still be bound to the chassis it comes from. An
    external port is bound to a gateway, whatever is requested.
    """
    requested = row.requested_chassis, *row.requested_additional_chassis
    return row.type == _VIF and chassis in requested


def is_metadata_port(row: PortRow) -> bool:
    """Tell whether ROW is a network's metadata port, of whatever type."""
    owner = row.external_ids.get("neutron:device_owner", "")
    return owner == _METADATA_OWNER


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


def parse_vif_port(
    row: PortRow, chassis: uuid.UUID | None
) -> tuple[VifPort, list[str]]:
    """Return ROW as an instance's port on CHASSIS, and what is left out.

    The `mac` column has the port's own MAC with its addresses, then the
    other MACs of its allowed address pairs. Raises UnusableRowError.
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
    localport = Localport(
        logical_port=_logical_port(row),
        mac=next(iter(parse_macs(row.mac)[0])),
        cidrs=frozenset(cidrs),
        mtu=_mtu(row.external_ids.get("neutron:mtu", "")),
    )
    return localport, left_out


def _mtu(text: str) -> int:
    """Return TEXT as an MTU in bytes; 0 if it is none."""
    number = int(text) if text.isdecimal() and len(text) < 6 else 0
    return number if validate.MIN_MTU <= number <= validate.MAX_MTU else 0


@dataclasses.dataclass(slots=True)
class _Network:
    """What the rows have shown of one network so far."""

    name: str = ""
    datapaths: set[uuid.UUID] = dataclasses.field(default_factory=set)
    # With the datapath of each.
    placed: list[tuple[uuid.UUID | None, VifPort]] = dataclasses.field(
        default_factory=list
    )
    localport: Localport | None = None
    localport_name: str | None = None  # also of one that can't be used
    localport_datapath: uuid.UUID | None = None
    has_second: bool = False  # another metadata port on that datapath

    @property
    def is_elsewhere(self) -> bool:
        """Whether its localport is on another datapath, or there is none."""
        return self.localport_datapath not in self.datapaths

    @property
    def ports(self) -> list[VifPort]:
        """The ports of its instances here."""
        return [port for _, port in self.placed]


def chassis_snapshot(
    rows: Iterable[PortRow],
    *,
    chassis: uuid.UUID | None,
    answered: Collection[Clause],
    plugged: Collection[str] = (),
    nb_cfg: int = 0,
    followed: int | None = None,
    is_filled: bool = True,
) -> tuple[ChassisSnapshot, list[LocalNetwork]]:
    """Return what ROWS say of CHASSIS, and which networks to ask for.

    ANSWERED are the clauses of Port_Binding that the server has answered;
    PLUGGED has the names of the metadata ports that are on the bridge;
    IS_FILLED tells whether ovn-northd has written the database at all.
    A row that can't be used becomes a problem and disturbs no other.
    """
    rows = list(rows)
    problems: list[str] = []
    networks, unserved = _read_ports(rows, chassis, problems)
    ranked = _ranked_localports(rows, networks, plugged)
    _read_localports(ranked, networks, problems)
    _leave_out_unreachable(networks, problems)
    snapshot = ChassisSnapshot(
        chassis=chassis,
        networks=_network_snapshots(networks, answered),
        problems=tuple(sorted(problems)),
        synced=is_filled
        and chassis is not None
        and chassis_clause(chassis) in answered,
        is_filled=is_filled,
        nb_cfg=nb_cfg,
        names=frozenset(
            row.logical_port
            for row in rows
            if row.chassis or not _is_requested(row, chassis)
        ),
        followed=followed,
    )
    return snapshot, _to_ask_for(networks, unserved)


def _leave_out_unreachable(
    networks: Mapping[str, _Network], problems: list[str]
) -> None:
    """Leave out ports on another switch than their metadata port.

    Two switches may have the name of one network, after Neutron has failed to
    make it again. Such a port may have the address of an instance that can be
    reached.
    """
    for network, entry in networks.items():
        if entry.localport is None or entry.is_elsewhere:
            continue
        placed, entry.placed = entry.placed, []
        for datapath, port in placed:
            if datapath in (None, entry.localport_datapath):
                entry.placed.append((datapath, port))
                continue
            problems.append(
                f"port {port.logical_port!r:.80} skipped: it is on another "
                f"switch than the metadata port of network {network}"
            )


def _network_snapshots(
    networks: Mapping[str, _Network], answered: Collection[Clause]
) -> dict[str, NetworkSnapshot]:
    """Return NETWORKS as the model has them."""
    parents = {
        port.logical_port: port
        for entry in networks.values()
        for port in entry.ports
    }
    return {
        network: NetworkSnapshot(
            network=network,
            localport=entry.localport,
            ports=tuple(
                sorted(
                    identity.with_parents(entry.ports, parents),
                    key=lambda port: port.logical_port,
                )
            ),
            complete=entry.localport_name is not None
            or localport_clause(network, None) in answered,
            name=entry.name,
        )
        for network, entry in networks.items()
    }


def _to_ask_for(
    networks: Mapping[str, _Network], unserved: Iterable[uuid.UUID | None]
) -> list[LocalNetwork]:
    """Return which rows to monitor for NETWORKS.

    UNSERVED datapaths, too: without a clause the row would go and come back.
    """
    # Asked for by its name, one in a better place would not be seen, nor that
    # there is another one.
    asked = [
        LocalNetwork(
            network,
            datapath,
            None
            if entry.is_elsewhere or entry.has_second
            else entry.localport_name,
        )
        for network, entry in networks.items()
        for datapath in entry.datapaths or (None,)
    ]
    return asked + [LocalNetwork(None, each, None) for each in unserved]


def _read_ports(
    rows: Iterable[PortRow], chassis: uuid.UUID | None, problems: list[str]
) -> tuple[dict[str, _Network], list[uuid.UUID | None]]:
    """Return the networks with instances' ports on CHASSIS, or soon there.

    Also the datapaths of ports that can't be served, whose reasons are
    added to PROBLEMS.
    """
    networks: dict[str, _Network] = {}
    unserved: list[uuid.UUID | None] = []
    foreign: dict[uuid.UUID | None, list[str]] = {}
    virtual = _virtual_addresses(rows, chassis)
    for row in rows:
        if not is_local(row, chassis):
            continue
        network = network_of(row)
        if network is None:
            unserved.append(row.datapath)
            if row.datapath_ids is not None or row.datapath is None:
                foreign.setdefault(row.datapath, []).append(row.logical_port)
            continue
        try:
            port, left_out = parse_vif_port(row, chassis)
        except UnusableRowError as error:
            unserved.append(row.datapath)
            problems.append(f"port {row.logical_port!r:.80} skipped: {error}")
            continue
        if left_out:
            more = f" (and {len(left_out) - 1} more)" if left_out[1:] else ""
            problems.append(
                f"port {row.logical_port!r:.80}, an address is left out: "
                f"{left_out[0]}{more}"
            )
        # northd copies it from the switch's neutron:network_name.
        name = _name((row.datapath_ids or {}).get("name2", ""))
        entry = networks.setdefault(network, _Network(name))
        used = virtual.get((row.datapath, row.logical_port), ())
        port = dataclasses.replace(port, virtual=used)
        entry.placed.append((row.datapath, port))
        if row.datapath is not None:
            entry.datapaths.add(row.datapath)
    problems += map(_foreign, foreign, foreign.values())
    return networks, unserved


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
) -> dict[tuple[uuid.UUID | None, str], tuple[IPAddress, ...]]:
    """Return (datapath, port) -> the virtual addresses that it uses.

    The address of a `virtual` port belongs to the parent that announces it:
    ovn-controller writes that into the row and binds it to its chassis.
    """
    used: dict[tuple[uuid.UUID | None, str], list[IPAddress]] = {}
    virtual = [
        row
        for row in rows
        if chassis is not None
        and row.chassis == chassis
        and row.type == _VIRTUAL
    ]
    for row in sorted(virtual, key=lambda row: row.logical_port):
        addresses = used.setdefault((row.datapath, row.virtual_parent), [])
        with contextlib.suppress(UnusableRowError):
            for own in parse_macs(row.mac)[0].values():
                addresses += own
    return {port: tuple(addresses) for port, addresses in used.items()}


def _ranked_localports(
    rows: Iterable[PortRow],
    networks: Mapping[str, _Network],
    plugged: Collection[str],
) -> list[tuple[str, PortRow]]:
    """Return the metadata ports of NETWORKS with the network, the best first.

    The best is on the datapath of the ports: a switch that was made again may
    have left an old one. Then one that is PLUGGED: DHCP gave the route by its
    address. Two of Neutron's servers may have made one each.
    """

    def rank(found: tuple[str, PortRow]) -> tuple[bool, bool, str]:
        network, row = found
        is_elsewhere = row.datapath not in networks[network].datapaths
        name = row.logical_port
        return is_elsewhere, name not in plugged, name

    found = [
        (network, row)
        for row in rows
        if is_metadata_port(row)
        and (network := network_of(row) or "") in networks
    ]
    return sorted(found, key=rank)


def _read_localports(
    ranked: Iterable[tuple[str, PortRow]],
    networks: Mapping[str, _Network],
    problems: list[str],
) -> None:
    """Note the metadata port of each of NETWORKS, the first one of RANKED."""
    for network, row in ranked:
        entry = networks[network]
        name = f"metadata port {row.logical_port!r:.80}"
        if row.type != _LOCALPORT:
            # Neutron makes it "virtual" when its address is an allowed
            # address pair; OVN then delivers nothing to it.
            problems.append(
                f"{name} of network {network} can't be used: its type is "
                f"{row.type!r:.20}; is its address in the "
                f"allowed_address_pairs of a port?"
            )
        elif entry.localport_name is not None:
            problems.append(f"{name} skipped: network {network}{_ANOTHER}")
            entry.has_second |= row.datapath == entry.localport_datapath
        else:
            entry.localport_name = row.logical_port
            entry.localport_datapath = row.datapath
            try:
                entry.localport, left_out = parse_localport(row)
            except UnusableRowError as error:
                problems.append(
                    f"{name} of network {network} can't be used: {error}"
                )
                continue
            problems.extend(
                f"{name} of network {network}, an address is left out: {text}"
                for text in left_out
            )
