"""Entrypoint: the state of a network's namespace and veth, as it is now."""

import contextlib
import ipaddress
import struct
from collections.abc import Mapping

from .. import kernel, names, validate
from ..context import entrypoint
from . import sysctls

_LISTEN = "0A"  # <net/tcp_states.h>


@entrypoint(subject=None)
def look(network: str, *, device: str) -> Mapping[str, object]:
    """Return what there is of NETWORK in the kernel; change nothing.

    `namespace`: "there", "missing" or "lost" (a file without a namespace);
    `outer`, `inner`: the ends of the veth, each empty or with `index`, `mac`,
    `mtu`, `up`, `kind`, `alias`, `qdisc`; `device`: the same of the link
    DEVICE on the host (may be ""). Of a namespace also `sysctls` (name ->
    value of those that are not as we set them), `listeners` (metadata
    addresses where a socket listens), `rules` (how many of nftables there
    are, and chains that drop the rest); of an inner end `addresses` (CIDRs,
    if their routes are there), `neighbours` (address, MAC of the permanent
    ones), `hosts` (addresses with a route of their own), `strays` (links,
    filters, routes and rules that are neither ours nor the kernel's),
    `checksum` (whether the transmit checksum offload is on).
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
    try:
        if not kernel.is_namespace(network):
            return {"namespace": "lost", **found}
        namespace = kernel.open_namespace(network)
    except FileNotFoundError:
        return {"namespace": "missing", **found}
    with kernel.closing(namespace):
        inside = _look_inside(namespace, names.inner_veth(network))
    return {"namespace": "there", **found, **inside}


def _look_inside(namespace: int, inner: str) -> dict[str, object]:
    from . import links

    with kernel.entered(namespace), links.open_host() as ipr:
        found = links.link_by_name(ipr, inner)
        state: dict[str, object] = {
            "inner": links.describe(found),
            "sysctls": sysctls.differing(inner),
            "listeners": _listeners("tcp") + _listeners("tcp6"),
            "rules": links.nftables_rules(),
        }
        if found is None:
            return state
        with contextlib.suppress(OSError):  # it is gone
            state["checksum"] = kernel.has_transmit_checksum(inner)
        index, routes = int(found["index"]), links.routes(ipr)
        present = links.addresses(ipr, index)
        old = links.addresses(ipr, index, older_s=links.ROUTES_S)
        routed = present - links.unrouted(routes, index, old)
        return {
            **state,
            "addresses": sorted(map(str, routed)),
            "neighbours": sorted(links.neighbours(ipr, index).items()),
            "hosts": sorted(links.hosts(routes, index)),
            "strays": links.strays(ipr, routes, index),
        }


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
