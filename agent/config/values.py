"""Types of options: from what a file says to the value that is meant.

Each takes the text (or the default) and returns the value, or raises
ValueError with what is allowed; the text itself is never in that message,
since it may be a secret. oslo.config calls them; its own types neither
refuse what would break an haproxy file nor return our domain's values.
"""

from __future__ import annotations

import grp
import ipaddress
import posixpath
import pwd
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from ...privsep.validate import MAX_ID

MAX_PORT = 65535
# haproxy counts its timers in milliseconds, in 31 bits.
MAX_INT = 2**31 - 1
MAX_SECONDS = MAX_INT // 1000

_TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no")

# Paths are written into haproxy's and supervisord's files: no blank, quote,
# backslash, '#', '$', '%' or ';', nor the comma that separates addresses.
_PATH = re.compile(r"/[A-Za-z0-9_@+.=:/-]*")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_NUMERIC_HOST = re.compile(r"[0-9.]+")
_MAX_HOST = 253
_REMOTE = re.compile(
    r"unix:[^\s,]+|(?:tcp|ssl):(?:\[[^\s,\]]+\]|[^\s,:\[\]]+):(?P<port>\d+)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IP_VERSIONS = frozenset({4, 6})


def flag(value: object) -> bool:
    """Convert to a bool, from the words that oslo.config takes."""
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError("not a boolean (true or false)")
    return text in _TRUE


def whole(
    low: int, high: int | None = None, *, may_be_empty: bool = False
) -> Callable[[object], int | None]:
    """Return the type of integers from LOW to HIGH (None: no limit)."""
    allowed = f"{low} to {high}" if high is not None else f"{low} or more"

    def convert(value: object) -> int | None:
        text = str(value).strip()
        if not text and may_be_empty:
            return None
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"not an integer ({allowed})") from None
        if number < low or (high is not None and number > high):
            raise ValueError(f"out of range ({allowed})")
        return number

    return convert


def one_of(*choices: str) -> Callable[[object], str]:
    """Return the type of strings that are one of CHOICES."""

    def convert(value: object) -> str:
        text = str(value)
        if text not in choices:
            raise ValueError(f"not one of {', '.join(choices)}")
        return text

    return convert


def text_line(value: object) -> str:
    """Convert to a string without control characters."""
    text = str(value)
    if _CONTROL.search(text):
        raise ValueError("has a line break or another control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8") from None
    return text


def command(value: object) -> str:
    """Convert to a command line that a shell's rules can split."""
    text = text_line(value)
    try:
        shlex.split(text)
    except ValueError:
        raise ValueError("not a command line (unbalanced quotes)") from None
    return text.strip()


def path(value: object) -> Path:
    """Convert to an absolute path of harmless characters."""
    text = str(value)
    if not text.startswith("/") or text.startswith("//"):
        raise ValueError("not an absolute path")
    if not _PATH.fullmatch(text):
        raise ValueError("has a character other than A-Z a-z 0-9 _@+.=:/-")
    if ".." in text.split("/"):
        raise ValueError('has ".." in it; write the path itself')
    return Path(posixpath.normpath(text))


def folder(value: object) -> Path:
    """Convert to the path of a folder below the root."""
    converted = path(value)
    if converted == Path("/"):
        raise ValueError("is the root folder; name one below it")
    return converted


def optional_path(value: object) -> Path | None:
    """Convert to a path; None where there is none."""
    return path(value) if str(value) else None


def socket_path(longest: int) -> Callable[[object], Path]:
    """Return the type of a UNIX socket's path, LONGEST bytes at most."""

    def convert(value: object) -> Path:
        converted = path(value)
        if len(str(converted)) > longest:
            raise ValueError(
                f"too long for a socket (at most {longest} bytes)"
            )
        return converted

    return convert


def user(value: object) -> str:
    """Convert a user of this host, by name or number, to the name.

    "" stays as it is.
    """
    text = str(value).strip()
    if not text:
        return ""
    try:
        return pwd.getpwnam(text).pw_name
    except (KeyError, ValueError):
        pass
    try:
        return pwd.getpwuid(int(text)).pw_name
    except (KeyError, ValueError, OverflowError):
        raise ValueError("no such user") from None


def group_id(value: object) -> int | None:
    """Convert a group of this host, by name or number, to its id.

    None where there is none.
    """
    text = str(value).strip()
    if not text:
        return None
    try:
        number = int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise ValueError("no such group") from None
    if number > MAX_ID:
        raise ValueError("no such group")
    return number


def remote(value: object) -> str:
    """Convert to an OVSDB connection."""
    text = str(value).strip()
    match = _REMOTE.fullmatch(text)
    if match is None:
        raise ValueError(
            "not an OVSDB connection (tcp:HOST:PORT, ssl:HOST:PORT or "
            "unix:PATH)"
        )
    if match["port"]:
        _port(match["port"])
    return text


def remotes(value: object) -> tuple[str, ...]:
    """Convert to OVSDB connections, comma-separated, at least one."""
    return tuple(dict.fromkeys(remote(item) for item in _items(value)))


def ip_versions(value: object) -> tuple[int, ...]:
    """Convert to the IP versions that are listed, sorted."""
    text = str(value).strip().removeprefix("[").removesuffix("]")
    try:
        versions = {int(item) for item in _items(text)}
    except ValueError:
        versions = set()
    if not versions or versions - _IP_VERSIONS:
        raise ValueError("not a list of IP versions (4, 6 or 4,6)")
    return tuple(sorted(versions))


def hosts(value: object) -> tuple[tuple[str, int | None], ...]:
    """Convert to hosts with their ports, comma-separated, at least one.

    Each is HOST, HOST:PORT, an IPv6 address, or [IPv6] with or without
    :PORT. The port is None where none is given.
    """
    return tuple(dict.fromkeys(_host_port(item) for item in _items(value)))


def _items(value: object) -> Iterator[str]:
    """Yield what is between commas; one too many at the end is forgiven."""
    items = str(value).strip().removesuffix(",").split(",")
    for item in items:
        if not item.strip():
            raise ValueError("empty, or with an empty item")
        yield item.strip()


def _host_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("not [IPv6 address] or [IPv6 address]:port")
        return _ipv6(address), _port(rest[1:]) if rest else None
    if text.count(":") > 1:
        return _ipv6(text), None
    host, colon, rest = text.partition(":")
    if len(host) > _MAX_HOST or not _HOST.fullmatch(host):
        raise ValueError("not a host name or an address")
    if _NUMERIC_HOST.fullmatch(host):
        _ipv4(host)
    return host, _port(rest) if colon else None


def _ipv4(text: str) -> None:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError("not an IPv4 address") from None


def _ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError("an IPv6 address with a zone can't be used")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("not an IPv6 address") from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"the port is not an integer (1 to {MAX_PORT})")
    if not 1 <= int(text) <= MAX_PORT:
        raise ValueError(f"the port is out of range (1 to {MAX_PORT})")
    return int(text)
