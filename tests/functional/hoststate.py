"""What is on this host for one network, and what there should be."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from sandbox import CommandError, Network, Port, Sandbox, host, wait_for
from sandbox.daemons import run
from sandbox.model import METADATA_V4, METADATA_V6
from sandbox.ovsdb import to_uuid

from .test_lifecycle import left_of

_MAP_LINE_FIELDS = 3  # haproxy's pointer, the address, the value


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A network as an instance of it finds it."""

    plugged: tuple[str, str]  # bridge, iface-id
    mac: str
    mtus: tuple[int, int]  # outer, inner
    addresses: frozenset[str]
    instances: Mapping[str, str]  # address -> instance id


def expected(
    network: Network, ports: Iterable[Port], *, bridge: str = "br-int"
) -> Served | None:
    """Return what has to be there for PORTS of NETWORK; None for nothing."""
    bound = list(ports)
    if not bound:
        return None
    metadata = network.metadata
    taken = {address for port in bound for address, _ in port.fixed}
    subnets = [
        item.cidr
        for item in network.subnets
        if any(address in item.cidr for address in taken)
    ]
    served = [
        (address, size)
        for address, size in metadata.fixed
        if any(address in cidr for cidr in subnets)
    ]
    served += [(METADATA_V4, 32), (METADATA_V6, 128)]
    served += [(metadata.link_local, 64)]
    return Served(
        plugged=(bridge, metadata.id),
        mac=metadata.mac,
        mtus=(network.mtu, network.mtu),
        addresses=frozenset(f"{address}/{size}" for address, size in served),
        instances={
            str(address): port.device_id
            for port in bound
            for address in (*(a for a, _ in port.fixed), port.link_local)
        },
    )


def found(box: Sandbox, network: Network) -> Served | None:
    """Return what is there for NETWORK; None unless it is complete."""
    tap = f"tap{network.id[:10]}"
    where = ("-n", network.namespace, "address", "show", "dev", f"{tap}1")
    try:
        (inner,) = json.loads(run("ip", "-j", *where))
        outer = Path(f"/sys/class/net/{tap}0/mtu").read_text()
        return Served(
            plugged=_plugged(box, f"{tap}0"),
            mac=inner["address"],
            mtus=(int(outer), inner["mtu"]),
            addresses=frozenset(
                f"{entry['local']}/{entry['prefixlen']}"
                for entry in inner["addr_info"]
            ),
            instances=_instances(network.id),
        )
    except (CommandError, OSError):
        return None


def _plugged(box: Sandbox, name: str) -> tuple[str, str]:
    where = [["name", "==", name]]
    ovs = box.ovn.ovs
    for port in ovs.select("Port", where, ["_uuid"]):
        holds = [["ports", "includes", to_uuid(port["_uuid"])]]
        for bridge in ovs.select("Bridge", holds, ["name"]):
            for row in ovs.select("Interface", where, ["external_ids"]):
                return bridge["name"], row["external_ids"].get("iface-id")
    return "", ""


def _instances(network: str) -> dict[str, str]:
    """Return whose each address is, as the running haproxy has it."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(host.stats_of(network)))
        link.sendall(f"show map {host.map_of(network)}\n".encode())
        with link.makefile() as stream:
            lines = [line.split() for line in stream]
    return {
        line[1]: line[2].partition("|")[0]
        for line in lines
        if len(line) == _MAP_LINE_FIELDS
    }


def wait_host(
    box: Sandbox,
    network: Network,
    *ports: Port,
    bridge: str = "br-int",
    timeout_s: float = 30.0,
) -> None:
    """Wait until NETWORK is served for exactly PORTS; for none, is gone."""
    wanted = expected(network, ports, bridge=bridge)
    seen: list[object] = []

    def so() -> bool:
        if wanted is None:
            seen[:] = left_of(box, network.id)
            return not seen
        seen[:] = [found(box, network)]
        return seen == [wanted]

    try:
        wait_for(
            so, timeout_s=timeout_s, interval_s=0.05, what="state of the host"
        )
    except TimeoutError as error:
        raise TimeoutError(f"{error}\nfound {seen}\nnot {wanted}") from None
