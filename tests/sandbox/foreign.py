"""Other chassis and what is bound to them: rows that nobody runs."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Sequence

from . import ovsdb, rows
from .model import Port
from .ovn import Ovn
from .waiting import wait_for

_FOREIGN = ipaddress.IPv4Network("198.18.0.0/15")  # nobody lives there


def add_chassis(ovn: Ovn, name: str) -> str:
    """Add a chassis that nobody runs; return its uuid.

    It gets no Chassis_Private: `--wait=hv` would wait for it forever.
    """
    found = ovn.sb.select("Chassis", [["name", "==", name]], ["_uuid"])
    if found:
        return str(found[0]["_uuid"])
    number = len(ovn.sb.select("Encap", (), ["_uuid"]))
    encap = {
        "type": "geneve",
        "ip": str(_FOREIGN[number]),
        "chassis_name": name,
    }
    chassis = {
        "name": name,
        "hostname": name,
        "encaps": ["named-uuid", "encap"],
    }
    results = ovn.sb.transact(
        [
            {**ovsdb.insert("Encap", encap), "uuid-name": "encap"},
            ovsdb.insert("Chassis", chassis),
        ]
    )
    return str(results[1]["uuid"][1])


def bind(ovn: Ovn, chassis: str, count: int) -> None:
    """Bind to CHASSIS the COUNT ports whose Neutron host it is.

    One condition finds them all: a clause for each would make the
    server look at every row for every port.
    """
    of_chassis = [
        [
            "external_ids",
            "includes",
            ovsdb.to_map({"neutron:host_id": chassis}),
        ]
    ]
    row = {
        "chassis": ovsdb.to_uuid(add_chassis(ovn, chassis)),
        "up": True,
    }

    def bind_all() -> bool:
        operation = ovsdb.update("Port_Binding", of_chassis, row)
        (result,) = ovn.sb.transact([operation])
        return bool(result["count"] >= count)

    wait_for(
        bind_all,
        timeout_s=120,
        interval_s=0.2,
        what=f"{count} Port_Bindings of chassis {chassis}",
    )


def insert_bindings(ovn: Ovn, ports: Sequence[Port], chassis: str) -> None:
    """Add Port_Bindings of PORTS, bound to CHASSIS, past northd.

    All in one transaction, whatever networks they are of.
    """
    bound = add_chassis(ovn, chassis)
    switches = {port.network.switch for port in ports}
    places = {switch: _datapath(ovn, switch) for switch in switches}
    operations = []
    for port in ports:
        datapath, keys = places[port.network.switch]
        row = rows.binding_row(port, datapath, next(keys), chassis=bound)
        operations.append(ovsdb.insert("Port_Binding", row))
    ovn.sb.transact(operations)


def _datapath(ovn: Ovn, switch: str) -> tuple[str, Iterator[int]]:
    """Return SWITCH's Datapath_Binding and the tunnel keys free there."""
    name = ovsdb.to_map({"name": switch})
    (datapath,) = ovn.sb.select(
        "Datapath_Binding", [["external_ids", "includes", name]], ["_uuid"]
    )
    where = [["datapath", "==", ovsdb.to_uuid(datapath["_uuid"])]]
    there = ovn.sb.select("Port_Binding", where, ["tunnel_key"])
    first = 1 + max((int(row["tunnel_key"]) for row in there), default=0)
    return str(datapath["_uuid"]), itertools.count(first)
