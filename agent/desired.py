"""What a network needs on this chassis, from what the rows say."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Set

from . import names
from .core import identity
from .model import IPAddress, IPInterface, MetadataNetwork, NetworkSnapshot

_ALWAYS = (
    ipaddress.ip_interface(f"{names.METADATA_ADDRESS_V4}/32"),
    ipaddress.ip_interface(f"{names.METADATA_ADDRESS_V6}/128"),
)
# The prefix of every link-local address (RFC 4291, 2.5.6).
_LINK_LOCAL_PREFIX = 64
# Below, the kernel takes IPv6 off a link (RFC 8200, 5).
_MIN_MTU_V6 = 1280


def desired_network(
    snapshot: NetworkSnapshot, *, ipv6: bool = True
) -> MetadataNetwork | None:
    """Return what SNAPSHOT asks of this chassis; None to tear down.

    A network is wanted while a VIF port of it is on the chassis and it has
    a localport. Of the localport's subnets only those are served in which
    such a port has an address; ports' addresses in none of them (DHCP is
    off there) are hosts of their own, or answers would find no way.
    IPV6 tells whether this host has it at all.
    """
    localport = snapshot.localport
    if localport is None or not snapshot.ports:
        return None
    instances, macs, conflicts = identity.assign(snapshot.ports)
    used = {
        address for port in snapshot.ports for address, _ in port.addresses
    }
    addresses: set[IPInterface] = set(_ALWAYS)
    addresses.update(
        cidr
        for cidr in localport.cidrs
        if any(address in cidr.network for address in used)
    )
    addresses.add(
        ipaddress.IPv6Interface(
            f"{identity.link_local_address(localport.mac)}"
            f"/{_LINK_LOCAL_PREFIX}"
        )
    )
    if not ipv6 or 0 < localport.mtu < _MIN_MTU_V6:
        addresses = {cidr for cidr in addresses if cidr.version == 4}
    own = {cidr.ip for cidr in addresses | localport.cidrs}
    versions = {cidr.version for cidr in addresses}
    neighbours = [
        (address, mac)
        for address, mac in macs.items()
        if address not in own and address.version in versions
    ]
    hosts = [
        address
        for address, _ in neighbours
        if not any(address in cidr.network for cidr in addresses)
    ]
    return MetadataNetwork(
        network=snapshot.network,
        localport=localport.logical_port,
        mac=localport.mac,
        mtu=localport.mtu,
        addresses=frozenset(addresses),
        neighbours=tuple(sorted(neighbours, key=_by_address)),
        hosts=tuple(sorted(hosts, key=_number)),
        instances=tuple(sorted(instances.items(), key=_by_address)),
        conflicts=conflicts,
    )


def lacking_ports(
    current: NetworkSnapshot | None, last: NetworkSnapshot
) -> set[str]:
    """Return the logical ports of LAST that CURRENT has not."""
    here = {port.logical_port for port in current.ports} if current else set()
    return {port.logical_port for port in last.ports} - here


def hold_on(
    current: NetworkSnapshot | None, last: NetworkSnapshot, held: Set[str]
) -> NetworkSnapshot:
    """Return CURRENT with the logical ports HELD of LAST, which it lacks.

    For as long as it is not certain that they are gone. Not those whose
    address or MAC another port has, or may use, by now.
    """
    here = current.ports if current else ()
    macs = {mac for port in here for mac in port.macs}
    taken = {
        address
        for port in here
        for claims in identity.claimed_addresses(port)
        for address in claims
    }
    kept = [
        port
        for port in last.ports
        if port.logical_port in held
        and not port.macs & macs
        and not taken & {address for address, _ in port.addresses}
    ]
    ports = sorted((*here, *kept), key=lambda port: port.logical_port)
    return dataclasses.replace(current or last, ports=tuple(ports))


def _by_address(item: tuple[IPAddress, object]) -> tuple[int, int]:
    return _number(item[0])


def _number(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)
