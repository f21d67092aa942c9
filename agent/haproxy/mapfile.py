"""A network's map: address -> whose it is, as haproxy reads it."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping

from ..core import identity
from ..model import Instance, IPAddress

# The value, in what was read, of a key that a map has twice.
TWICE = ""


@dataclasses.dataclass(frozen=True, slots=True)
class MapChange:
    """What turns one map into another: keys to delete, set and add.

    In this order: a key may be deleted and added again.
    """

    delete: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.delete or self.set or self.add)


def entries(
    instances: Iterable[tuple[IPAddress, Instance]], secret: str
) -> dict[str, str]:
    """Return address -> "instance|project|signature", signed by SECRET."""
    return {
        str(address): "|".join(
            (
                who.instance,
                who.project,
                identity.signature(secret, who.instance),
            )
        )
        for address, who in instances
    }


def same_owner(value: str, other: str) -> bool:
    """Tell whether both values are the same instance's.

    Their signatures may differ: the secret may be a new one.
    """
    return value.split("|")[:2] == other.split("|")[:2]


def render_map(wanted: Mapping[str, str]) -> str:
    """Return the text of a map file, one "key value" a line, sorted."""
    return "".join(f"{key} {wanted[key]}\n" for key in sorted(wanted))


def parse_file(text: str) -> dict[str, str]:
    """Return the map that a map file with TEXT holds."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: value for key, _, value in pairs}


def parse_map(lines: Iterable[str]) -> dict[str, str]:
    """Return what haproxy's `show map` lists: "0x... key value" a line.

    A key that is there twice (two agents added it, neither knowing of the
    other) has the value TWICE, which no entry of ours has.
    """
    found: dict[str, str] = {}
    for line in lines:
        words = line.split(" ", 2)
        if len(words) == 3 and words[0].startswith("0x"):
            key = _canonical(words[1])
            found[key] = TWICE if key in found else words[2]
    return found


def _canonical(key: str) -> str:
    """Return KEY as Python writes an address; haproxy keeps what it got."""
    try:
        return str(ipaddress.ip_address(key))
    except ValueError:
        return key


def change(present: Mapping[str, str], wanted: Mapping[str, str]) -> MapChange:
    """Return what turns PRESENT into WANTED.

    A key that is there twice is deleted and added again: `set map` would
    leave both, and `del map` takes both.
    """
    delete, to_set, add = [], [], []
    for key in sorted(present.keys() | wanted.keys()):
        is_twice = present.get(key) == TWICE
        if key in present and (is_twice or key not in wanted):
            delete.append(key)
        if key in wanted and (is_twice or key not in present):
            add.append((key, wanted[key]))
        elif key in wanted and present[key] != wanted[key]:
            to_set.append((key, wanted[key]))
    return MapChange(tuple(delete), tuple(to_set), tuple(add))
