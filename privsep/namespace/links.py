"""The namespace, veth and addresses of a network; only differences are set."""

import contextlib
import errno
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyroute2
from pyroute2 import netns
from pyroute2.netlink import NLM_F_DUMP_INTR
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl import ndmsg, rt_proto, rt_scope
from pyroute2.nftables.main import NFTables

from .. import kernel, names, rootfiles
from ..errors import LinkError
from ..gate import Gate
from ..validate import IPInterface

# <linux/if_addr.h>: use the address at once, without detection of
# duplicates. A localport never leaves its chassis.
_IFA_F_NODAD = 0x02
_MAIN, _LOCAL = 254, 255  # <linux/rtnetlink.h>, enum rt_class_t
# The kernel makes no route to a subnet in here.
_ZERO = ipaddress.ip_network("0.0.0.0/8")
_KERNELS_RULES = (0, 32766, 32767)  # ip-rule(8)
_NF_DROP = 0  # <linux/netfilter.h>
# The kernel's route of a new IPv6 address may come later than the address.
ROUTES_S = 5.0
# A dump of a hundred links takes some ms.
_DUMPS = 100
_UP, _LOOPBACK = 0x1, 0x8  # IFF_*, <linux/if.h>
_KIND = "IFLA_LINKINFO", "IFLA_INFO_KIND"  # a plain link has none
# What `ensure_link` reports of a change.
_WORDS = {"address": "mac", "mtu": "mtu", "ifalias": "alias", "state": "up"}
# The first namespace makes a mount of the folder: one is enough.
_folder_lock = threading.Lock()
# For each change of a link ovs-vswitchd looks at all of its ports, for 10 ms
# where there are 100. So several changes are made together.
gate = Gate(0.5)


def ensure_namespace(network: str) -> tuple[int, bool]:
    """Make NETWORK's namespace if it is missing; return a descriptor of it.

    The second value is whether it was made. A file without a mount is what
    is left of a lost namespace; it is replaced.

    This thread makes it. pyroute2's `create` starts a child for it and gives
    up after 2 s, which is too short while the kernel works on many links
    (https://github.com/svinota/pyroute2/issues/1305).
    """
    with contextlib.suppress(FileNotFoundError):
        if kernel.is_namespace(network):
            return kernel.open_namespace(network), False
        os.unlink(names.namespace_file(network))
    rootfiles.ensure_folder(Path(names.NAMESPACE_FOLDER))
    with kernel.new_namespace(), _folder_lock:
        netns.attach(names.namespace_name(network), "thread-self")
    return kernel.open_namespace(network), True


def remove_namespace(network: str) -> bool:
    """Remove the namespace of NETWORK; return whether it was there."""
    with contextlib.suppress(FileNotFoundError):
        # It also removes a file on which no namespace is mounted.
        netns.remove(names.namespace_name(network))
        return True
    return False


def open_host() -> pyroute2.IPRoute:
    """Return a netlink socket that stays in this thread's namespace."""
    return pyroute2.IPRoute()


def open_inside(namespace: int) -> pyroute2.IPRoute:
    """Return a netlink socket that stays in NAMESPACE."""
    with kernel.entered(namespace):
        return open_host()


def dump(read: Callable[..., Any], **criteria: Any) -> list[Any]:
    """Return a complete list from READ, which lists links, routes or others.

    The kernel marks a list that changed meanwhile, so that it may lack some:
    then READ is called again at once. pyroute2 0.7 raises an error for the
    mark, 0.9 passes it on. Raises LinkError after many such lists.
    """
    for _ in range(_DUMPS):
        with contextlib.suppress(NetlinkDumpInterrupted):
            found = list(read(**criteria))
            flags = {message["header"]["flags"] for message in found}
            if not any(flag & NLM_F_DUMP_INTR for flag in flags):
                return found
    raise LinkError("the host's links change faster than they can be read")


def link_by_name(ipr: pyroute2.IPRoute, name: str) -> Any | None:
    """Return the link message of NAME, or None."""
    with _tolerated(errno.ENODEV, errno.ENOENT):
        return next(iter(ipr.link("get", ifname=name)), None)
    return None


def describe(link: Any | None) -> dict[str, object]:
    """Return LINK as `look` has it; empty without one."""
    if link is None:
        return {}
    return {
        "index": int(link["index"]),
        "mac": link.get_attr("IFLA_ADDRESS") or "",
        "mtu": int(link.get_attr("IFLA_MTU") or 0),
        "up": bool(link["flags"] & _UP),
        "kind": link.get_nested(*_KIND) or "",
        "alias": link.get_attr("IFLA_IFALIAS") or "",
        "qdisc": link.get_attr("IFLA_QDISC") or "",
    }


