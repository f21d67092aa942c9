"""Checks of every argument that reaches the daemon.

Each function returns the value in the one form that the daemon works with, or
raises InvalidArgumentError. A value that passes can only name things that
belong to this agent.
"""

import contextlib
import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from . import names
from .errors import InvalidArgumentError

IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

# Linux's smallest IPv4 MTU and the largest a veth takes.
MIN_MTU = 68
MAX_MTU = 65535
MAX_WAIT_S = 12
MAX_OPENFLOW_PORT = 0xFEFF  # <openvswitch/ofp>, OFPP_MAX
MAX_ID = 2**32 - 2  # the next one means "no change" to chown(2)
# More than a /16 of instances on one host is a mistake or an attack.
MAX_ITEMS = 65536

MAC = re.compile(r"(?!00(?::00){5})[0-9a-f][02468ace](?::[0-9a-f]{2}){5}")
# No blank, quote, backslash, '%' or '#', because it goes into an ini file; no
# part of it is "." or "..".
_PATH = re.compile(
    r"(?=.{1,4095}\Z)(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9_@+.,=:-]+)+"
)
_URL_PATH = re.compile(r"/[A-Za-z0-9_./-]{0,255}")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")


def _text(accepts: Callable[[str], object], what: str, value: object) -> str:
    """Return VALUE if it is text that ACCEPTS takes."""
    if isinstance(value, str) and accepts(value):
        return value
    raise InvalidArgumentError(f"not {what}: {value!r:.80}")


def _number(low: int, high: int, what: str, value: object) -> int:
    """Return VALUE if it is an integer from LOW to HIGH."""
    if type(value) is int and low <= value <= high:
        return value
    raise InvalidArgumentError(f"not {what}: {value!r:.80}")


_KINDS = ("request", "answer", "dhcp")  # of packets that are traced
_MODES = ("ensure", "reload", "renew")  # in which a haproxy is started

# Called with the value alone.
network = partial(_text, names.is_network, "a network id")
program = partial(_text, names.is_program, "a network id")
mac = partial(_text, MAC.fullmatch, "a unicast MAC address")
packet = partial(_text, _KINDS.__contains__, "a kind of packet")
mode = partial(_text, _MODES.__contains__, "a mode")
url_path = partial(_text, _URL_PATH.fullmatch, "a path")
device = partial(_text, _DEVICE.fullmatch, "a device's name")
folder = partial(_text, _PATH.fullmatch, "a usable folder")
seconds = partial(_number, 1, MAX_WAIT_S, "a time limit")
openflow_port = partial(_number, 1, MAX_OPENFLOW_PORT, "an OpenFlow port")
vlan = partial(_number, 0, 4094, "a VLAN")  # 0: none
hop_limit = partial(_number, 1, 64, "a hop limit")
gid = partial(_number, 0, MAX_ID, "a group's id")


def mtu(value: object) -> int:
    """Return VALUE if it is an MTU in bytes, or 0 for "leave it alone"."""
    return _number(MIN_MTU if value else 0, MAX_MTU, "an MTU", value)


def flag(value: object) -> bool:
    """Return VALUE if it is a boolean."""
    if isinstance(value, bool):
        return value
    raise InvalidArgumentError(f"not a boolean: {value!r:.80}")


def _items(value: object, what: str) -> Sequence[object]:
    if isinstance(value, list | tuple) and len(value) <= MAX_ITEMS:
        return value
    raise InvalidArgumentError(f"not a list of {what}: {value!r:.80}")


def addresses(value: object) -> frozenset[IPInterface]:
    """Return the CIDRs in VALUE, a list of strings with prefix length."""
    found: set[IPInterface] = set()
    for item in _items(value, "CIDRs"):
        if not isinstance(item, str) or "/" not in item or "%" in item:
            raise InvalidArgumentError(f"not a CIDR: {item!r:.80}")
        try:
            cidr = ipaddress.ip_interface(item)
        except ValueError:
            raise InvalidArgumentError(f"not a CIDR: {item!r:.80}") from None
        if not is_usable(cidr.ip):
            raise InvalidArgumentError(f"not an address to own: {item!r:.80}")
        found.add(cidr)
    return frozenset(found)


def neighbours(value: object) -> dict[str, str]:
    """Return address -> MAC from VALUE, a list of such pairs."""
    found: dict[str, str] = {}
    for pair in _items(value, "neighbours"):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidArgumentError(f"not a neighbour: {pair!r:.80}")
        found[address(pair[0])] = mac(pair[1])
    return found


def hosts(value: object) -> frozenset[str]:
    """Return the addresses in VALUE, a list of strings."""
    return frozenset(address(item) for item in _items(value, "addresses"))


def address(value: object) -> str:
    """Return VALUE in its canonical form if an instance can have it."""
    if isinstance(value, str) and "%" not in value:
        with contextlib.suppress(ValueError):
            parsed = ipaddress.ip_address(value)
            if is_usable(parsed):
                return str(parsed)
    raise InvalidArgumentError(f"not an address: {value!r:.80}")


def is_usable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an interface or an instance can have ADDRESS."""
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address == ipaddress.IPv4Address("255.255.255.255")
    )
