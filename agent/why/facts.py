"""What `why` has seen of the path of one port."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

from ...privsep import names
from ..model import (
    ChassisSnapshot,
    MetadataNetwork,
    NetworkSnapshot,
    VifPort,
    VswitchSnapshot,
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """Something that could not be looked at, and the reason."""

    reason: str = "not looked at"
    code: str = ""


class UnseenError(Exception):
    """A hop needs something that is `Unseen`, the only argument."""


T = TypeVar("T")
Seen: TypeAlias = Mapping[str, Any] | Unseen


def seen(found: T | Unseen) -> T:
    """Return FOUND; raise UnseenError if it could not be looked at."""
    if isinstance(found, Unseen):
        raise UnseenError(found)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Haproxy:
    """A haproxy: what it says on its stats socket, and its file."""

    config: str = ""  # path
    in_file: str = ""  # digest of the file; "" if its text is another
    running: str = ""  # digest
    pid: int = 0  # 0: nothing answers
    problem: str = "not looked at"  # why it did not answer


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of Nova's metadata API, tried from this host."""

    url: str
    address: str = ""  # "" if the name can't be looked up
    code: str = ""
    problem: str = ""
    took_ms: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The port whose path is walked, and the addresses on both ends."""

    name: str  # as it was asked for
    network: NetworkSnapshot
    port: VifPort
    address: str
    metadata_address: str


@dataclasses.dataclass(frozen=True, slots=True)
class Common:
    """What all paths on this host share."""

    status: Mapping[str, Any]  # of the agent, as `Status.as_dict`
    chassis: ChassisSnapshot
    vswitch: VswitchSnapshot
    # Remote, and why it is disconnected; "" for a connection.
    southbound: tuple[str, str]
    vswitch_db: tuple[str, str]
    keys: tuple[str, ...] = ()  # options of OVN's tools, for TLS
    read_age_s: float = 0.0  # of Southbound's rows
    interfaces: Seen = Unseen()  # of Open vSwitch, by iface-id
    daemons: Seen = Unseen()
    programs: Seen = Unseen()
    gateway: Haproxy = Haproxy()
    gateway_socket: str = ""
    foreign_socket: str = ""  # metadata_proxy_socket, if it is not ours
    nova: tuple[Endpoint, ...] | Unseen = Unseen()

    def interface(self, iface_id: str) -> dict[str, Any]:
        """Return the interface with IFACE_ID; empty if there is none."""
        seen = self.interfaces
        found = {} if isinstance(seen, Unseen) else seen.get(iface_id, {})
        return dict(found)

    def entry(self, key: str) -> dict[str, Any]:
        """Return what the status has of the network KEY (or "gateway")."""
        return dict(self.status["networks"].get(key, {}))


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """All that was seen of a path."""

    common: Common
    target: Target
    # Unseen if it has no localport, which ends the walk before it is needed.
    desired: MetadataNetwork | Unseen = Unseen()
    host: Seen = Unseen()  # as privsep's `look`
    there: str | Unseen = Unseen()  # traces
    back: str | Unseen = Unseen()
    dhcp: str | Unseen = Unseen()
    haproxy: Haproxy = Haproxy()
    map_file: str = ""  # path
    map_text: Mapping[str, str] | Unseen = Unseen()
    map_memory: Mapping[str, str] | Unseen = Unseen()
    path: str = ""  # of the request
    answer: Seen = Unseen()

    @property
    def key(self) -> str:
        """The network's id."""
        return self.target.network.network

    @property
    def space(self) -> str:
        """The network's namespace."""
        return names.namespace_name(self.key)

    @property
    def network_name(self) -> str:
        """The network's name, if it has one, and its id."""
        return f"{self.target.network.name} {self.key}".strip()

    @property
    def iface_id(self) -> str:
        """The instance's interface has it: a subport uses its parent's."""
        return self.target.port.parent or self.target.port.logical_port

    @property
    def tap(self) -> dict[str, Any]:
        """The instance's interface."""
        return self.common.interface(self.iface_id)

    @property
    def veth(self) -> dict[str, Any]:
        """The interface with the localport's iface-id."""
        found = self.target.network.localport
        return self.common.interface(found.logical_port) if found else {}