def existing(ipr: pyroute2.IPRoute, name: str) -> Any:
    """Return the link message of NAME; raise OSError without one."""
    link = link_by_name(ipr, name)
    if link is None:
        raise OSError(f"{name} vanished from its namespace")
    return link


def ensure_veth(
    host: pyroute2.IPRoute,
    inside: pyroute2.IPRoute,
    *,
    network: str,
    namespace: int,
    mac: str,
    mtu: int,
) -> tuple[int, list[str]]:
    """Make the veth pair of NETWORK; return the inner index, and changes."""
    outer, inner = names.outer_veth(network), names.inner_veth(network)
    changes = []
    there = link_by_name(host, outer)
    end = link_by_name(inside, inner)
    if there is None or end is None:
        # Half a pair is useless, and an end that an aborted run has left in
        # another namespace would keep the name in use.
        for stray in (outer, inner):
            remove_link(host, stray, network)
        remove_link(inside, inner, network)
        gate.wait()
        peer = {"ifname": inner, "net_ns_fd": namespace, "address": mac}
        size = {"mtu": mtu} if mtu else {}
        host.link("add", ifname=outer, kind="veth", peer=peer | size, **size)
        # Without an address and a route of its own.
        kernel.write_sysctl(f"net/ipv6/conf/{outer}/disable_ipv6", "1")
        changes.append("veth")
        there, end = existing(host, outer), existing(inside, inner)
    else:
        _check_owner(there, outer, network)
    changes += ensure_link(inside, end, address=mac, mtu=mtu)
    alias = names.namespace_name(network)
    changes += ensure_link(host, there, mtu=mtu, ifalias=alias)
    return int(end["index"]), changes


def networks_of_veths(ipr: pyroute2.IPRoute) -> set[str]:
    """Return the networks whose veth end is here, by its alias.

    The name has only ten characters of the network's id, and an instance's
    tap device may have the same ones.
    """
    found = set()
    for link in dump(ipr.get_links):
        alias = link.get_attr("IFLA_IFALIAS") or ""
        network = names.network_of_namespace(alias)
        if (
            network is not None
            and link.get_attr("IFLA_IFNAME") == names.outer_veth(network)
            and link.get_nested(*_KIND) == "veth"
        ):
            found.add(network)
    return found


def ensure_link(
    ipr: pyroute2.IPRoute, link: Any, **wanted: str | int
) -> list[str]:
    """Give LINK what is WANTED (address, mtu, ifalias) and set it up.

    What is "" or 0 is left alone. (The kernel accepts no alias while it makes
    a link.)
    """
    changes = {
        key: value
        for key, value in wanted.items()
        if value and link.get_attr(f"IFLA_{key.upper()}") != value
    }
    if not link["flags"] & _UP:
        changes["state"] = "up"
    if changes:
        ipr.link("set", index=link["index"], **changes)
    name = link.get_attr("IFLA_IFNAME")
    return [f"{_WORDS[key]} {name}" for key in changes]


def remove_veth(network: str) -> bool:
    """Remove the veth of NETWORK; return whether any end was there."""
    removed = False
    with open_host() as host:
        # The inner end is here only if a pair was made and not moved.
        for end in (names.outer_veth(network), names.inner_veth(network)):
            with contextlib.suppress(LinkError):
                removed |= remove_link(host, end, network)
    return removed


def remove_link(ipr: pyroute2.IPRoute, name: str, network: str) -> bool:
    """Remove the veth NAME of NETWORK; return whether it was there.

    Raises LinkError if the link is not ours.
    """
    link = link_by_name(ipr, name)
    if link is None:
        return False
    _check_owner(link, name, network)
    with _tolerated(errno.ENODEV):
        ipr.link("del", index=link["index"])
    return True


