"""Compute what a network needs on this chassis from its rows."""

import ipaddress
from collections.abc import Iterable

from ...privsep import names
from ..model import (
    IPInterface,
    Localport,
    MetadataNetwork,
    NetworkSnapshot,
    VifPort,
)
from . import identity

_ALWAYS = (
    ipaddress.ip_interface(f"{names.METADATA_ADDRESS_V4}/32"),
    ipaddress.ip_interface(f"{names.METADATA_ADDRESS_V6}/128"),
)
# The prefix of every link-local address (RFC 4291, 2.5.6).
_LINK_LOCAL_PREFIX = 64
# Below this the kernel disables IPv6 on a link (RFC 8200, 5).
_MIN_MTU_V6 = 1280


def desired_network(
    snapshot: NetworkSnapshot | None, *, ipv6: bool = True
) -> MetadataNetwork | None:
    """Return what the network of SNAPSHOT needs; None to tear it down.

    A network is served while it has a localport and one of its VIF ports is
    on this chassis, or requested there. One that is kept stays provisioned
    for no instance. SNAPSHOT is None for a network that is not in the rows.
    IPV6 is False if the kernel has no IPv6.
    """
    localport = snapshot.localport if snapshot else None
    if snapshot is None or localport is None or not snapshot.ports:
        return None
    ports = () if snapshot.kept else snapshot.ports
    instances, macs, conflicts = identity.assign(ports)
    addresses = _served_addresses(localport, snapshot.ports, ipv6=ipv6)
    own = {cidr.ip for cidr in addresses | localport.cidrs}
    versions = {cidr.version for cidr in addresses}
    neighbours = {
        address: mac
        for address, mac in macs.items()
        if address not in own and address.version in versions
    }
    # An address in no subnet of the localport (DHCP is off there) needs a
    # route of its own. Without it, answers could not be sent.
    onlink = frozenset(
        address
        for address in neighbours
        if not any(address in cidr.network for cidr in addresses)
    )
    return MetadataNetwork(
        network=snapshot.network,
        localport=localport.logical_port,
        mac=localport.mac,
        mtu=localport.mtu,
        addresses=addresses,
        neighbours=neighbours,
        onlink=onlink,
        instances=instances,
        conflicts=conflicts,
        spare=snapshot.spare,
    )


def _served_addresses(
    localport: Localport, ports: Iterable[VifPort], *, ipv6: bool
) -> frozenset[IPInterface]:
    """Return the addresses of the inner veth.

    The localport's address in a subnet is among them only if one of PORTS
    has an address in that subnet.
    """
    used = [address for port in ports for address, _ in port.addresses]
    link_local = identity.link_local_address(localport.mac)
    addresses: set[IPInterface] = {
        *_ALWAYS,
        ipaddress.IPv6Interface(f"{link_local}/{_LINK_LOCAL_PREFIX}"),
    }
    addresses.update(
        cidr
        for cidr in localport.cidrs
        if any(address in cidr.network for address in used)
    )
    if ipv6 and not 0 < localport.mtu < _MIN_MTU_V6:
        return frozenset(addresses)
    return frozenset(cidr for cidr in addresses if cidr.version == 4)
