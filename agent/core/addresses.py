"""The addresses in a Port_Binding: read, or the reason why not."""

import contextlib
import ipaddress
from collections.abc import Collection, Iterable

from ...privsep import names, validate
from ..model import IPAddress, IPInterface

NO_MAC = (
    "OVN has no MAC address of it: Neutron writes none while port security is "
    "off and OVN gives the port no DHCP; turn one of them on"
)


class UnusableRowError(Exception):
    """A row can't be used; the text says why, without naming the row."""


def parse_mac(text: str) -> str:
    """Return TEXT as a unicast MAC address; raise UnusableRowError."""
    mac = text.lower()
    if validate.MAC.fullmatch(mac) is None:
        raise UnusableRowError(f"{text!r:.60} is no unicast MAC address")
    return mac


def parse_address(text: str) -> IPAddress:
    """Return TEXT as an address an instance can have."""
    if "/" in text:
        raise UnusableRowError(f"{text!r:.60} is no IP address")
    return parse_cidr(text).ip


def parse_cidr(text: str) -> IPInterface:
    """Return TEXT as such an address, with its prefix length if it has one."""
    try:
        cidr = ipaddress.ip_interface(text)
    except ValueError:
        raise UnusableRowError(f"{text!r:.60} is no IP address") from None
    if (
        not validate.is_usable(cidr.ip)
        or "%" in text
        or _is_ipv4_within(cidr.ip)
        or cidr.ip == ipaddress.ip_address(names.metadata_address(text))
    ):
        raise UnusableRowError(f"{text!r:.60} can't be an instance's address")
    return cidr


def _is_ipv4_within(address: IPAddress) -> bool:
    """Tell whether ADDRESS is an IPv4 address in the form of an IPv6 one.

    ::ffff:10.0.0.5 (mapped) or ::10.0.0.5 (compatible; RFC 4291, 2.5.5).
    No packet comes from one, and programs write them in different ways.
    """
    return address.version == 6 and (
        address.ipv4_mapped is not None or int(address) >> 32 == 0
    )


def parse_macs(
    entries: Collection[str],
) -> tuple[dict[str, tuple[IPAddress, ...]], list[str]]:
    """Return MAC -> addresses from the `mac` column, and what is left out.

    Entries are "MAC", "MAC IP IP ..." or "unknown" (port security is off;
    another entry has the MAC, or there is none: `NO_MAC`). What can't be used
    is left out with the reason. Raises UnusableRowError if no MAC is left.
    """
    found: dict[str, tuple[IPAddress, ...]] = {}
    left_out = []
    for entry in entries:
        words = entry.split()
        if not words or words == ["unknown"]:
            continue
        try:
            mac = parse_mac(words[0])
        except UnusableRowError as error:
            left_out.append(str(error))
            continue
        addresses = []
        for word in words[1:]:
            try:
                addresses.append(parse_address(word))
            except UnusableRowError as error:
                left_out.append(str(error))
        found[mac] = (*found.get(mac, ()), *addresses)
    if not found:
        why = NO_MAC if "unknown" in entries else "it has no MAC address"
        raise UnusableRowError(*left_out[:1] or [why])
    return found, left_out


def parse_allowed(entries: Iterable[str]) -> tuple[tuple[IPAddress, str], ...]:
    """Return the single addresses in the `port_security` column.

    It repeats the port's own addresses and has its allowed address pairs,
    each "MAC IP ...". Many pairs are whole subnets: those identify no
    instance and are left out without a reason.
    """
    found = {}
    for entry in entries:
        mac, *words = entry.split() or [""]
        for word in words:
            with contextlib.suppress(UnusableRowError):
                cidr = parse_cidr(word)
                if cidr.network.num_addresses == 1:
                    found[cidr.ip, parse_mac(mac)] = True
    return tuple(found)
