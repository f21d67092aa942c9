"""Read what ovs-vswitchd says of a traced packet (ofproto/trace)."""

import ipaddress
import re
from collections.abc import Mapping

from ...privsep import names

_COOKIE = re.compile(r"^ 0\. .*, cookie (0x[0-9a-f]+)", re.M)
_TABLE = re.compile(r" ?(\d{1,3})\. ")
# Where a packet comes in: without flows of its port it is dropped in the first
# one, with its port disabled in the next two, OVN's port security.
_FIRST = frozenset({"0", "8", "9"})
# ovn-controller's action for a DHCP discovery: opcode, where to store the
# result, the address to offer, then the options (RFC 2132) one by one.
_DHCP = re.compile(r"controller\(userdata=(00\.00\.00\.02(\.[0-9a-f]{2})*)")
_OPTIONS_AT = 20
_ROUTER, _ROUTES = 3, 121


def delivers(trace: str, port: object) -> bool:
    """Return whether the packet of TRACE leaves by the OpenFlow PORT.

    ovs-vswitchd says below a port if it may not forward there.
    """
    found = re.findall(rf"^ *output:{port}\n(.*)", f"{trace}\n", re.M)
    return any("skipping output" not in line for line in found)


def has_flows(trace: str, port: str, cookies: Mapping[str, int]) -> bool:
    """Return whether the packet of TRACE was taken in from its logical PORT.

    A later table may drop it because of a security group. By COOKIES the
    first flow may be another port's, which had that OpenFlow port before.
    """
    first = _COOKIE.search(trace)
    cookie = int(first[1], 16) if first else None
    if cookie != cookies.get(port) and cookie in cookies.values():
        return False
    found = map(_TABLE.match, trace.splitlines())
    tables = {match[1] for match in found if match}
    return not tables or not tables <= _FIRST


def dropped_at(trace: str) -> str:
    """Return the last OpenFlow table in TRACE, with the flow that matched."""
    tables = [line for line in trace.splitlines() if _TABLE.match(line)]
    return tables[-1].strip() if tables else ""


def dhcp_options(trace: str) -> dict[int, bytes]:
    """Return the options of the offer in TRACE; none without an offer."""
    match = _DHCP.search(trace)
    if match is None:
        return {}
    data = bytes.fromhex(match[1].replace(".", ""))[_OPTIONS_AT:]
    found = {}
    while len(data) >= 2:
        code, size = data[0], data[1]
        found[code] = data[2 : 2 + size]
        data = data[2 + size :]
    return found


def metadata_route(options: dict[int, bytes]) -> str:
    """Return the next hop to the metadata address in OPTIONS; "" for none.

    RFC 3442: for each route the prefix's length, as many bytes of the
    prefix as that needs, and the next hop.
    """
    data = options.get(_ROUTES, b"")
    target = ipaddress.IPv4Address(names.METADATA_ADDRESS_V4).packed
    while data:
        size = (data[0] + 7) // 8
        prefix, via = data[1 : 1 + size], data[1 + size : 5 + size]
        if prefix == target and len(via) == 4:
            return str(ipaddress.IPv4Address(via))
        data = data[5 + size :]
    return ""


def router(options: dict[int, bytes]) -> str:
    """Return the default router in OPTIONS; "" for none."""
    data = options.get(_ROUTER, b"")[:4]
    return str(ipaddress.IPv4Address(data)) if len(data) == 4 else ""
