"""Read and remove the agent's registration in OVN's Southbound database.

`ovn-metadata-cleanup` does this with single queries: it monitors nothing.
"""

from . import connect
from .heartbeat import HEARTBEAT_KEY, ID_KEY
from .southbound import SCHEMA

# Without BRIDGE_KEY: Neutron's server plugs instances by it, with or without
# an agent, and it goes with the chassis.
KEYS = (ID_KEY, HEARTBEAT_KEY)


def read(remote: str, chassis_name: str) -> set[str]:
    """Return the keys in the chassis' row; raise OSError if none answers."""
    if not chassis_name:
        raise ConnectionError("no system-id in Open_vSwitch")
    named = ["name", "==", chassis_name]
    query = connect.select("Chassis_Private", ["external_ids"], where=named)
    (found,) = connect.transact(remote, SCHEMA, [query])
    return {key for row in found["rows"] for key in row["external_ids"]}


def remove(remote: str, chassis_name: str) -> None:
    """Remove our keys from the chassis' row; raise OSError."""
    mutation = {
        "op": "mutate",
        "table": "Chassis_Private",
        "where": [["name", "==", chassis_name]],
        "mutations": [["external_ids", "delete", ["set", list(KEYS)]]],
    }
    connect.transact(remote, SCHEMA, [mutation])
