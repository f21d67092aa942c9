"""What `ovn-metadata-cleanup` finds, whose it is, and what it says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from .. import names
from ..model import SwitchPort

OK = 0
FAILED = 1
INCOMPLETE = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One thing of ours on this host."""

    kind: str  # "namespace", "veth", "OVS port", ...
    name: str
    network: str = ""  # or "gateway"; "" of neither

    def __str__(self) -> str:
        """Return it as an operator reads it.

        A haproxy that was broken into gives its files what names it likes.
        """
        of = self.network
        name = "".join(
            c if c.isprintable() else ascii(c)[1:-1] for c in self.name
        )
        told = not of or of in name
        return f"{self.kind} {name}" + ("" if told else f" of {of}")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """All that was found, in the order in which it is told."""

    items: tuple[Item, ...]
    left: tuple[str, ...] = ()  # not removed, each with the reason
    unseen: tuple[str, ...] = ()  # could not be looked at, with the reason


def sort_ports(
    ports: Mapping[str, SwitchPort],
    *,
    networks: Collection[str],
    localports: Mapping[str, str],
) -> tuple[list[Item], list[str]]:
    """Return which of PORTS are ours, and what is left where that is open.

    An instance's port is tap and eleven letters of the port's id; ours is
    tap, ten of the network's and a zero. So a port is ours by our mark, or
    where its name leads to one of NETWORKS (of which there is more on this
    host) or its iface-id to one of LOCALPORTS: name -> network. It never is
    if Nova has noted on it whose it is.
    """
    by_name = {names.outer_veth(network): network for network in networks}
    items, left = [], []
    for name, port in sorted(ports.items()):
        network = port.network or by_name.get(name, "")
        owner = localports.get(port.iface_id, "")
        if not network and owner and names.outer_veth(owner) == name:
            network = owner
        if port.is_instance:
            if network:
                left.append(
                    f"OVS port {name}: named like that of network {network}, "
                    f"but an instance's"
                )
        elif network:
            items.append(Item("OVS port", name, network))
        else:
            left.append(
                f"OVS port {name}: named like ours, but nothing else says so; "
                f"if it is no instance's: ovs-vsctl del-port {name}"
            )
    return items, left


def tell_plan(found: Found) -> tuple[list[str], int]:
    """Return what a dry run says about FOUND, and its exit code."""
    lines = [f"would remove {item}" for item in found.items]
    lines += _asides(found)
    count = len(found.items)
    lines.append(f"{_things(count)} to remove" if count else _nothing(found))
    return lines, INCOMPLETE if found.unseen else OK


def tell_result(
    before: Found, after: Found, errors: Mapping[Item, str]
) -> tuple[list[str], int]:
    """Return what to say after the removal, and the exit code.

    What is gone is what is not found again: ERRORS have the reasons only.
    """
    gone = [item for item in before.items if item not in after.items]
    lines = [f"removed {item}" for item in gone]
    for item in after.items:
        reason = errors.get(item, "it is there again, or still")
        lines.append(f"FAILED {item}: {reason}")
    lines += _asides(after)
    if not gone and not after.items:
        lines.append(_nothing(after))
    else:
        failed = len(after.items)
        lines.append(
            f"{_things(len(gone))} removed"
            + (f", {failed} could not be" if failed else "")
        )
    if after.items:
        return lines, FAILED
    return lines, INCOMPLETE if after.unseen else OK


def _asides(found: Found) -> Iterator[str]:
    yield from (f"left alone: {text}" for text in found.left)
    yield from (f"not looked at: {text}" for text in found.unseen)


def _nothing(found: Found) -> str:
    return f"nothing to remove{' where it looked' if found.unseen else ''}"


def _things(count: int) -> str:
    return f"{count} thing{'' if count == 1 else 's'}"
