"""Names of a network's namespace, veth and program, and back.

The namespace and the veth have the names that Neutron's agent uses, so that
each agent can take over from the other.
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

_NETWORK = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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


def inner_veth(network: str) -> str:
    """Return the veth end inside the namespace."""
    return f"tap{network[:10]}1"


def program_name(network: str) -> str:
    """Return supervisord's name for the haproxy of NETWORK (or gateway)."""
    return f"haproxy-{network}"


def network_of_program(name: str) -> str | None:
    """Return the network (or gateway) of the supervisord program NAME."""
    network = name.removeprefix("haproxy-")
    return network if network != name and is_program(network) else None
