"""The values that the agent thinks in: rows as they are, networks wanted."""

from __future__ import annotations

import dataclasses
import ipaddress
import uuid
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclasses.dataclass(frozen=True, slots=True)
class VifPort:
    """A port of an instance that is bound to this chassis."""

    logical_port: str
    mac: str  # "fa:16:3e:aa:bb:cc"; its own, where it may use others
    macs: frozenset[str]
    addresses: tuple[tuple[IPAddress, str], ...]  # with the MAC of each
    instance: str  # Nova's id of the instance; "" if the port has none
    project: str
    parent: str = ""  # logical port of the trunk, of a subport
    # Of allowed address pairs; other ports may have the same.
    allowed: tuple[tuple[IPAddress, str], ...] = ()
    # Of `virtual` ports that OVN saw this one take.
    virtual: tuple[IPAddress, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Localport:
    """The metadata port of a network."""

    logical_port: str
    mac: str
    cidrs: frozenset[IPInterface]
    mtu: int  # bytes; 0 if the row does not say


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkSnapshot:
    """What the Southbound database says of one network, on this chassis.

    `complete` is False while the localport of the network has been asked
    for and the server has not answered: nothing is to be done yet.
    """

    network: str
    datapath: uuid.UUID | None
    localport: Localport | None
    ports: tuple[VifPort, ...]  # sorted by logical port
    complete: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class ChassisSnapshot:
    """What the Southbound database says of this chassis, at one moment.

    `problems` are rows that can't be used, in words, each naming its port.
    `synced` is False until the server has answered all that was asked,
    while ovn-controller has no Chassis row, and until ovn-northd has filled
    the database (`is_filled`): what is not seen then may exist all the
    same, so nothing is removed.
    """

    chassis: uuid.UUID | None
    networks: dict[str, NetworkSnapshot]
    problems: tuple[str, ...] = ()
    synced: bool = False
    is_filled: bool = True
    nb_cfg: int = 0  # SB_Global's
    # Set by `settling`: whether what is not in `networks` is really not on
    # this chassis, and the networks that are not before all is settled.
    settled: bool = False
    gone: frozenset[str] = frozenset()

    def is_certain(self, network: str) -> bool:
        """Tell whether what this says of NETWORK can be acted on.

        Not while its localport is asked for, nor while it may be bound here
        and is only not seen.
        """
        known = self.networks.get(network)
        if known is None:
            return self.settled or network in self.gone
        return known.complete


@dataclasses.dataclass(frozen=True, slots=True)
class VswitchPort:
    """A port of Open vSwitch that has the form of our veths' names."""

    bridge: str
    iface_id: str
    network: str = ""  # that our mark names; "" without our mark
    # Of the device that it was made for, as our mark has it.
    ifindex: int | None = None
    is_instance: bool = False  # it has what Nova and libvirt note


@dataclasses.dataclass(frozen=True, slots=True)
class VswitchSnapshot:
    """What the local Open vSwitch database says."""

    system_id: str = ""  # the chassis' name
    bridge: str = "br-int"
    bridge_exists: bool = False
    datapath_type: str = ""
    # By port name.
    ports: dict[str, VswitchPort] = dataclasses.field(default_factory=dict)

    @property
    def is_userspace(self) -> bool:
        """Whether the integration bridge has the userspace datapath."""
        return self.datapath_type == "netdev"


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """Whose metadata an address gets."""

    instance: str
    project: str


@dataclasses.dataclass(frozen=True, slots=True)
class MetadataNetwork:
    """What one network needs on this chassis."""

    network: str  # Neutron's id
    localport: str  # logical port name
    mac: str
    mtu: int  # bytes; 0 leaves it alone
    addresses: frozenset[IPInterface]  # of the namespace's veth end
    neighbours: tuple[tuple[IPAddress, str], ...]  # address, MAC; sorted
    hosts: tuple[IPAddress, ...]  # neighbours outside all subnets; sorted
    instances: tuple[tuple[IPAddress, Instance], ...]  # sorted by address
    conflicts: tuple[str, ...] = ()  # addresses left out, in words

    @property
    def has_ipv6(self) -> bool:
        """Whether metadata is served over IPv6 too."""
        return any(cidr.version == 6 for cidr in self.addresses)
