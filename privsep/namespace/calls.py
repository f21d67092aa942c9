"""Entrypoints: a network's namespace and veth; each call is idempotent."""

from collections.abc import Sequence

from .. import kernel, names, validate
from ..context import entrypoint
from ..validate import IPInterface
from . import sysctls


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
    hop_limit: int,
) -> tuple[str, ...]:
    """Make the namespace and veth of NETWORK as the arguments describe.

    MAC is the localport's. MTU is in bytes; 0 leaves it alone. ADDRESSES are
    CIDRs of the inner end. NEIGHBOURS are (address, MAC) pairs of the local
    ports; they become permanent neighbours. HOSTS are the addresses among
    them that are on the link but in the subnet of none of ADDRESSES. With
    USERSPACE_DATAPATH the inner end's transmit checksum offload is off,
    else on. HOP_LIMIT is that of all packets from there.

    Returns what was changed, in words, and how the addresses differ, which
    `set_addresses` changes; empty if nothing was or does. Raises
    InvalidArgumentError before anything is touched, OSError and pyroute2's
    NetlinkError half-way: call it again.
    """
    return tuple(
        _apply(
            validate.network(network),
            mac=validate.mac(mac),
            mtu=validate.mtu(mtu),
            addresses=validate.addresses(addresses),
            neighbours=validate.neighbours(neighbours),
            hosts=validate.hosts(hosts),
            checksum=not validate.flag(userspace_datapath),
            hop_limit=validate.hop_limit(hop_limit),
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
    checksum: bool,
    hop_limit: int,
) -> list[str]:
    from . import links

    namespace, made = links.ensure_namespace(network)
    changes = ["namespace"] if made else []
    with (
        kernel.closing(namespace),
        links.gate.coming(),
        links.open_inside(namespace) as inside,
        links.open_host() as host,
    ):
        changes += links.ensure_link(inside, links.existing(inside, "lo"))
        with kernel.entered(namespace):
            differed = sysctls.ensure_namespace()
        index, found = links.ensure_veth(
            host,
            inside,
            network=network,
            namespace=namespace,
            mac=mac,
            mtu=mtu,
        )
        changes += found or links.ensure_routed(inside, index, addresses)
        inner = names.inner_veth(network)
        with kernel.entered(namespace):
            differed |= sysctls.ensure_link(inner, hop_limit)
            if kernel.set_transmit_checksum(inner, on=checksum):
                changes.append("transmit checksum")
        changes += [f"sysctl {n}" for n in sorted(differed) if not made]
        changes += links.compare_addresses(inside, index, addresses)
        changes += links.ensure_neighbours(inside, index, neighbours)
        changes += links.ensure_hosts(inside, index, hosts)
    return changes


@entrypoint(subject="network")
def set_addresses(network: str, *, addresses: Sequence[str]) -> None:
    """Give exactly ADDRESSES to the veth that `apply` has made for NETWORK.

    This is a call of its own because it has to come after the one that makes
    the listening sockets: an address without a listener refuses clients.
    If it has them, they are announced with its MAC, and its neighbours are
    gone: call `apply`. Raises as `apply` does.
    """
    from . import links

    network = validate.network(network)
    cidrs = validate.addresses(addresses)
    namespace = kernel.open_namespace(network)
    with kernel.closing(namespace), links.open_inside(namespace) as inside:
        inner = links.existing(inside, names.inner_veth(network))
        if links.compare_addresses(inside, int(inner["index"]), cidrs):
            links.ensure_addresses(inside, int(inner["index"]), cidrs)
        else:  # the kernel announces a MAC that is set, also the same one
            mac = inner.get_attr("IFLA_ADDRESS")
            inside.link("set", index=inner["index"], address=mac)


@entrypoint(subject="network")
def remove_veth(network: str) -> bool:
    """Remove the veth of NETWORK; return whether it was there.

    Nothing reaches the namespace any more. A link that is not ours stays.
    """
    from . import links

    return links.remove_veth(validate.network(network))


@entrypoint(subject="network")
def remove(network: str) -> bool:
    """Remove the namespace of NETWORK; return whether it was there.

    Raises InvalidArgumentError. Call `remove_veth` first, and remove the
    program: the fleet's haproxy inside is not ended here.
    """
    from . import links

    return links.remove_namespace(validate.network(network))


@entrypoint(subject=None)
def list_networks() -> tuple[str, ...]:
    """Return the networks that have a namespace or a veth on this host.

    A file without a mount (a namespace that was lost) counts, and so does
    a veth whose namespace has lost its name: the agent cleans them up.
    """
    from pyroute2 import netns

    from . import links

    entries = netns.listnetns(names.NAMESPACE_FOLDER)
    found = {names.network_of_namespace(entry) for entry in entries}
    with links.open_host() as host:
        found |= links.networks_of_veths(host)
    return tuple(sorted(network for network in found if network is not None))
