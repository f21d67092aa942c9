"""Ask both databases once, for what the agent does not monitor."""

from collections.abc import Mapping
from typing import Any

from ..ovsdb import connect, southbound, vswitch

_PORT = ("logical_port", "type", "mac", "chassis")
_INTERFACE = (
    *("name", "ofport", "error", "link_state", "admin_state", "mtu"),
    "external_ids",
)


def _has(key: str, value: str) -> list[Any]:
    return ["external_ids", "includes", ["map", [[key, value]]]]


def elsewhere(remote: str, name: str) -> dict[str, Any]:
    """Return the ports in Southbound that NAME may mean, and the networks.

    `ports` are rows, each with `hostname` of its chassis ("" if unbound) and
    `chassis_name`; `networks` the ids of networks with this name or id.
    Raises OSError.
    """
    wheres = (
        ["logical_port", "==", name],
        _has("neutron:device_id", name),
        _has("neutron:port_name", name),
    )
    queries = [connect.select("Port_Binding", _PORT, where=w) for w in wheres]
    for where in (_has("name2", name), _has("name", f"neutron-{name}")):
        column = ["external_ids"]
        queries.append(connect.select("Datapath_Binding", column, where=where))
    queries.append(connect.select("Chassis", ["_uuid", "name", "hostname"]))
    *found, hosts = connect.transact(remote, southbound.SCHEMA, queries)
    by_id = {row["_uuid"]: row for row in hosts["rows"]}
    rows = [row for answer in found for row in answer["rows"]]
    ports = {row["logical_port"]: row for row in rows if "type" in row}
    for row in ports.values():
        chassis = by_id.get(row["chassis"] or "", {})
        row["type"] = row["type"] or ""
        row["hostname"] = chassis.get("hostname", "")
        row["chassis_name"] = chassis.get("name", "")
    datapaths = [row["external_ids"] for row in rows if "type" not in row]
    networks = {
        ids.get("name", "").removeprefix("neutron-")
        for ids in datapaths
        if "logical-switch" in ids
    }
    return {
        "ports": [ports[key] for key in sorted(ports)],
        "networks": sorted(networks),
    }


def _rank(row: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    ids = row["external_ids"]
    is_lost, has_no_flows = row["ofport"] < 1, "ovn-installed" not in ids
    return "attached-mac" not in ids, is_lost, has_no_flows


def interfaces(remote: str) -> dict[str, Any]:
    """Return iface-id -> interface of Open vSwitch; raise OSError.

    Of several with the same iface-id it is the one that Nova plugged, of
    several such the one that works, and `rivals` are the names of the others.
    """
    select = connect.select("Interface", _INTERFACE)
    (answer,) = connect.transact(remote, vswitch.SCHEMA, [select])
    found: dict[str, Any] = {}
    rows = sorted(answer["rows"], key=lambda row: str(row["name"]))
    for row in rows:
        ofport, error = row["ofport"], row["error"]
        row["ofport"] = ofport if isinstance(ofport, int) else -1
        row["error"] = error if isinstance(error, str) else ""
    for row in sorted(rows, key=_rank):
        if iface_id := row["external_ids"].get("iface-id"):
            first = found.setdefault(iface_id, {**row, "rivals": []})
            first["rivals"] += [row["name"]] * (first["name"] != row["name"])
    return found
