"""Entrypoints: a network's namespace and veth, as a whole and idempotent."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyroute2

from .. import kernel, names, validate
from ..context import entrypoint
from ..validate import IPInterface
from . import links

# What the proxy binds without any capability: port 80 and up from zero.
_UNPRIVILEGED_PORTS = "net/ipv4/ip_unprivileged_port_start"
_SYSCTLS = (
    # A listener that is made again loses no queued connection: the kernel
    # moves them to the other socket of the SO_REUSEPORT group.
    ("net/ipv4/tcp_migrate_req", "1"),
    # Before there is a link, or it gives itself addresses first.
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    # A subnet's new address stays when the old one goes: the kernel takes
    # all others of a subnet away with the first (ip-sysctl.rst).
    ("net/ipv4/conf/all/promote_secondaries", "1"),
    # It is nobody's router, and takes no advice on ways: what the host has
    # there a new namespace has too (devconf_inherit_init_net).
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    # A changed MAC address is announced; a guest goes on sending to the old
    # one for up to a minute otherwise.
    ("net/ipv4/conf/all/arp_notify", "1"),
    ("net/ipv6/conf/all/ndisc_notify", "1"),
)


@entrypoint(subject="network")
def apply(
    network: str,
    *,
    mac: str,
    mtu: int,
    addresses: Sequence[str],
    neighbours: Sequence[Sequence[str]],
    hosts: Sequence[str],
    userspace_datapath: bool,
) -> tuple[str, ...]:
    """Make the namespace of NETWORK what the arguments say.

    MAC is the localport's; MTU is in bytes, 0 leaves it alone; ADDRESSES
    are CIDRs of the inner end; NEIGHBOURS are (address, MAC) pairs of the
    local ports, kept permanently; HOSTS are those of them that are on the
    link though in the subnet of none of ADDRESSES. With USERSPACE_DATAPATH
    the inner end's transmit checksum offload is switched off, without it
    on.

    Returns what was changed, in words; empty when all was as asked.
    Raises InvalidArgumentError before anything is touched, OSError and
    pyroute2's NetlinkError half-way: call it again.
    """
    return tuple(
        _apply(
            validate.network(network),
            mac=validate.mac(mac),
            mtu=validate.mtu(mtu),
            addresses=validate.addresses(addresses),
            neighbours=validate.neighbours(neighbours),
            hosts=validate.hosts(hosts),
            userspace_datapath=validate.flag(userspace_datapath),
        )
    )


def _apply(
    network: str,
    *,
    mac: str,
    mtu: int,
    addresses: frozenset[IPInterface],
    neighbours: dict[str, str],
    hosts: frozenset[str],
    userspace_datapath: bool,
) -> list[str]:
    inner = names.inner_veth(network)
    namespace, made = links.ensure_namespace(names.namespace_name(network))
    changes = ["namespace"] if made else []
    try:
        with (
            links.open_inside(namespace) as inside,
            pyroute2.IPRoute() as host,
        ):
            changes += links.ensure_link(inside, "lo", mac=None, mtu=0)
            with kernel.entered(namespace):
                if kernel.write_sysctl(_UNPRIVILEGED_PORTS, "0"):
                    changes.append("unprivileged ports")
                for path, value in _SYSCTLS:
                    kernel.write_sysctl(path, value)
            changes += links.ensure_veth(
                host,
                inside,
                network=network,
                namespace=namespace,
                mac=mac,
                mtu=mtu,
            )
            with kernel.entered(namespace):
                changes += links.stop_address_generation(inner)
                if kernel.set_transmit_checksum(
                    inner, on=not userspace_datapath
                ):
                    state = "off" if userspace_datapath else "on"
                    changes.append(f"transmit checksum {state}")
            link = links.link_by_name(inside, inner)
            if link is None:
                raise OSError(f"{inner} vanished from its namespace")
            index = link["index"]
            changes += links.ensure_addresses(inside, index, addresses)
            changes += links.ensure_neighbours(inside, index, neighbours)
            changes += links.ensure_hosts(inside, index, hosts)
    finally:
        os.close(namespace)
    return changes


@entrypoint(subject="network")
def remove(network: str) -> bool:
    """Remove the namespace and veth of NETWORK.

    Returns True if anything was there. Raises InvalidArgumentError if
    NETWORK is no network id. Processes inside are the fleet's business:
    remove its program first.
    """
    return _remove(validate.network(network))


def _remove(network: str) -> bool:
    with pyroute2.IPRoute() as host:
        removed = links.remove_link(host, names.outer_veth(network), network)
        # Only there when a pair was made and not yet moved.
        removed |= links.remove_link(host, names.inner_veth(network), network)
    return links.remove_namespace(names.namespace_name(network)) or removed


@entrypoint(subject=None)
def list_networks() -> tuple[str, ...]:
    """Return the networks that have a namespace or a veth on this host.

    A file without a mount (a namespace that was lost) counts, and so does
    a veth whose namespace has lost its name: they are ours to clean up.
    """
    try:
        entries = os.listdir(names.NAMESPACE_FOLDER)
    except FileNotFoundError:
        entries = []
    found = {names.network_of_namespace(entry) for entry in entries}
    with pyroute2.IPRoute() as host:
        found |= links.networks_of_veths(host)
    return tuple(sorted(network for network in found if network is not None))
