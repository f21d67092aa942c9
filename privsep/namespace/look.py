"""Entrypoint: the state of a network's namespace and veth, as it is now."""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping

from .. import kernel, names, validate
from ..context import entrypoint
from . import sysctls

_LISTEN = "0A"  # <net/tcp_states.h>
# <linux/netlink.h>, <linux/netfilter/nfnetlink.h>: subsystem 10 is nftables.
_NETLINK_NETFILTER = 12
_HEAD, _ERROR, _DONE = 16, 2, 3
_NEWRULE, _GETRULE = 10 << 8 | 6, 10 << 8 | 7
_NEWCHAIN, _GETCHAIN = 10 << 8 | 3, 10 << 8 | 4
# The attribute NFTA_CHAIN_POLICY with NF_DROP.
_DROPS = struct.pack("=HHI", 8, 5, 0)


@entrypoint(subject=None)
def look(network: str, *, device: str) -> Mapping[str, object]:
    """Return what there is of NETWORK in the kernel; change nothing.

    `namespace`: "there", "missing" or "lost" (a file without a namespace);
    `outer`, `inner`: the ends of the veth, each empty or with `index`, `mac`,
    `mtu`, `up`, `kind`, `alias`, `qdisc`; `device`: the same of the link
    DEVICE on the host (may be ""). Of a namespace also `sysctls` (name ->
    value of those that are not as we set them), `listeners` (metadata
    addresses where a socket listens);
    of an inner end `addresses` (CIDRs), `neighbours` (address, MAC of the
    permanent ones), `hosts` (addresses with a route of their own),
    `strays` (links, filters, routes and rules that are neither ours nor the
    kernel's), `checksum` (whether the transmit checksum offload is on),
    `rules` (how many of nftables there are, and chains that drop the rest).
    Raises InvalidArgumentError, OSError, NetlinkError.
    """
    from . import links

    network = validate.network(network)
    found: dict[str, object] = {"inner": {}, "device": {}}
    wanted = {"outer": names.outer_veth(network)}
    if device != "":
        wanted["device"] = validate.device(device)
    with links.open_host() as host:
        for key, name in wanted.items():
            found[key] = links.describe(links.link_by_name(host, name))
    name = names.namespace_name(network)
    try:
        if not kernel.is_namespace(name):
            return {"namespace": "lost", **found}
        namespace = kernel.open_namespace(name)
    except FileNotFoundError:
        return {"namespace": "missing", **found}
    with kernel.closing(namespace):
        inside = _look_inside(namespace, names.inner_veth(network))
    return {"namespace": "there", **found, **inside}


def _look_inside(namespace: int, inner: str) -> dict[str, object]:
    from . import links

    with kernel.entered(namespace):
        differ = sysctls.differing(inner)
        listeners = _listeners("tcp") + _listeners("tcp6")
        rules = _nftables_rules()
        checksum = None
        with contextlib.suppress(OSError):  # it is gone
            checksum = kernel.has_transmit_checksum(inner)
        ipr = links.open_host()  # it stays in this namespace
    with ipr:
        found = links.link_by_name(ipr, inner)
        state = {
            "inner": links.describe(found),
            "sysctls": differ,
            "listeners": listeners,
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
            "strays": links.strays(ipr, routes, index),
            "checksum": checksum,
        }


def _nftables_rules() -> int:
    """Return how many rules of nftables this thread's namespace has.

    A chain that drops what no rule takes counts as one. iptables makes such
    rules, too, except its old form. Zero if the kernel has no nftables.
    """
    count = sum(kind == _NEWRULE for kind, _ in _nftables(_GETRULE))
    return count + sum(
        kind == _NEWCHAIN and _DROPS in body
        for kind, body in _nftables(_GETCHAIN)
    )


def _nftables(question: int) -> Iterator[tuple[int, bytes]]:
    """Yield kind and body of each answer to QUESTION."""
    family = socket.AF_NETLINK, socket.SOCK_RAW
    with socket.socket(*family, _NETLINK_NETFILTER) as link:
        link.settimeout(1)
        # <linux/netlink.h>: NLM_F_REQUEST | NLM_F_DUMP; then an nfgenmsg.
        head = struct.pack("=IHHII", 20, question, 0x301, 1, 0)
        link.send(head + bytes(4))
        while True:
            parts = link.recv(1 << 16)
            while len(parts) >= _HEAD:
                size, kind = struct.unpack_from("=IH", parts)
                if kind in (_ERROR, _DONE) or size < _HEAD:
                    return
                yield kind, parts[_HEAD:size]
                parts = parts[(size + 3) & ~3 :]


def _listeners(file: str) -> list[str]:
    """Return the metadata addresses in FILE (proc(5), net/tcp) that listen."""
    try:
        with open(f"/proc/thread-self/net/{file}") as lines:
            ends = [
                row[1] for row in map(str.split, lines) if row[3] == _LISTEN
            ]
    except FileNotFoundError:  # a kernel without IPv6
        return []
    found = []
    for address in (names.METADATA_ADDRESS_V4, names.METADATA_ADDRESS_V6):
        # Four bytes at a time, each word in the host's order.
        raw = ipaddress.ip_address(address).packed
        words = struct.unpack(f"={len(raw) // 4}I", raw)
        text = "".join(f"{word:08X}" for word in words)
        if f"{text}:{names.METADATA_PORT:04X}" in ends:
            found.append(address)
    return found
