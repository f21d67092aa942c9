"""A network's map: address -> whose it is, as haproxy reads it."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping

from .. import identity
from ..model import Instance, IPAddress


@dataclasses.dataclass(frozen=True, slots=True)
class MapChange:
    """What turns one map into another: keys to delete, set and add."""

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


def parse_map(lines: Iterable[str]) -> dict[str, str]:
    """Return what haproxy's `show map` lists: "0x... key value" a line.

    A key twice (it was added by two who did not know of each other)
    counts as one with no value, so that a difference is seen.
    """
    found: dict[str, str] = {}
    for line in lines:
        words = line.split(" ", 2)
        if len(words) == 3 and words[0].startswith("0x"):
            key = _canonical(words[1])
            found[key] = "" if key in found else words[2]
    return found


def _canonical(key: str) -> str:
    """Return KEY as Python writes an address; haproxy keeps what it got."""
    try:
        return str(ipaddress.ip_address(key))
    except ValueError:
        return key


def change(present: Mapping[str, str], wanted: Mapping[str, str]) -> MapChange:
    """Return what turns PRESENT into WANTED."""
    return MapChange(
        delete=tuple(sorted(present.keys() - wanted.keys())),
        set=tuple(
            (key, wanted[key])
            for key in sorted(wanted.keys() & present.keys())
            if present[key] != wanted[key]
        ),
        add=tuple(
            (key, wanted[key])
            for key in sorted(wanted.keys() - present.keys())
        ),
    )
