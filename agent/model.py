"""Frozen values: what both databases contain, and what a network needs."""

import dataclasses
import ipaddress
import uuid
from collections.abc import Iterable, Mapping
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclasses.dataclass(frozen=True, slots=True)
class VifPort:
    """A port of an instance that is bound to this chassis, or soon will be."""

    logical_port: str
    mac: str  # "fa:16:3e:aa:bb:cc"; the main one, if it may use several
    macs: frozenset[str]
    addresses: tuple[tuple[IPAddress, str], ...]  # with the MAC of each
    instance: str  # Nova's id of the instance; "" if the port has none
    project: str
    parent: str = ""  # a subport's: the logical port of its trunk
    # From allowed address pairs; other ports may have the same ones.
    allowed: tuple[tuple[IPAddress, str], ...] = ()
    # The addresses of `virtual` ports that OVN saw this port claim.
    virtual: tuple[IPAddress, ...] = ()
    # False: it is requested here, and not plugged yet.
    bound: bool = True
    name: str = ""  # as its project calls it in Neutron
    # It is bound elsewhere too: here as one of its additional chassis.
    moves_here: bool = False
    tag: int = 0  # a subport's: its VLAN on the parent's interface
    is_external: bool = False  # it has no interface on any chassis


@dataclasses.dataclass(frozen=True, slots=True)
class Localport:
    """The metadata port of a network."""

    logical_port: str
    mac: str
    cidrs: frozenset[IPInterface]
    mtu: int  # bytes; 0 if the row has none


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkSnapshot:
    """One network on this chassis, as the Southbound database has it.

    `complete` is False while the server has not sent the localport that we
    requested. Until then the network is left alone. `kept`: its last port has
    gone, and `ports` are those that it had; they are served no more. No row of
    it is requested any more.
    """

    network: str
    localport: Localport | None
    ports: tuple[VifPort, ...]  # sorted by logical port
    complete: bool = True
    kept: bool = False
    name: str = ""  # as its project calls it in Neutron

    @property
    def spare(self) -> str:
        """Why it is here without a bound port; "" if it has one."""
        if self.kept:
            return "kept"
        is_bound = any(port.bound for port in self.ports)
        return "" if is_bound else "requested"


@dataclasses.dataclass(frozen=True, slots=True)
class ChassisSnapshot:
    """This chassis as the Southbound database has it, at one moment.

    `problems` describe rows that can't be used; each names its port.
    `synced` is False until the server has sent all rows that we requested,
    while ovn-controller has no Chassis row, and until ovn-northd has filled
    the database (`is_filled`). A network that is missing from the rows at
    such a time may still exist, so nothing is removed.
    """

    chassis: uuid.UUID | None
    networks: dict[str, NetworkSnapshot]
    problems: tuple[str, ...] = ()
    synced: bool = False
    is_filled: bool = True
    nb_cfg: int = 0  # SB_Global's
    followed: int | None = None  # the same, as far as ovn-controller is
    # Logical ports of all rows, of those that can't be served too, except
    # those that are requested here and bound to no chassis.
    names: frozenset[str] = frozenset()
    # Logical port -> cookie of the flows that ovn-controller makes of its row.
    cookies: Mapping[str, int] = dataclasses.field(default_factory=dict)
    restored: int = 0  # how often the database was, from a backup
    # Set by `core.settling`. `settled`: a network that is not in `networks`
    # has left this chassis. `gone`: those that have left before `settled`;
    # some of them are requested. Then `core.spare` adds those that are kept.
    settled: bool = False
    gone: frozenset[str] = frozenset()

    def in_order(self, networks: Iterable[str]) -> list[str]:
        """Return NETWORKS, those without a bound port here last."""
        late = {key for key, each in self.networks.items() if each.spare}
        return sorted(networks, key=lambda each: (each in late, each))

    def is_certain(self, network: str) -> bool:
        """Return whether the agent may act on this snapshot of NETWORK.

        Not while its localport is missing, nor while a port of it may be
        bound here that is missing from the rows.
        """
        known = self.networks.get(network)
        if known is None:
            return self.settled or network in self.gone
        return known.complete


@dataclasses.dataclass(frozen=True, slots=True)
class VswitchPort:
    """A port of Open vSwitch whose name has the form of our veths' names."""

    bridge: str
    iface_id: str
    network: str = ""  # from our mark in external_ids; "" without one
    # Of the device that the port was made for; from our mark too.
    ifindex: int | None = None
    is_instance: bool = False  # it has the external_ids that Nova sets
    has_rival: bool = False  # another port has its iface_id
    # The row of its interface.
    row: uuid.UUID | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class VswitchSnapshot:
    """The local Open vSwitch database, at one moment."""

    system_id: str = ""  # the chassis' name
    bridge: str = "br-int"
    bridge_exists: bool = False
    datapath_type: str = ""
    # By port name.
    ports: dict[str, VswitchPort] = dataclasses.field(default_factory=dict)
    plugged: frozenset[str] = frozenset()  # iface-ids of ports with a device
    # Those that several ports have, if OVN may have the wrong one.
    doubled: frozenset[str] = frozenset()
    astray: frozenset[str] = frozenset()  # instances', on other bridges
    # Those with ovn-installed, and since when, in s since the epoch.
    installed: dict[str, int] = dataclasses.field(default_factory=dict)
    # Those that have had it: ovn-controller 23.03 takes it from the parent of
    # a trunk when a subport is deleted, and leaves ovn-installed-ts.
    marked: frozenset[str] = frozenset()
    # OpenFlow port of each in `ports` that has one.
    ofports: dict[str, int] = dataclasses.field(default_factory=dict)
    # cur_cfg, while ovs-vswitchd has not applied all changes.
    applied: int | None = None
    problem: str = ""  # why ovs-vswitchd forwards nothing there

    @property
    def metadata_ports(self) -> frozenset[str]:
        """The names of the metadata ports that are plugged here."""
        # An instance's port may have a name like a veth's.
        ours = (p for p in self.ports.values() if not p.is_instance)
        return frozenset(port.iface_id for port in ours)

    @property
    def is_userspace(self) -> bool:
        """Whether the integration bridge has the userspace datapath."""
        return self.datapath_type == "netdev"


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """The instance, and its project, whose metadata an address gets."""

    instance: str
    project: str


@dataclasses.dataclass(frozen=True, slots=True)
class MetadataNetwork:
    """What one network needs on this chassis."""

    network: str  # Neutron's id
    localport: str  # logical port name
    mac: str
    mtu: int  # bytes; 0 leaves it alone
    addresses: frozenset[IPInterface]  # of the inner veth
    neighbours: Mapping[IPAddress, str]  # with the MAC of each
    # Neighbours outside all subnets: each needs a route of its own.
    onlink: frozenset[IPAddress]
    instances: Mapping[IPAddress, Instance]
    conflicts: tuple[str, ...] = ()  # why an address is left out
    spare: str = ""  # see NetworkSnapshot

    @property
    def has_ipv6(self) -> bool:
        """Whether metadata is served over IPv6 too."""
        return any(cidr.version == 6 for cidr in self.addresses)
