"""Names of a network's things, as the privileged side has them too.

Both sides must agree on them, so they are written once, over there.
"""

from __future__ import annotations

from ..privsep.names import (
    GATEWAY,
    LISTENER_V4,
    LISTENER_V6,
    METADATA_ADDRESS_V4,
    METADATA_ADDRESS_V6,
    NAMESPACE_FOLDER,
    NAMESPACE_PREFIX,
    config_file,
    inner_veth,
    is_network,
    is_outer_veth,
    map_file,
    namespace_name,
    network_of_file,
    network_of_namespace,
    outer_veth,
    pid_file,
    program_name,
    public_socket,
)

__all__ = [
    "GATEWAY",
    "LISTENER_V4",
    "LISTENER_V6",
    "METADATA_ADDRESS_V4",
    "METADATA_ADDRESS_V6",
    "NAMESPACE_FOLDER",
    "NAMESPACE_PREFIX",
    "config_file",
    "inner_veth",
    "is_network",
    "is_outer_veth",
    "map_file",
    "namespace_name",
    "network_of_file",
    "network_of_namespace",
    "outer_veth",
    "pid_file",
    "program_name",
    "public_socket",
]
