"""The sysctls of a network's namespace, whatever the host's are.

A new namespace inherits `net.ipv4.conf` from the host, and with
`net.core.devconf_inherit_init_net` 1 or 3 `net.ipv6.conf` too. What could make
metadata fail is set. docs/reference/files.md has the reasons.
"""

from .. import kernel

NAMESPACE = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/tcp_migrate_req": "1",
    "net/ipv4/conf/all/arp_notify": "1",
    "net/ipv6/conf/all/ndisc_notify": "1",
    "net/ipv6/conf/lo/disable_ipv6": "0",
    "net/ipv4/conf/all/promote_secondaries": "1",
}
# Set for "all", for "default" (before there is a link: a link would give
# itself addresses) and for the veth: of some the kernel uses the larger of
# all's and the veth's, of others only the veth's.
IPV4 = dict.fromkeys(
    (
        *("arp_ignore", "arp_filter", "arp_announce", "arp_accept"),
        *("rp_filter", "forwarding", "accept_local", "route_localnet"),
        *("accept_redirects", "accept_source_route", "log_martians"),
    ),
    "0",
)
IPV6 = dict.fromkeys(
    (
        *("disable_ipv6", "accept_ra", "accept_dad", "forwarding"),
        *("accept_redirects", "accept_source_route", "seg6_enabled"),
    ),
    "0",
)
IPV6["addr_gen_mode"] = "1"  # none


def ensure_namespace() -> set[str]:
    """Set those of this thread's namespace; return which were different."""
    return _ensure({**NAMESPACE, **_of("all"), **_of("default")})


def ensure_link(link: str, hop_limit: int) -> set[str]:
    """Set those of LINK, and HOP_LIMIT here; return which were different."""
    hops = ("net/ipv4/ip_default_ttl", f"net/ipv6/conf/{link}/hop_limit")
    return _ensure({**_of(link), **dict.fromkeys(hops, str(hop_limit))})


def differing(link: str) -> dict[str, str]:
    """Return path -> value of those here that differ; LINK's too."""
    wanted = {**NAMESPACE, **_of("all"), **_of("default"), **_of(link)}
    found = {path: kernel.read_sysctl(path) for path in wanted}
    return {p: v for p, v in found.items() if v not in ("", wanted[p])}


def _of(link: str) -> dict[str, str]:
    return {
        f"net/{family}/conf/{link}/{name}": value
        for family, pinned in (("ipv4", IPV4), ("ipv6", IPV6))
        for name, value in pinned.items()
    }


def _ensure(wanted: dict[str, str]) -> set[str]:
    return {
        path.rpartition("/")[2]
        for path, value in wanted.items()
        if kernel.write_sysctl(path, value)
    }
