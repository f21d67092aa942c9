"""Entrypoint: the state of a network's namespace and veth, as it is now."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

import pyroute2

from .. import kernel, names, validate
from ..context import entrypoint
from . import links, sysctls

_LISTEN = "0A"  # <net/tcp_states.h>
# <linux/netlink.h>, <linux/netfilter/nfnetlink.h>: subsystem 10 is nftables.
_NETLINK_NETFILTER = 12
_HEAD, _ERROR, _DONE = 16, 2, 3
_NEWRULE, _GETRULE = 10 << 8 | 6, 10 << 8 | 7
_UP, _CARRIER = 0x1, 0x10000  # IFF_UP, IFF_LOWER_UP, <linux/if.h>


@entrypoint(subject=None)
def look(network: str) -> Mapping[str, object]:
    """Return what there is of NETWORK in the kernel; change nothing.

    `namespace`: "there", "missing" or "lost" (a file without a namespace);
    `outer`, `inner`: the ends of the veth, each empty or with `index`, `mac`,
    `mtu`, `up`, `carrier`, `kind`, `alias`, `qdisc`. Of a namespace also
    `loopback` (as `inner`), `sysctls` (name -> value of those that are not
    as we set them), `listeners` (addresses where a socket listens on port
    80); of an inner end `addresses` (CIDRs), `neighbours` (address, MAC of
    the permanent ones), `hosts` (addresses with a route of their own),
    `strays` (routes and rules that are neither ours nor the kernel's),
    `checksum` (whether the transmit checksum offload is on), `rules` (how
    many of nftables there are).
    Raises InvalidArgumentError, OSError, NetlinkError.
    """
    network = validate.network(network)
    with pyroute2.IPRoute() as host:
        outer = _link(links.link_by_name(host, names.outer_veth(network)))
    name = names.namespace_name(network)
    try:
        if not kernel.is_namespace(name):
            return {"namespace": "lost", "outer": outer, "inner": {}}
        namespace = kernel.open_namespace(name)
    except FileNotFoundError:
        return {"namespace": "missing", "outer": outer, "inner": {}}
    try:
        inside = _look_inside(namespace, names.inner_veth(network))
    finally:
        os.close(namespace)
    return {"namespace": "there", "outer": outer, **inside}


def _look_inside(namespace: int, inner: str) -> dict[str, object]:
    with kernel.entered(namespace):
        differ = sysctls.differing(inner)
        listeners = [
            address
            for file in ("tcp", "tcp6")
            for address in _listeners(f"/proc/thread-self/net/{file}")
        ]
        rules = _nftables_rules()
        checksum = None
        with contextlib.suppress(OSError):  # it is gone
            checksum = kernel.has_transmit_checksum(inner)
        ipr = pyroute2.IPRoute()  # it stays there
    with ipr:
        found = links.link_by_name(ipr, inner)
        state = {
            "loopback": _link(links.link_by_name(ipr, "lo")),
            "inner": _link(found),
            "sysctls": differ,
            "listeners": sorted(set(listeners)),
            "rules": rules,
        }
        if found is None:
            return state
        index, routes = int(found["index"]), links.routes(ipr)
        return {
            **state,
            "addresses": sorted(map(str, links.addresses(ipr, index))),
            "neighbours": sorted(links.neighbours(ipr, index).items()),
            "hosts": sorted(links.hosts(routes, index)),
            "strays": links.strays(ipr, routes),
            "checksum": checksum,
        }


def _nftables_rules() -> int:
    """Return how many rules of nftables this thread's namespace has.

    iptables makes such rules, too, except its old form. Zero if the kernel
    has no nftables.
    """
    family = socket.AF_NETLINK, socket.SOCK_RAW
    count = 0
    with socket.socket(*family, _NETLINK_NETFILTER) as link:
        link.settimeout(1)
        # <linux/netlink.h>: NLM_F_REQUEST | NLM_F_DUMP; then an nfgenmsg.
        head = struct.pack("=IHHII", 20, _GETRULE, 0x301, 1, 0)
        link.send(head + bytes(4))
        while True:
            parts = link.recv(1 << 16)
            while len(parts) >= _HEAD:
                size, kind = struct.unpack_from("=IH", parts)
                if kind in (_ERROR, _DONE) or size < _HEAD:
                    return count
                count += kind == _NEWRULE
                parts = parts[(size + 3) & ~3 :]


def _link(link: Any | None) -> dict[str, object]:
    if link is None:
        return {}
    return {
        "index": int(link["index"]),
        "mac": link.get_attr("IFLA_ADDRESS") or "",
        "mtu": int(link.get_attr("IFLA_MTU") or 0),
        "up": bool(link["flags"] & _UP),
        "carrier": bool(link["flags"] & _CARRIER),
        "kind": links.kind(link) or "",
        "alias": link.get_attr("IFLA_IFALIAS") or "",
        "qdisc": link.get_attr("IFLA_QDISC") or "",
    }


def _listeners(file: str) -> list[str]:
    """Return the addresses in FILE (proc(5), net/tcp) with a listener."""
    try:
        with open(file) as lines:
            rows = [line.split() for line in lines]
    except FileNotFoundError:  # a kernel without IPv6
        return []
    found = []
    for row in rows[1:]:
        address, _, port = row[1].partition(":")
        if row[3] == _LISTEN and int(port, 16) == names.METADATA_PORT:
            # Four bytes at a time, each word in the host's order.
            words = bytes.fromhex(address)
            raw = b"".join(
                socket.htonl(int.from_bytes(words[i : i + 4])).to_bytes(4)
                for i in range(0, len(words), 4)
            )
            found.append(str(ipaddress.ip_address(raw)))
    return found
