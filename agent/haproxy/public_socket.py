"""Who may connect to the gateway's public socket, metadata_proxy_socket.

haproxy creates that socket and owns it. It could not replace the socket of
another user: it makes a hard link to the old one first, and
fs.protected_hardlinks forbids that. So the agent's user gets access by the
socket's group.
"""

import dataclasses

# metadata_proxy_socket_mode, in octal.
MODES = {"user": "644", "group": "664", "all": "666"}


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """The mode (octal, as haproxy takes it) and the group of the socket."""

    mode: str
    gid: int


def public_access(
    mode: str, proxy_gid: int | None, *, agent_gid: int
) -> Access:
    """Return the access for metadata_proxy_socket_mode and _group.

    MODE is one of MODES or "deduce". PROXY_GID is None if no group is
    configured; AGENT_GID is used then. As in Neutron, "deduce" is the
    strictest mode that admits both the agent and that group.
    """
    gid = agent_gid if proxy_gid is None else proxy_gid
    if mode == "deduce":
        mode = "group" if gid == agent_gid else "all"
    return Access(MODES[mode], gid)
