"""Whose request is it: ports -> address -> instance, and the signature."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping

from .model import Instance, IPAddress, VifPort


def link_local_address(mac: str) -> ipaddress.IPv6Address:
    """Return the EUI-64 link-local address of MAC (RFC 4291, 2.5.1)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 0x02
    identifier = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def claimed_addresses(port: VifPort) -> dict[IPAddress, str]:
    """Return the addresses PORT may ask from, each with its MAC."""
    found = dict(port.addresses)
    for mac in sorted(port.macs):
        found.setdefault(link_local_address(mac), mac)
    return found


def with_parents(
    ports: Iterable[VifPort], parents: Mapping[str, VifPort]
) -> list[VifPort]:
    """Return PORTS, each trunk subport with its parent's instance.

    Neutron writes no device id on a subport.
    """
    return [
        VifPort(
            logical_port=port.logical_port,
            mac=port.mac,
            macs=port.macs,
            addresses=port.addresses,
            instance=parents[port.parent].instance,
            project=parents[port.parent].project or port.project,
            parent=port.parent,
        )
        if not port.instance and port.parent in parents
        else port
        for port in ports
    ]


def assign(
    ports: Iterable[VifPort],
) -> tuple[dict[IPAddress, Instance], dict[IPAddress, str], tuple[str, ...]]:
    """Return address -> instance, address -> MAC, and the conflicts.

    An address that two ports claim is nobody's: it is in neither result,
    whatever the order of PORTS.
    """
    owners: dict[IPAddress, list[tuple[VifPort, str]]] = {}
    for port in ports:
        for address, mac in claimed_addresses(port).items():
            owners.setdefault(address, []).append((port, mac))
    instances: dict[IPAddress, Instance] = {}
    neighbours: dict[IPAddress, str] = {}
    conflicts = []
    for address, claims in owners.items():
        if len(claims) > 1:
            rivals = ", ".join(sorted(p.logical_port for p, _ in claims))
            conflicts.append(f"{address} claimed by ports {rivals}")
            continue
        port, mac = claims[0]
        neighbours[address] = mac
        if port.instance:
            instances[address] = Instance(port.instance, port.project)
    return instances, neighbours, tuple(sorted(conflicts))


def signature(secret: str, instance: str) -> str:
    """Return what Nova checks: hex HMAC-SHA256 of the instance's id.

    Nova, `[neutron] metadata_proxy_shared_secret`: header
    X-Instance-ID-Signature.
    """
    return hmac.new(
        secret.encode(), instance.encode(), hashlib.sha256
    ).hexdigest()
