"""Names of what belongs to a network on this host, and back.

They are Neutron's (namespace, veth, files), so that this agent and
Neutron's can take over from each other.
"""

from __future__ import annotations

import re

NAMESPACE_PREFIX = "ovnmeta-"
NAMESPACE_FOLDER = "/run/netns"
METADATA_ADDRESS_V4 = "169.254.169.254"
METADATA_ADDRESS_V6 = "fe80::a9fe:a9fe"
GATEWAY = "gateway"
# Of what the daemon and supervisord's extension expect of each other.
FLEET_PROTOCOL = 4
# In the environment of a network's program that supervisord listens for; the
# descriptors that it has then.
LISTENERS_MARK = "LISTEN_FDS"
LISTENER_V4 = 3
LISTENER_V6 = 4
GATEWAY_SOCKET = "gateway.sock"  # in the fleet's own folder

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NETWORK = re.compile(_UUID)
_NAMESPACE = re.compile(f"{NAMESPACE_PREFIX}({_UUID})")
# With what is left of one that was being written: ".X.conf.tmp" is ours,
# "X.sock.7.tmp" and "X.sock.7.bak" are haproxy's.
_FILE = re.compile(
    rf"\.?({_UUID}|{GATEWAY})\.(?:conf|map|new|sock|pid\.haproxy)"
    r"(?:\.tmp|\.[0-9]+\.(?:tmp|bak))?"
)
_PUBLIC_SOCKET = re.compile("metadata_proxy-[0-7]{3}-[0-9]{1,10}")
_OUTER_VETH = re.compile("tap[0-9a-f]{8}-[0-9a-f]0")


def is_network(text: str) -> bool:
    """Tell whether TEXT is a network's id in its canonical form."""
    return _NETWORK.fullmatch(text) is not None


def namespace_name(network: str) -> str:
    """Return the name of the namespace that serves NETWORK."""
    return NAMESPACE_PREFIX + network


def network_of_namespace(name: str) -> str | None:
    """Return the network that the namespace NAME serves, if it is ours."""
    match = _NAMESPACE.fullmatch(name)
    return match.group(1) if match else None


def outer_veth(network: str) -> str:
    """Return the veth end that is a port of the integration bridge."""
    return f"tap{network[:10]}0"


def is_outer_veth(name: str) -> bool:
    """Tell whether NAME is that of an outer veth.

    An instance's tap device may have the same name.
    """
    return _OUTER_VETH.fullmatch(name) is not None


def inner_veth(network: str) -> str:
    """Return the veth end inside the namespace."""
    return f"tap{network[:10]}1"


def config_file(network: str) -> str:
    """Return the file name of a program's haproxy configuration."""
    return f"{network}.conf"


def map_file(network: str) -> str:
    """Return the file name of a network's map of instances."""
    return f"{network}.map"


def pid_file(network: str) -> str:
    """Return the file name of a haproxy master's PID file, Neutron's."""
    return f"{network}.pid.haproxy"


def public_socket(*, mode: str, backlog: int) -> str:
    """Return the name of the gateway's socket for everybody.

    A reload hands listening sockets on as they are, so one with another
    mode (octal) or backlog has another name.
    """
    return f"metadata_proxy-{mode}-{backlog}"


def is_public_socket(name: str) -> bool:
    """Tell whether NAME is one of those."""
    return _PUBLIC_SOCKET.fullmatch(name) is not None


def network_of_file(name: str) -> str | None:
    """Return the network (or gateway) whose file NAME is, if it is ours."""
    match = _FILE.fullmatch(name)
    return match.group(1) if match else None


def program_name(network: str) -> str:
    """Return supervisord's name for the haproxy of NETWORK (or gateway)."""
    return f"haproxy-{network}"


def network_of_program(name: str) -> str | None:
    """Return the network (or gateway) of the supervisord program NAME."""
    network = name.removeprefix("haproxy-")
    if network == name:
        return None
    return network if network == GATEWAY or is_network(network) else None
