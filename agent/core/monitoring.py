"""Which rows of the Southbound database to monitor.

This is a function of what is bound to the chassis, so the cost of monitoring
does not grow with the cloud. Clauses are those of OVSDB (RFC 7047, 5.1), as
the `ovs` IDL takes them.
"""

import dataclasses
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from ...privsep import names

Clause: TypeAlias = list[Any]

# Since OVN 21.12: where the port is to be bound. Neutron sets it before Nova
# plugs the port.
REQUESTED = "requested_chassis"
# Since OVN 22.06: the destination of a live migration. Neutron names one, so
# `==` finds it. The server looks up a condition of `==` alone in hash tables,
# and tries each clause of any other: 1.5 and 5.3 us a changed row with 54.
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
    networks: Collection[LocalNetwork],
    *,
    columns: Collection[str],
) -> dict[str, list[Clause]]:
    """Return the conditions for Port_Binding and Datapath_Binding.

    Ports: those bound to CHASSIS (None: it has no row, so no ports) or
    requested there, and the localport of each of NETWORKS. COLUMNS are those
    that Port_Binding has. A localport is found by its device id and then
    monitored by its name.
    """
    ports: list[Clause] = []
    if chassis is not None:
        ports = [
            [column, "==", ["uuid", str(chassis)]]
            for column in ("chassis", REQUESTED, *_ADDITIONAL)
            if column in columns
        ]
    found = [localport_clause(n.network, n.localport) for n in networks]
    clauses = {repr(clause): clause for clause in found if clause is not None}
    ports.extend(clauses[key] for key in sorted(clauses))
    datapaths = {*filter(None, (each.datapath for each in networks))}
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


def brings(
    current: Mapping[str, list[Clause]],
    wanted: Mapping[str, list[Clause]],
    networks: Iterable[LocalNetwork],
) -> bool:
    """Tell whether CURRENT brings all rows that WANTED of NETWORKS brings.

    A localport that is wanted by its name comes by its device id as well.
    """
    asked = {repr(clause) for table in current for clause in current[table]}
    for network in networks:
        if repr(localport_clause(network.network, None)) in asked:
            asked.add(repr(localport_clause(None, network.localport)))
    return asked.issuperset(
        repr(clause) for clauses in wanted.values() for clause in clauses
    )
