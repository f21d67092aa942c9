"""Which instance has which address, and the signature for Nova."""

import hmac
import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from ..model import Instance, IPAddress, VifPort

# Of a claim: whether its port is not bound, and the place of the claim in
# what `claimed_addresses` returns. The lowest one wins.
_Rank: TypeAlias = tuple[bool, int]
_ALLOWED = 2


def link_local_address(mac: str) -> ipaddress.IPv6Address:
    """Return the EUI-64 link-local address of MAC (RFC 4291, 2.5.1)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 0x02
    identifier = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def claimed_addresses(
    port: VifPort,
) -> tuple[dict[IPAddress, str], dict[IPAddress, str], dict[IPAddress, str]]:
    """Return the addresses PORT may send from, each with its MAC, by rank.

    First its own, then the `virtual` ones that it uses now, then its
    allowed address pairs, which other ports may have as well.
    """
    own = {mac for _, mac in port.addresses} or port.macs
    given = dict(port.addresses)
    allowed = dict(port.allowed)
    for mac in sorted(port.macs):
        claims = given if mac in own else allowed
        claims.setdefault(link_local_address(mac), mac)
    return given, dict.fromkeys(port.virtual, port.mac), allowed


def assign(
    ports: Iterable[VifPort],
) -> tuple[dict[IPAddress, Instance], dict[IPAddress, str], tuple[str, ...]]:
    """Return address -> instance, address -> MAC, and the conflicts.

    An address belongs to its best claim (see `claimed_addresses`). With two
    such claims it is served to no one: it is in neither result, whatever the
    order of PORTS. The same holds if another port may use its MAC, because
    that port could get the answers. Allowed address pairs that several ports
    have are not a conflict. OVN delivers nothing from or to a port that is
    not bound, so a bound port's claims take precedence over such a port's.
    """
    owners: dict[IPAddress, dict[_Rank, list[tuple[VifPort, str]]]] = {}
    users: dict[str, list[VifPort]] = {}  # of each MAC
    for port in ports:
        for mac in port.macs:
            users.setdefault(mac, []).append(port)
        for rank, claims in enumerate(claimed_addresses(port)):
            for address, mac in claims.items():
                key = not port.bound, rank
                by_rank = owners.setdefault(address, {})
                by_rank.setdefault(key, []).append((port, mac))
    instances: dict[IPAddress, Instance] = {}
    neighbours: dict[IPAddress, str] = {}
    conflicts = []
    for address, by_rank in owners.items():
        best = min(by_rank)
        port, mac = by_rank[best][0]
        rivals = [rival for rival, _ in by_rank[best]]
        what = "claimed by ports"
        if len(rivals) == 1:
            rivals += [
                user
                for user in users.get(mac, ())
                if user is not port and user.bound >= port.bound
            ]
            what = f"has the MAC {mac} of ports"
        if len(rivals) == 1:
            neighbours[address] = mac
            if port.instance:
                instances[address] = Instance(port.instance, port.project)
        elif best[1] != _ALLOWED:
            names = ", ".join(sorted(each.logical_port for each in rivals))
            conflicts.append(f"{address} {what} {names}")
    return instances, neighbours, tuple(sorted(conflicts))


def signature(secret: str, instance: str) -> str:
    """Return the hex HMAC-SHA256 of INSTANCE, which Nova checks.

    It is the header X-Instance-ID-Signature; Nova has the SECRET in
    `[neutron] metadata_proxy_shared_secret`.
    """
    return hmac.digest(secret.encode(), instance.encode(), "sha256").hex()
