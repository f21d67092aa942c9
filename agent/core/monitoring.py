"""Which rows of the Southbound database to monitor.

This is a function of what is bound to the chassis, so the cost of monitoring
does not grow with the cloud. Clauses are those of OVSDB (RFC 7047, 5.1), as
the `ovs` IDL takes them.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from ...privsep import names

Clause: TypeAlias = list[Any]

# Since OVN 21.12: where the port is to be bound. Neutron sets it before Nova
# plugs the port.
REQUESTED = "requested_chassis"
# Since OVN 22.06. They also have the destination of a live migration.
_ADDITIONAL = ("additional_chassis", "requested_additional_chassis")


@dataclasses.dataclass(frozen=True, slots=True)
class LocalNetwork:
    """What decides the clause for the localport of a network."""

    network: str | None  # None: the datapath's name is not known yet
    datapath: uuid.UUID | None
    localport: str | None  # logical port, once seen


def chassis_conditions(name: str) -> dict[str, list[Clause]]:
    """Return the conditions that find this chassis by its NAME."""
    clause = [["name", "==", name]]
    return {"Chassis": clause, "Chassis_Private": clause}


def port_conditions(
    chassis: uuid.UUID | None,
    networks: Iterable[LocalNetwork],
    *,
    columns: Collection[str],
) -> dict[str, list[Clause]]:
    """Return the conditions for Port_Binding and Datapath_Binding.

    Ports: those bound to CHASSIS (None: it has no row, so no ports) or
    requested there, and the localport of each of NETWORKS. COLUMNS are those
    that Port_Binding has. A localport is found by its device id and then
    monitored by its name, which costs the server a third of that.
    """
    ports: list[Clause] = []
    if chassis is not None:
        ports.append(chassis_clause(chassis))
        reference = ["uuid", str(chassis)]
        if REQUESTED in columns:
            ports.append([REQUESTED, "==", reference])
        ports += [
            [column, "includes", ["set", [reference]]]
            for column in _ADDITIONAL
            if column in columns
        ]
    datapaths: set[uuid.UUID] = set()
    clauses: dict[str, Clause] = {}
    for network in networks:
        if network.datapath is not None:
            datapaths.add(network.datapath)
        clause = localport_clause(network.network, network.localport)
        if clause is not None:
            clauses[repr(clause)] = clause
    ports.extend(clauses[key] for key in sorted(clauses))
    return {
        "Port_Binding": ports,
        "Datapath_Binding": [
            ["_uuid", "==", ["uuid", str(datapath)]]
            for datapath in sorted(datapaths)
        ],
    }


def chassis_clause(chassis: uuid.UUID) -> Clause:
    """Return the clause for what is bound to CHASSIS."""
    return ["chassis", "==", ["uuid", str(chassis)]]


def localport_clause(
    network: str | None, localport: str | None
) -> Clause | None:
    """Return the clause for a network's metadata port.

    By its name, LOCALPORT, once that is known; else by the device id that
    Neutron gives it.
    """
    if localport is not None:
        return ["logical_port", "==", localport]
    if network is None:
        return None
    device = names.NAMESPACE_PREFIX + network
    value = ["map", [["neutron:device_id", device]]]
    return ["external_ids", "includes", value]


def changed(
    current: Mapping[str, list[Clause]], wanted: Mapping[str, list[Clause]]
) -> dict[str, list[Clause]]:
    """Return the tables of WANTED whose condition differs from CURRENT's."""
    return {
        table: clauses
        for table, clauses in wanted.items()
        if current.get(table) != clauses
    }
