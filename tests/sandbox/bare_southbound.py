"""A Southbound database without OVN: the rows of a cloud, and nobody else.

For what follows rows and is to be seen, counted or measured by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import itertools
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import ovsdb
from .daemons import Daemon, run
from .southbound import DATABASE

SCHEMA = Path("/usr/share/ovn/ovn-sb.ovsschema")
# Of a port in its datapath; no other port here has it.
FREE_KEY = 32767
_KEYS = itertools.count(1)


def new_id() -> str:
    """Return a new uuid as text."""
    return str(uuid.uuid4())


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """A network's rows: its datapath, and its localport once inserted."""

    id: str = dataclasses.field(default_factory=new_id)
    datapath: str = dataclasses.field(default_factory=new_id)
    localport: str = dataclasses.field(default_factory=new_id)


def insert_chassis(name: str) -> list[ovsdb.Operation]:
    """Return what adds the chassis NAME; its row has its name as uuid."""
    ip = str(ipaddress.IPv4Address("198.18.0.0") + next(_KEYS))
    encap = {"type": "geneve", "ip": ip, "chassis_name": name}
    encap_id = new_id()
    row = {"name": name, "hostname": name, "encaps": ovsdb.to_uuid(encap_id)}
    return [
        ovsdb.insert("Encap", encap, uuid=encap_id),
        ovsdb.insert("Chassis", row, uuid=name),
    ]


def insert_network(network: Network) -> list[ovsdb.Operation]:
    """Return what adds NETWORK with its localport."""
    name = f"neutron-{network.id}"
    datapath = {
        "tunnel_key": next(_KEYS),
        "external_ids": ovsdb.to_map({"name": name, "name2": "net"}),
    }
    localport = _port_row(network, network.localport, "10.0.0.2")
    localport["type"] = "localport"
    localport["external_ids"] = _external_ids(
        network, f"ovnmeta-{network.id}", "network:distributed"
    )
    return [
        ovsdb.insert("Datapath_Binding", datapath, uuid=network.datapath),
        ovsdb.insert("Port_Binding", localport, uuid=network.localport),
    ]


def insert_port(
    network: Network, port: str, chassis: str, *, address: str = "10.0.0.3"
) -> ovsdb.Operation:
    """Return what adds an instance's PORT, bound to CHASSIS, a uuid each."""
    row = _port_row(network, port, address)
    row["chassis"] = row["requested_chassis"] = ovsdb.to_uuid(chassis)
    row["up"] = True
    return ovsdb.insert("Port_Binding", row, uuid=port)


def _port_row(network: Network, port: str, address: str) -> ovsdb.Json:
    mac = f"fa:16:3e:{uuid.UUID(port).bytes[:3].hex(':')} {address}"
    return {
        "logical_port": port,
        "datapath": ovsdb.to_uuid(network.datapath),
        "tunnel_key": next(_KEYS) % 32766 + 1,
        "mac": mac,
        "port_security": mac,
        "external_ids": _external_ids(network, new_id(), "compute:nova"),
    }


def _external_ids(network: Network, device: str, owner: str) -> ovsdb.Json:
    return ovsdb.to_map(
        {
            "neutron:cidrs": "10.0.0.2/16",
            "neutron:device_id": device,
            "neutron:device_owner": owner,
            "neutron:mtu": "1442",
            "neutron:network_name": f"neutron-{network.id}",
            "neutron:port_name": "port",
            "neutron:project_id": uuid.UUID(network.id).hex,
            "neutron:revision_number": "2",
            "neutron:security_group_ids": network.id,
            "neutron:vnic_type": "normal",
        }
    )


def by_ids(rows: Sequence[str]) -> list[ovsdb.Operation]:
    """Return what deletes the Port_Bindings ROWS."""
    return [ovsdb.delete("Port_Binding", ovsdb.by_uuid(row)) for row in rows]


@contextlib.contextmanager
def southbound(folder: Path, *remotes: str) -> Iterator[Daemon]:
    """Have a server of an empty database in FOLDER, behind `sb.sock` there.

    It listens on REMOTES too.
    """
    file, socket = folder / "sb.db", folder / "sb.sock"
    run("ovsdb-tool", "create", str(file), str(SCHEMA))
    daemon = server(folder, "sb", str(file), f"punix:{socket}", *remotes)
    try:
        daemon.start()
        global_row = {"options": ovsdb.to_map({"northd": "was here"})}
        at(folder).transact([ovsdb.insert("SB_Global", global_row)])
        yield daemon
    finally:
        daemon.kill()


def server(folder: Path, name: str, database: str, *remotes: str) -> Daemon:
    """Return an ovsdb-server of DATABASE that listens on REMOTES."""
    return Daemon(
        name,
        (
            "ovsdb-server",
            *(f"--remote={remote}" for remote in remotes),
            f"--unixctl={folder / name}.ctl",
            "-vconsole:warn",
            database,
        ),
        folder / f"{name}.log",
        ready=folder / f"{name}.sock",
    )


def relay(folder: Path, name: str, source: str, remote: str) -> Daemon:
    """Return a relay of the server SOURCE that listens on REMOTE, too."""
    remotes = f"punix:{folder / name}.sock", remote
    return server(folder, name, f"relay:{DATABASE}:{source}", *remotes)


def at(folder: Path, name: str = "sb") -> ovsdb.Ovsdb:
    """Return the database that the server NAME has in FOLDER."""
    return ovsdb.Ovsdb(folder / f"{name}.sock", DATABASE)
