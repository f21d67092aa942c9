"""Networks, subnets, ports and routers as Neutron thinks of them."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import uuid

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PROJECT = "7c1a0d5e9b3f4a62a1d0c3b2e4f50617"
METADATA_V4 = ipaddress.IPv4Address("169.254.169.254")
METADATA_V6 = ipaddress.IPv6Address("fe80::a9fe:a9fe")

Fixed = tuple[IPAddress, int]  # address and prefix length


def new_mac() -> str:
    """Return a MAC address as Neutron makes them."""
    tail = random.getrandbits(24).to_bytes(3, "big")
    return "fa:16:3e:" + tail.hex(":")


def eui64(prefix: ipaddress.IPv6Network, mac: str) -> ipaddress.IPv6Address:
    """Return the address that SLAAC makes of MAC in PREFIX."""
    octets = bytes.fromhex(mac.replace(":", ""))
    low = bytes((octets[0] ^ 2,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return prefix[int.from_bytes(low, "big")]


def link_local(mac: str) -> ipaddress.IPv6Address:
    """Return the EUI-64 link-local address of MAC."""
    return eui64(ipaddress.IPv6Network("fe80::/64"), mac)


@dataclasses.dataclass(slots=True)
class Subnet:
    """A subnet; GATEWAY None means there is none."""

    cidr: IPNetwork
    gateway: IPAddress | None
    dhcp: bool = True
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    options_id: str = ""  # of DHCP_Options, IPv4 with DHCP only

    @property
    def dhcp4(self) -> bool:
        """Whether OVN answers DHCPv4 here."""
        return self.dhcp and self.cidr.version == 4


@dataclasses.dataclass(slots=True)
class Port:
    """A logical switch port; also the metadata port of a network."""

    id: str  # Neutron's, and the logical port's name
    row_id: str  # of the Logical_Switch_Port
    network: Network
    mac: str
    fixed: list[Fixed]
    device_id: str
    device_owner: str
    project_id: str
    name: str = ""
    host: str = ""  # empty: unbound
    kind: str = ""  # the column `type`: "", localport, router, virtual
    port_security: bool = True
    revision: int = 1
    # Allowed address pairs: MAC ("" for its own), address or CIDR.
    allowed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    parents: list[str] = dataclasses.field(default_factory=list)  # virtual
    trunk: str = ""  # of a subport: its parent, and the VLAN on it
    tag: int = 0

    @property
    def instance_id(self) -> str:
        """The instance that the port belongs to."""
        return self.device_id

    @property
    def ip4(self) -> ipaddress.IPv4Address | None:
        """The first IPv4 address."""
        for address, _ in self.fixed:
            if isinstance(address, ipaddress.IPv4Address):
                return address
        return None

    @property
    def ip6(self) -> ipaddress.IPv6Address | None:
        """The first IPv6 address that is not link-local."""
        for address, _ in self.fixed:
            if isinstance(address, ipaddress.IPv6Address):
                return address
        return None

    @property
    def link_local(self) -> ipaddress.IPv6Address:
        """The EUI-64 link-local address."""
        return link_local(self.mac)

    @property
    def cidrs(self) -> str:
        """The value of neutron:cidrs."""
        return " ".join(f"{address}/{size}" for address, size in self.fixed)

    @property
    def addresses(self) -> str:
        """MAC and addresses as OVN has them in one string."""
        return " ".join((self.mac, *(str(a) for a, _ in self.fixed)))

    @property
    def allowed_macs(self) -> list[str]:
        """The MACs of its allowed address pairs that are not its own."""
        return sorted({mac for mac, _ in self.allowed if mac})

    @property
    def security(self) -> list[str]:
        """The value of port_security: its addresses and allowed pairs."""
        own = [address for mac, address in self.allowed if not mac]
        others = [f"{mac} {address}" for mac, address in self.allowed if mac]
        return [" ".join((self.addresses, *own)), *others]


@dataclasses.dataclass(slots=True)
class Network:
    """A network: its Logical_Switch has the same id."""

    id: str
    name: str
    mtu: int
    project_id: str
    subnets: list[Subnet]
    ports: dict[str, Port] = dataclasses.field(default_factory=dict)
    next_host: dict[str, int] = dataclasses.field(default_factory=dict)
    metadata: Port = dataclasses.field(init=False)

    @property
    def switch(self) -> str:
        """The name of the Logical_Switch."""
        return f"neutron-{self.id}"

    @property
    def namespace(self) -> str:
        """The namespace in which a metadata agent serves the network."""
        return f"ovnmeta-{self.id}"


@dataclasses.dataclass(slots=True)
class Router:
    """A router with its switch-side ports."""

    id: str
    name: str
    row_id: str
    ports: list[Port] = dataclasses.field(default_factory=list)
