"""What each act of Neutron's changes in the Northbound database."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Sequence

from . import ovsdb, rows
from .model import (
    Fixed,
    IPAddress,
    Network,
    Port,
    Router,
    Subnet,
    eui64,
    new_mac,
)

COMPUTE = "compute:nova"
ROUTER_INTERFACE = "network:router_interface"


def subnet(
    cidr: str, *, gateway: bool | str = True, dhcp: bool = True
) -> Subnet:
    """Return a subnet of CIDR; GATEWAY True means its first address."""
    network = ipaddress.ip_network(cidr)
    address: IPAddress | None = None
    if isinstance(gateway, str):
        address = ipaddress.ip_address(gateway)
    elif gateway:
        # Neutron gives a SLAAC subnet's router the anycast address.
        address = network[1 if network.version == 4 else 0]
    made = Subnet(network, address, dhcp)
    if network.version == 4:
        made.options_id = str(uuid.uuid4())
    return made


def attach(switch: str, ports: Sequence[str]) -> ovsdb.Operation:
    """Return the operation that puts PORTS (rows) on SWITCH."""
    rows_of_ports = ovsdb.to_set(ovsdb.to_uuid(port) for port in ports)
    return ovsdb.mutate(
        "Logical_Switch", switch, "ports", "insert", rows_of_ports
    )


def detach(port: Port) -> ovsdb.Operation:
    """Return the operation that takes PORT off its switch."""
    return ovsdb.mutate(
        "Logical_Switch",
        port.network.id,
        "ports",
        "delete",
        ovsdb.to_uuid(port.row_id),
    )


def new_port(
    network: Network,
    *,
    host: str,
    mac: str | None = None,
    addresses: Sequence[str] | None = None,
) -> Port:
    """Return an instance's port with addresses of its own."""
    mac = mac or new_mac()
    return Port(
        id=str(uuid.uuid4()),
        row_id=str(uuid.uuid4()),
        network=network,
        mac=mac,
        fixed=free_addresses(network, mac, network.subnets)
        if addresses is None
        else given_addresses(network, mac, addresses),
        device_id=str(uuid.uuid4()),
        device_owner=COMPUTE,
        project_id=network.project_id,
        host=host,
    )


def router_port(router: Router, network: Network, item: Subnet) -> Port:
    """Return ROUTER's port in the subnet ITEM."""
    if item.gateway is None:
        raise ValueError(f"{item.cidr} has no gateway")
    port = Port(
        id=str(uuid.uuid4()),
        row_id=str(uuid.uuid4()),
        network=network,
        mac=new_mac(),
        fixed=[(item.gateway, item.cidr.prefixlen)],
        device_id=router.id,
        device_owner=ROUTER_INTERFACE,
        project_id=network.project_id,
        kind="router",
        revision=2,
    )
    router.ports.append(port)
    return port


def insert_port(port: Port) -> ovsdb.Operation:
    """Return the operation that adds PORT, as yet on no switch."""
    return ovsdb.insert(
        "Logical_Switch_Port", rows.port_row(port), uuid=port.row_id
    )


def update_port(port: Port) -> ovsdb.Operation:
    """Return the operation that writes PORT anew."""
    port.revision += 1
    return ovsdb.update(
        "Logical_Switch_Port",
        ovsdb.by_uuid(port.row_id),
        rows.port_row(port),
    )


def insert_dhcp(network: Network, item: Subnet) -> list[ovsdb.Operation]:
    """Return what gives ITEM its DHCP_Options, if any."""
    if not item.dhcp4:
        return []
    row = rows.dhcp_row(network, item, new_mac())
    return [ovsdb.insert("DHCP_Options", row, uuid=item.options_id)]


def given_addresses(
    network: Network, mac: str, addresses: Sequence[str]
) -> list[Fixed]:
    """Return ADDRESSES; a subnet's CIDR means a free one in it."""
    fixed: list[Fixed] = []
    for text in addresses:
        named = [s for s in network.subnets if str(s.cidr) == text]
        if named:
            fixed += free_addresses(network, mac, named)
            continue
        address = ipaddress.ip_address(text)
        sizes = [
            item.cidr.prefixlen
            for item in network.subnets
            if address in item.cidr
        ]
        fixed.append((address, sizes[0] if sizes else 32))
    return fixed


def free_addresses(
    network: Network, mac: str, subnets: Sequence[Subnet]
) -> list[Fixed]:
    """Return a free address in each of SUBNETS."""
    fixed: list[Fixed] = []
    for item in subnets:
        address: IPAddress
        if isinstance(item.cidr, ipaddress.IPv6Network):
            address = eui64(item.cidr, mac)
        else:
            number = network.next_host.get(item.id, 1)
            if item.cidr[number] == item.gateway:
                number += 1
            network.next_host[item.id] = number + 1
            address = item.cidr[number]
        fixed.append((address, item.cidr.prefixlen))
    return fixed
