"""What Neutron 29 writes into the Northbound database, as pure functions.

Values in, OVSDB rows out; the forms are those of a real neutron-server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import METADATA_V4, METADATA_V6, Network, Port, Router, Subnet
from .ovsdb import Json, to_map, to_set, to_uuid

SECURITY_GROUP = "5a48ed3d-8868-49c9-96bd-0fcc2969755f"
DNS_SERVER = "192.0.2.53"


def switch_row(network: Network, ports: Sequence[Port]) -> Json:
    """Return the Logical_Switch of NETWORK."""
    return {
        "name": network.switch,
        "external_ids": to_map(
            {
                "neutron:availability_zone_hints": "",
                "neutron:mtu": str(network.mtu),
                "neutron:network_name": network.name,
                "neutron:provnet-network-type": "geneve",
                "neutron:revision_number": "1",
            }
        ),
        "other_config": to_map(
            {
                "mcast_flood_unregistered": "false",
                "mcast_snoop": "false",
                "vlan-passthru": "false",
            }
        ),
        "ports": to_set(to_uuid(port.row_id) for port in ports),
    }


def port_external_ids(port: Port) -> dict[str, str]:
    """Return the external_ids of PORT."""
    metadata = port.kind == "localport"
    secured = port.kind == "" and port.port_security
    values = {
        "neutron:cidrs": port.cidrs,
        "neutron:device_id": port.device_id,
        "neutron:device_owner": port.device_owner,
        "neutron:mtu": str(port.network.mtu) if metadata else "",
        "neutron:network_name": port.network.switch,
        "neutron:port_capabilities": "",
        "neutron:port_name": port.name,
        "neutron:project_id": port.project_id,
        "neutron:revision_number": str(port.revision),
        "neutron:security_group_ids": SECURITY_GROUP if secured else "",
        "neutron:subnet_pool_addr_scope4": "",
        "neutron:subnet_pool_addr_scope6": "",
        "neutron:vnic_type": "normal",
    }
    if port.host:
        values["neutron:host_id"] = port.host
    return values


def port_row(port: Port) -> Json:
    """Return the Logical_Switch_Port of PORT."""
    options: Mapping[str, str] = {}
    addresses = port.addresses
    if port.kind == "router":
        options = {"router-port": f"lrp-{port.id}"}
        addresses = "router"
    elif port.kind == "virtual":
        options = {
            "virtual-ip": str(port.fixed[0][0]),
            "virtual-parents": ",".join(port.parents),
        }
    elif port.host:
        options = {"requested-chassis": port.host}
    secured = port.kind == "" and port.port_security
    dhcp = to_set(())
    if port.kind == "":
        for subnet in port.network.subnets:
            holds = any(address in subnet.cidr for address, _ in port.fixed)
            if holds and subnet.dhcp4:
                dhcp = to_uuid(subnet.options_id)
    return {
        "name": port.id,
        "type": port.kind,
        "addresses": to_set(
            (addresses, *port.allowed_macs)
            if secured or port.kind
            else (addresses, "unknown")
        ),
        "port_security": to_set(port.security if secured else ()),
        "parent_name": to_set([port.trunk] if port.trunk else ()),
        "tag_request": to_set([port.tag] if port.tag else ()),
        "enabled": True,
        "dhcpv4_options": dhcp,
        "external_ids": to_map(port_external_ids(port)),
        "options": to_map(options),
    }


def dhcp_row(network: Network, subnet: Subnet, server_mac: str) -> Json:
    """Return the DHCP_Options of SUBNET, with the metadata route."""
    server = next(
        str(address)
        for address, _ in network.metadata.fixed
        if address in subnet.cidr
    )
    routes = [f"{METADATA_V4}/32,{server}"]
    options = {
        "dns_server": "{" + DNS_SERVER + "}",
        "lease_time": "43200",
        "mtu": str(network.mtu),
        "server_id": str(subnet.gateway or server),
        "server_mac": server_mac,
    }
    if subnet.gateway:
        routes.append(f"0.0.0.0/0,{subnet.gateway}")
        options["router"] = str(subnet.gateway)
    options["classless_static_route"] = "{" + ", ".join(routes) + "}"
    return {
        "cidr": str(subnet.cidr),
        "external_ids": to_map(
            {
                "neutron:network_id": network.id,
                "neutron:revision_number": "0",
                "subnet_id": subnet.id,
            }
        ),
        "options": to_map(options),
    }


def router_row(router: Router, port_rows: Sequence[str]) -> Json:
    """Return the Logical_Router of ROUTER."""
    return {
        "name": f"neutron-{router.id}",
        "enabled": True,
        "external_ids": to_map(
            {
                "neutron:availability_zone_hints": "",
                "neutron:revision_number": "1",
                "neutron:router_name": router.name,
            }
        ),
        "options": to_map(
            {
                "always_learn_from_arp_request": "false",
                "dynamic_neigh_routers": "true",
                "mac_binding_age_threshold": "300",
            }
        ),
        "ports": to_set(to_uuid(row) for row in port_rows),
    }


def router_port_row(router: Router, port: Port, subnet: Subnet) -> Json:
    """Return the Logical_Router_Port that faces PORT."""
    advertisement: Mapping[str, str] = {}
    if subnet.cidr.version == 6:
        advertisement = {
            "address_mode": "slaac",
            "mtu": str(port.network.mtu),
            "route_info": f"MEDIUM-{METADATA_V6}/128",
            "send_periodic": "true",
        }
    return {
        "name": f"lrp-{port.id}",
        "mac": port.mac,
        "networks": to_set((f"{subnet.gateway}/{subnet.cidr.prefixlen}",)),
        "external_ids": to_map(
            {
                "neutron:is_ext_gw": "False",
                "neutron:network_name": port.network.switch,
                "neutron:revision_number": "2",
                "neutron:router_name": f"neutron-{router.id}",
                "neutron:subnet_ids": subnet.id,
            }
        ),
        "ipv6_ra_configs": to_map(advertisement),
    }


def binding_row(
    port: Port,
    datapath: str,
    key: int,
    *,
    chassis: str = "",
    additional: str = "",
) -> Json:
    """Return the Port_Binding that northd would make of PORT.

    CHASSIS it is bound to, ADDITIONAL is where it migrates to; "" for none.
    """
    bound = to_set(to_uuid(row) for row in (chassis,) if row)
    more = to_set(to_uuid(row) for row in (additional,) if row)
    secured = port.kind == "" and port.port_security
    return {
        "logical_port": port.id,
        "type": port.kind,
        "datapath": to_uuid(datapath),
        "tunnel_key": key,
        "chassis": bound,
        "requested_chassis": bound,
        "additional_chassis": more,
        "requested_additional_chassis": more,
        "mac": to_set((port.addresses,)),
        "port_security": to_set((port.addresses,) if secured else ()),
        "options": to_map({"requested-chassis": port.host})
        if port.host
        else to_map({}),
        "external_ids": to_map(port_external_ids(port)),
        "up": bool(chassis),
    }
