"""A network's map, address -> instance, in haproxy's format."""

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable, Mapping

from ..core import identity
from ..model import Instance, IPAddress

# The value that `parse_map` returns for a key that a map has twice.
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
        """Return whether there is anything to do."""
        return bool(self.delete or self.set or self.add)


def entries(
    instances: Iterable[tuple[IPAddress, Instance]],
    secret: str,
    shielded: Callable[[Instance], Iterable[str]] = lambda _owner: (),
) -> dict[str, str]:
    """Return address -> "instance|project|signature", signed by SECRET.

    What SHIELDED returns of the instance comes before the signature.
    """
    return {
        str(address): "|".join(
            (
                owner.instance,
                owner.project,
                *shielded(owner),
                identity.signature(secret, owner.instance),
            )
        )
        for address, owner in instances
    }


def same_owner(value: str, other: str) -> bool:
    """Return whether both values name the same instance and project.

    Their signatures differ after a change of the secret.
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
    """Return the map that haproxy's `show map` lists.

    A line is "0x... key value". A key that is there twice (two agents added
    it at the same time) gets the value TWICE, which no entry has.
    """
    found: dict[str, str] = {}
    for line in lines:
        words = line.split(" ", 2)
        if len(words) == 3 and words[0].startswith("0x"):
            key = _canonical(words[1])
            found[key] = TWICE if key in found else words[2]
    return found


def _canonical(key: str) -> str:
    """Return the address KEY as Python writes it; haproxy does not."""
    try:
        return str(ipaddress.ip_address(key))
    except ValueError:
        return key


def change(present: Mapping[str, str], wanted: Mapping[str, str]) -> MapChange:
    """Return what turns PRESENT into WANTED.

    A key that is there twice is deleted and added again: `set map` would
    keep both entries, and `del map` deletes both.
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
