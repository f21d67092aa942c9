"""Read and remove the agent's registration in OVN's Southbound database.

`ovn-metadata-cleanup` does this with single queries: it monitors nothing.
"""

from ...privsep import names
from ..model import VswitchSnapshot
from . import connect
from .heartbeat import HEARTBEAT_KEY, ID_KEY
from .southbound import SCHEMA

# Without BRIDGE_KEY: Neutron's server plugs instances by it, with or without
# an agent, and it goes with the chassis.
KEYS = (ID_KEY, HEARTBEAT_KEY)


def read(remote: str, vswitch: VswitchSnapshot) -> tuple[set[str], set[str]]:
    """Return the keys in the chassis' row, and networks with a port.

    A network is found by its localport, because Neutron's agent puts no mark
    on its ports in VSWITCH. Raises OSError if no server of REMOTE answers.
    """
    if not vswitch.system_id:
        raise ConnectionError("no system-id in Open_vSwitch")
    unmarked = {
        (name, port.iface_id)
        for name, port in vswitch.ports.items()
        if port.iface_id and not port.network and not port.is_instance
    }
    columns = ["external_ids", "logical_port", "type"]
    named = ["name", "==", vswitch.system_id]
    queries = [
        connect.select("Chassis_Private", ["external_ids"], where=named)
    ]
    for _, iface_id in unmarked:
        own = ["logical_port", "==", iface_id]
        queries.append(connect.select("Port_Binding", columns, where=own))
    first, *others = connect.transact(remote, SCHEMA, queries)
    keys = {key for row in first["rows"] for key in row["external_ids"]}
    networks = set()
    for row in [row for result in others for row in result["rows"]]:
        device = row["external_ids"].get("neutron:device_id", "")
        network = names.network_of_namespace(device)
        if row["type"] == "localport" and network is not None:
            port = names.outer_veth(network), row["logical_port"]
            networks |= {network} if port in unmarked else set()
    return keys, networks


def remove(remote: str, chassis_name: str) -> None:
    """Remove our keys from the chassis' row; raise OSError."""
    mutation = {
        "op": "mutate",
        "table": "Chassis_Private",
        "where": [["name", "==", chassis_name]],
        "mutations": [["external_ids", "delete", ["set", list(KEYS)]]],
    }
    connect.transact(remote, SCHEMA, [mutation])