@contextlib.contextmanager
def _tolerated(*codes: int) -> Iterator[None]:
    """Ignore a NetlinkError with one of CODES: it is so already."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


def _check_owner(link: Any, name: str, network: str) -> None:
    """Refuse the link NAME if it is not the veth of NETWORK.

    Instances' devices are named by the same pattern, and another network's
    id may begin like this one's. A veth without an alias is Neutron's, which
    we take over.
    """
    is_a, alias = link.get_nested(*_KIND), link.get_attr("IFLA_IFALIAS")
    if is_a != "veth":
        raise LinkError(f"{name} is a {is_a} device, not our veth")
    if alias and alias != names.namespace_name(network):
        raise LinkError(f"{name} is the veth of {alias!r:.80}, not ours")


def compare_addresses(
    ipr: pyroute2.IPRoute, index: int, wanted: frozenset[IPInterface]
) -> list[str]:
    """Return "+CIDR" of WANTED that INDEX lacks, "-CIDR" of what else it has.

    New ones come first, so that the link is never without an address.
    """
    present = addresses(ipr, index)
    new = sorted(f"+{cidr}" for cidr in wanted - present)
    return new + sorted(f"-{cidr}" for cidr in present - wanted)


def addresses(
    ipr: pyroute2.IPRoute, index: int, *, older_s: float = 0.0
) -> frozenset[IPInterface]:
    """Return the addresses of the link INDEX that are OLDER_S seconds old."""
    # Hundredths of a second: <linux/if_addr.h>, struct ifa_cacheinfo.
    latest = (time.monotonic() - older_s) * 100
    return frozenset(
        ipaddress.ip_interface(
            f"{entry.get_attr('IFA_ADDRESS')}/{entry['prefixlen']}"
        )
        for entry in dump(ipr.get_addr, index=index)
        if not older_s or entry.get_attr("IFA_CACHEINFO")["tstamp"] <= latest
    )


def ensure_routed(
    ipr: pyroute2.IPRoute, index: int, wanted: frozenset[IPInterface]
) -> list[str]:
    """Add those of WANTED that have lost their routes to INDEX again.

    If it loses its last address, the kernel removes neighbours and all
    routes as well.
    """
    old = addresses(ipr, index, older_s=ROUTES_S)
    lost = unrouted(routes(ipr), index, wanted & old)
    for cidr in lost:
        _change_addresses(ipr, index, [f"-{cidr}", f"+{cidr}"])
    return sorted(f"routes {cidr.ip}" for cidr in lost)


def unrouted(
    entries: list[Any], index: int, cidrs: Iterable[IPInterface]
) -> frozenset[IPInterface]:
    """Return those of CIDRS, addresses of INDEX, that lack routes in ENTRIES.

    The kernel makes them with an address: to itself, and to its subnet. If
    they are flushed, the address stays, and nothing is answered.
    """
    there = {
        (entry["table"], f"{entry.get_attr('RTA_DST')}/{entry['dst_len']}")
        for entry in entries
        if entry["table"] == _LOCAL or entry.get_attr("RTA_OIF") == index
    }

    def is_lost(cidr: IPInterface) -> bool:
        needed = {(_LOCAL, f"{cidr.ip}/{cidr.max_prefixlen}")}
        is_alone = cidr.version == 4 and cidr.network.prefixlen == 32
        if not is_alone and cidr.network.network_address not in _ZERO:
            needed.add((_MAIN, str(cidr.network)))
        return not needed <= there

    return frozenset(filter(is_lost, cidrs))


def ensure_addresses(
    ipr: pyroute2.IPRoute, index: int, wanted: frozenset[IPInterface]
) -> None:
    """Give the link INDEX exactly WANTED."""
    # Twice: to the kernel, an IPv6 address with another prefix length is the
    # same. The first round does not add it, and deletes it.
    for _ in range(2):
        changes = compare_addresses(ipr, index, wanted)
        _change_addresses(ipr, index, changes)


def _change_addresses(
    ipr: pyroute2.IPRoute, index: int, changes: Iterable[str]
) -> None:
    """Make CHANGES, "+CIDR" or "-CIDR" each, to the link INDEX."""
    for change in changes:
        cidr = ipaddress.ip_interface(change[1:])
        is_new = change[0] == "+"
        nodad = {"flags": _IFA_F_NODAD} if cidr.version == 6 and is_new else {}
        with _tolerated(errno.EEXIST, errno.EADDRNOTAVAIL):
            ipr.addr(
                "add" if is_new else "del",
                index=index,
                address=str(cidr.ip),
                prefixlen=cidr.network.prefixlen,
                **nodad,
            )


def ensure_neighbours(
    ipr: pyroute2.IPRoute, index: int, wanted: dict[str, str]
) -> list[str]:
    """Make WANTED (address -> MAC) the only permanent neighbours."""
    present = neighbours(ipr, index)
    gone = sorted(present.keys() - wanted.keys())
    new = sorted(a for a in wanted if present.get(a) != wanted[a])
    for address in gone + new:
        mac = wanted.get(address)
        with _tolerated(errno.ENOENT):
            ipr.neigh(
                "replace" if mac else "del",
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                dst=address,
                lladdr=mac or present[address],
                ifindex=index,
                state=ndmsg.states["permanent"],
            )
    return _counted("neighbours", new, gone)


def neighbours(ipr: pyroute2.IPRoute, index: int) -> dict[str, str]:
    """Return address -> MAC of the permanent neighbours on the link INDEX."""
    present = {}
    for entry in dump(ipr.get_neighbours, ifindex=index):
        address = entry.get_attr("NDA_DST")
        if address and entry["state"] & ndmsg.states["permanent"]:
            present[address] = entry.get_attr("NDA_LLADDR")
    return present


def ensure_hosts(
    ipr: pyroute2.IPRoute, index: int, wanted: frozenset[str]
) -> list[str]:
    """Make WANTED the only hosts with a route over the link INDEX."""
    present = hosts(routes(ipr), index)
    gone, new = sorted(present - wanted), sorted(wanted - present)
    for address in gone + new:
        with _tolerated(errno.ESRCH):
            ipr.route(
                "replace" if address in wanted else "del",
                dst=f"{address}/{_host_size(address)}",
                oif=index,
                scope=rt_scope["link"],
                proto=rt_proto["static"],
            )
    return _counted("hosts", new, gone)


def routes(ipr: pyroute2.IPRoute) -> list[Any]:
    """Return all routes of IPv4 and IPv6."""
    both = socket.AF_INET, socket.AF_INET6
    return [each for each in dump(ipr.get_routes) if each["family"] in both]


def hosts(entries: list[Any], index: int) -> set[str]:
    """Return the hosts of the routes ENTRIES that lead over the link INDEX."""
    return {
        entry.get_attr("RTA_DST")
        for entry in entries
        if entry.get_attr("RTA_OIF") == index
        and entry["table"] == _MAIN
        and entry["proto"] == rt_proto["static"]
        and entry["dst_len"] == _host_size(entry.get_attr("RTA_DST"))
    }


def strays(ipr: pyroute2.IPRoute, entries: list[Any], index: int) -> list[str]:
    """Return the links, routes, rules and filters of INDEX by others.

    The kernel's own routes are those of addresses; ours are to hosts.
    """
    ours = hosts(entries, index)
    found = [
        f"route {entry.get_attr('RTA_DST') or 'default'}/{entry['dst_len']}"
        for entry in entries
        if entry["proto"] != rt_proto["kernel"]
        and entry["table"] == _MAIN
        and entry.get_attr("RTA_DST") not in ours
    ]
    found += [
        f"link {link.get_attr('IFLA_IFNAME')}"
        for link in dump(ipr.get_links)
        if link["index"] != index and link["flags"] & (_UP | _LOOPBACK) == _UP
    ]
    found += [
        f"filter {entry.get_attr('TCA_KIND')}"
        for entry in dump(ipr.get_qdiscs, index=index)
        if entry.get_attr("TCA_KIND") in ("clsact", "ingress")
    ]
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in dump(ipr.get_rules, family=family):
            priority = entry.get_attr("FRA_PRIORITY") or 0
            if priority not in _KERNELS_RULES:
                found.append(f"rule {priority}")
    return sorted(found)


def nftables_rules() -> int:
    """Return how many rules of nftables this thread's namespace has.

    A chain that drops what no rule takes counts as one. iptables makes such
    rules, too, except its old form. Zero if the kernel has no nftables.
    """
    with (
        contextlib.suppress(NetlinkError),
        NFTables(nfgen_family=socket.AF_UNSPEC) as nft,
    ):
        chains = dump(nft.get_chains)
        policies = [chain.get_attr("NFTA_CHAIN_POLICY") for chain in chains]
        return len(dump(nft.get_rules)) + policies.count(_NF_DROP)
    return 0


def _counted(what: str, new: list[str], gone: list[str]) -> list[str]:
    """Return how many of WHAT are new and how many are gone, in words."""
    counts = (("+", len(new)), ("-", len(gone)))
    return [f"{sign}{count} {what}" for sign, count in counts if count]


def _host_size(address: str | None) -> int:
    """Return the prefix length of ADDRESS alone (None: all addresses)."""
    return 128 if address and ":" in address else 32
