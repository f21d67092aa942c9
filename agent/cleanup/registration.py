"""The agent's registration, and whose a port is, asked once.

For `ovn-metadata-cleanup`, which follows nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from .. import names
from ..ovsdb import connect
from ..ovsdb.heartbeat import BRIDGE_KEY, HEARTBEAT_KEY, ID_KEY
from ..ovsdb.southbound import SCHEMA

# BRIDGE_KEY is no part of it: Neutron's server plugs instances by it, with
# or without an agent, and it goes with the chassis.
KEYS = (ID_KEY, HEARTBEAT_KEY)


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    """What the Southbound database says of this host's metadata agent."""

    keys: tuple[str, ...]  # of ours, in Chassis_Private
    bridge: str  # that Neutron is told; ""
    networks: Mapping[str, str]  # logical port -> network, of localports


def read(
    remote: str, *, chassis_name: str, logical_ports: Collection[str]
) -> Registration:
    """Return what is there for CHASSIS_NAME and LOGICAL_PORTS.

    Raises OSError when no server of REMOTE answers.
    """
    operations = [
        connect.select(
            "Chassis_Private",
            ["external_ids"],
            where=["name", "==", chassis_name],
        ),
        *(
            connect.select(
                "Port_Binding",
                ["external_ids", "logical_port", "type"],
                where=["logical_port", "==", port],
            )
            for port in logical_ports
        ),
    ]
    results = connect.transact(remote, SCHEMA, operations)
    rows = [row for result in results for row in result["rows"]]
    ids: dict[str, str] = {}
    networks = {}
    for row in rows:
        given = dict(row["external_ids"][1])
        if "logical_port" not in row:
            ids = given
            continue
        device = given.get("neutron:device_id", "")
        network = names.network_of_namespace(device)
        if row["type"] == "localport" and network is not None:
            networks[row["logical_port"]] = network
    return Registration(
        keys=tuple(key for key in KEYS if key in ids),
        bridge=ids.get(BRIDGE_KEY, ""),
        networks=networks,
    )


def remove(remote: str, *, chassis_name: str) -> None:
    """Remove our keys from the row of CHASSIS_NAME; raise OSError."""
    mutation = {
        "op": "mutate",
        "table": "Chassis_Private",
        "where": [["name", "==", chassis_name]],
        "mutations": [["external_ids", "delete", ["set", list(KEYS)]]],
    }
    connect.transact(remote, SCHEMA, [mutation])
