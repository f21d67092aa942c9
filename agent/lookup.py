"""Look up the addresses of a name."""

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
