"""The addresses of a name, and this host's own."""

import socket


def look_up(name: str) -> list[str]:
    """Return the addresses of NAME, best first (RFC 6724).

    This may take long. Raises OSError if there are none.
    """
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("not a host name") from None
    # An address with a zone can be used on its own link only.
    found = [str(info[4][0]) for info in infos]
    return [address for address in dict.fromkeys(found) if "%" not in address]


def own_address(other: str) -> str:
    """Return the address that this host has for OTHER; "" without a route."""
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))  # it sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return ""
