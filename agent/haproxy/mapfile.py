"""A network's map, address -> instance, in haproxy's format."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..core import identity
from ..model import Instance, IPAddress

# The value that `parse_map` returns for a key that a map has twice.
TWICE = ""


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


def common(
    rights: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, str]:
    """Return the entries of NOW whose address has the same owner in RIGHTS.

    That is an instance and its project: signatures differ after a change of
    the secret. TWICE names none.
    """
    return {
        address: value
        for address, value in now.items()
        if value != TWICE
        and rights.get(address, "").split("|")[:2] == value.split("|")[:2]
    }


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
            _, key, value = words
            found[key] = TWICE if key in found else value
    return found


def commands(
    file: Path, present: Mapping[str, str], wanted: Mapping[str, str]
) -> list[str]:
    """Return haproxy's commands that turn the map FILE of PRESENT into WANTED.

    A key that is there twice is deleted, then added again: `set map` would
    keep both entries, and `del map` deletes both.
    """
    kept = {
        key: value
        for key, value in present.items()
        if key in wanted and value != TWICE
    }
    gone = sorted(present.keys() - kept.keys())
    changed = sorted(wanted.items() - kept.items())
    return [
        *(f"del map {file} {key}" for key in gone),
        *(f"set map {file} {k} {new}" for k, new in changed if k in kept),
        *(f"add map {file} {k} {new}" for k, new in changed if k not in kept),
    ]
