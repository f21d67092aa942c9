"""Names of a network's namespace, veth, files and program, and back.

The namespace, veth and files have the names that Neutron's agent uses, so
that each agent can take over from the other.
"""

import re

NAMESPACE_PREFIX = "ovnmeta-"
NAMESPACE_FOLDER = "/run/netns"
METADATA_ADDRESS_V4 = "169.254.169.254"
METADATA_ADDRESS_V6 = "fe80::a9fe:a9fe"
METADATA_PORT = 80
GATEWAY = "gateway"
# The version of the calls from the daemon to supervisord's extension.
FLEET_PROTOCOL = 7
# The descriptors of a network's listening sockets in its haproxy.
LISTENER_V4 = 3
LISTENER_V6 = 4
# A line in the log of each haproxy, before what it prints.
STARTS = "[fleet] haproxy starts"

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NETWORK = re.compile(_UUID)
# Temporary files match too, if one was left: ".X.conf.tmp" is ours,
# "X.sock.7.tmp" and "X.sock.7.bak" are haproxy's.
_FILE = re.compile(
    rf"\.?({_UUID}|{GATEWAY})\.(?:conf|map|new|sock|pid\.haproxy)"
    r"(?:\.tmp|\.[0-9]+\.(?:tmp|bak))?"
)
_OUTER_VETH = re.compile("tap[0-9a-f]{8}-[0-9a-f]0")


def metadata_address(client: str) -> str:
    """Return the metadata address of the same IP version as CLIENT."""
    return METADATA_ADDRESS_V6 if ":" in client else METADATA_ADDRESS_V4


def is_network(text: str) -> bool:
    """Return whether TEXT is a network's id in its canonical form."""
    return _NETWORK.fullmatch(text) is not None


def is_program(text: str) -> bool:
    """Return whether TEXT is a network's id, or "gateway"."""
    return text == GATEWAY or is_network(text)


def namespace_name(network: str) -> str:
    """Return the name of the namespace that serves NETWORK."""
    return NAMESPACE_PREFIX + network


def namespace_file(network: str) -> str:
    """Return the path at which that namespace is mounted."""
    return f"{NAMESPACE_FOLDER}/{namespace_name(network)}"


def network_of_namespace(name: str) -> str | None:
    """Return the network that the namespace NAME serves, if it is ours."""
    network = name.removeprefix(NAMESPACE_PREFIX)
    return network if network != name and is_network(network) else None


def outer_veth(network: str) -> str:
    """Return the veth end that is a port of the integration bridge."""
    return f"tap{network[:10]}0"


def is_outer_veth(name: str) -> bool:
    """Return whether NAME has the form of an outer veth's name.

    An instance's tap device may have the same name.
    """
    return _OUTER_VETH.fullmatch(name) is not None


def inner_veth(network: str) -> str:
    """Return the veth end inside the namespace."""
    return f"tap{network[:10]}1"


def config_file(network: str) -> str:
    """Return the file name of a program's haproxy configuration."""
    return f"{network}.conf"


def program_file(network: str) -> str:
    """Return the name of a program's file, which no older version reads."""
    return f"{network}.ini"


def pid_file(network: str) -> str:
    """Return the name that Neutron gives to a haproxy's PID file."""
    return f"{network}.pid.haproxy"


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
    return network if network != name and is_program(network) else None
