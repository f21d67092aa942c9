"""Convert an option's text to its value, or report what is allowed.

Each `Value` takes the text, or the default, and returns the value. For a bad
text it raises ValueError with what is allowed, never with the text, which may
be a secret. oslo.config's own types quote the text, accept an empty number as
None, and accept texts that would break a configuration of haproxy.
"""

import dataclasses
import functools
import grp
import ipaddress
import posixpath
import pwd
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_PORT = 65535
# haproxy counts its timers in milliseconds, in 31 bits.
MAX_INT = 2**31 - 1
MAX_SECONDS = MAX_INT // 1000
MAX_SHARE = 1_000_000
_MAX_ID = 2**32 - 2  # 2**32 - 1 means "no id"
# Linux accepts 107 bytes as a socket's path. The agent can connect to a longer
# one, but its clients may not be able to.
_MAX_SOCKET = 107
_MAX_STATE_PATH = 60  # leaves room for the names of sockets in it

_FLAGS = {
    **dict.fromkeys(("true", "1", "on", "yes"), True),
    **dict.fromkeys(("false", "0", "off", "no"), False),
}
# Paths are written into haproxy's and supervisord's files, where blanks,
# quotes, backslashes, '#', '$', '%', ';' and commas have a meaning.
_PATH = re.compile(r"/(?!/)[A-Za-z0-9_@+.=:/-]*")
_HOST = re.compile(r"(?=.{1,253}$)\w(?:[\w.-]*[\w.])?", re.ASCII)
_REMOTE = re.compile(
    r"unix:[^\s,]+|"
    r"(?:tcp|ssl):(?:\[[^\s,/\]]+\]|[^\s,/:\[\]]+):(?P<port>[0-9]+)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IP_VERSIONS = {"4": 4, "6": 6}


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """One kind of value."""

    parse: Callable[[str], Any]  # raises KeyError or ValueError
    allowed: str  # "must be ..."

    def __call__(self, text: object) -> Any:
        """Convert TEXT; oslo.config calls this."""
        try:
            return self.parse(str(text))
        except (KeyError, OverflowError, ValueError):
            raise ValueError(f"must be {self.allowed}") from None


def is_address(host: str) -> bool:
    """Return whether HOST is an address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def optional(value: Value) -> Value:
    """Return the kind that converts as VALUE does; an empty text is None."""
    return Value(
        lambda text: value.parse(text) if text.strip() else None,
        f"{value.allowed}; or empty",
    )


def choice(*words: str) -> Value:
    """Return the kind that accepts one of WORDS."""
    known = {word: word for word in words}
    return Value(known.__getitem__, f"one of {', '.join(words)}")


def whole(low: int, high: int = MAX_INT) -> Value:
    """Return the kind of integers from LOW to HIGH."""

    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError
        return number

    return Value(parse, f"an integer from {low} to {high}")


def _text(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError
    text.encode()  # raises if the bytes were not UTF-8
    return text


def _command(text: str) -> str | None:
    shlex.split(_text(text))
    return text.strip() or None


def _path(text: str, *, shortest: int = 1, longest: int = 4095) -> Path:
    if not _PATH.fullmatch(text) or ".." in text.split("/"):
        raise ValueError
    path = posixpath.normpath(text)
    if not shortest <= len(path) <= longest:
        raise ValueError
    return Path(path)


def _user(text: str) -> str:
    """Return the name of the user with this name or number."""
    text = text.strip()
    try:
        return pwd.getpwnam(text).pw_name
    except KeyError:
        return pwd.getpwuid(int(text)).pw_name


def _group(text: str) -> int:
    text = text.strip()
    number = int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    if number > _MAX_ID:
        raise ValueError
    return number


def _remote(text: str) -> str:
    match = _REMOTE.fullmatch(text.strip())
    if match is None:
        raise ValueError
    if match["port"]:
        PORT.parse(match["port"])
    return match[0]


def _items(text: str) -> list[str]:
    """Return the items between commas; accept one more comma at the end."""
    items = [*map(str.strip, text.strip().removesuffix(",").split(","))]
    if not all(items):
        raise ValueError
    return items


def _several(parse: Callable[[str], Any], allowed: str) -> Value:
    """Return the kind that is a list of what PARSE accepts, each once."""
    return Value(
        lambda text: tuple(dict.fromkeys(map(parse, _items(text)))),
        f"{allowed}; several separated by commas",
    )


def _ip_versions(text: str) -> tuple[int, ...]:
    items = _items(text.strip().removeprefix("[").removesuffix("]"))
    return tuple(sorted({_IP_VERSIONS[item] for item in items}))


def _host_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError
        return _ipv6(address), PORT.parse(rest[1:]) if rest else None
    if text.count(":") > 1:
        return _ipv6(text), None
    host, colon, port = text.partition(":")
    if not _HOST.fullmatch(host):
        raise ValueError
    if not host.strip("0123456789."):
        ipaddress.IPv4Address(host)
    return host, PORT.parse(port) if colon else None


def _listener(text: str) -> tuple[str, int]:
    host, port = _host_port(text.strip())
    if port is None or not is_address(host):
        raise ValueError
    return host, port


def _ipv6(text: str) -> str:
    address = ipaddress.IPv6Address(text)
    if address.scope_id is not None:
        raise ValueError  # haproxy does not support zones
    return str(address)


_ANY_PATH = 'an absolute path of A-Z a-z 0-9 _@+.=:/- without ".."'
PORT = whole(1, MAX_PORT)
COUNT = whole(1)
SECONDS = whole(1, MAX_SECONDS)
SECONDS_OR_0 = whole(0, MAX_SECONDS)
SHARE = whole(0, MAX_SHARE)
FLAG = Value(lambda text: _FLAGS[text.strip().lower()], "true or false")
TEXT = Value(_text, "one line without control characters")
NAME = Value(lambda text: _text(text).strip(), TEXT.allowed)
COMMAND = Value(_command, "a command line with closed quotes; or empty")
PATH = Value(_path, _ANY_PATH)
FILE = optional(PATH)
FOLDER = Value(
    functools.partial(_path, shortest=2), f"{_ANY_PATH}, not the root folder"
)
STATE_PATH = Value(
    functools.partial(_path, shortest=2, longest=_MAX_STATE_PATH),
    f"{FOLDER.allowed}, at most {_MAX_STATE_PATH} bytes",
)
SOCKET = Value(
    functools.partial(_path, longest=_MAX_SOCKET),
    f"{_ANY_PATH}, at most {_MAX_SOCKET} bytes",
)
USER = optional(Value(_user, "a user of this host, by name or number"))
GROUP = optional(Value(_group, "a group of this host, by name, or a number"))
REMOTE = Value(_remote, "tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH")
REMOTES = _several(_remote, REMOTE.allowed)
MAYBE_SOCKET = optional(SOCKET)
MAYBE_LISTENER = optional(Value(_listener, "ADDRESS:PORT or [IPv6]:PORT"))
IP_VERSIONS = Value(_ip_versions, "4, 6 or 4,6")
HOSTS = _several(
    _host_port,
    "a host name or address, not a URL: HOST, HOST:PORT, an IPv6 address or "
    "[IPv6]:PORT",
)
