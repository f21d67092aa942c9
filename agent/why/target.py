"""Find whose path is meant: by instance, port, address or network."""

import ipaddress
import itertools

from ...privsep import names
from ..config.values import is_address
from ..core import identity
from ..model import ChassisSnapshot, NetworkSnapshot, VifPort
from .facts import Target


def find(name: str, chassis: ChassisSnapshot) -> list[Target]:
    """Return the ports on this chassis that NAME may mean, the best first.

    NAME is a network's id, or an instance's, a port's, an address or a MAC.
    An address or a MAC may be in any form. A port that is bound is better
    than one that is requested.
    """
    if is_address(name):
        name = str(ipaddress.ip_address(name))
    found = [
        _target(name, network, port)
        for network in chassis.networks.values()
        if name and not network.kept
        for port in network.ports
        if {name, name.lower()} & _names_of(port)
        or name in (network.network, network.name)
    ]
    return sorted(found, key=_rank)


def _rank(target: Target) -> tuple[bool, bool, bool, str]:
    port, is_ipv6 = target.port, ":" in target.address
    return not port.bound, not port.instance, is_ipv6, port.logical_port


def _names_of(port: VifPort) -> set[str]:
    ids = {port.logical_port, port.name, port.instance}
    claimed = itertools.chain(*identity.claimed_addresses(port))
    return {*ids, *port.macs, *map(str, claimed)}


def _target(name: str, network: NetworkSnapshot, port: VifPort) -> Target:
    """Return PORT, with the address that it asks from.

    That is NAME if it is one; else the first IPv4 address, else the
    link-local one: both reach the metadata addresses.
    """
    own = [str(address) for address, _ in port.addresses]
    link_local = str(identity.link_local_address(port.mac))
    address = next((each for each in own if ":" not in each), link_local)
    if is_address(name):
        address = link_local if ":" in name else name
    metadata = names.metadata_address(address)
    return Target(name, network, port, address, metadata)
