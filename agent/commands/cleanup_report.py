"""What `ovn-metadata-cleanup` found, and the lines that it prints about it.

Nothing here touches the host.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set

from ...privsep import names

# Exit codes.
OK, FAILED, INCOMPLETE = 0, 1, 2


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What there is of the agent's at one moment."""

    networks: Mapping[str, Set[str]]  # or "gateway" -> kinds of things
    others: Mapping[str, Callable[[], object]]  # name -> how it is removed
    left: Sequence[str] = ()  # not the agent's to remove, with the reason
    unseen: Sequence[str] = ()  # databases that did not answer, with why
    is_fleet_up: bool = False  # supervisord runs, or a haproxy

    def lines(self) -> dict[str, str]:
        """Return a line about each thing, by a name that stays the same."""
        networks = {
            title(network): f"{title(network)}: {', '.join(sorted(kinds))}"
            for network, kinds in sorted(self.networks.items())
        }
        return networks | {name: name for name in self.others}

    def asides(self) -> list[str]:
        """Return a line about each thing that is not removed, and why."""
        return [
            *(f"left alone: {text}" for text in self.left),
            *(f"not looked at: {text}" for text in self.unseen),
        ]


def title(network: str) -> str:
    """Return what NETWORK (or "gateway") is called in a line."""
    return network if network == names.GATEWAY else f"network {network}"


def plan(found: Found) -> tuple[list[str], int]:
    """Return what a dry run prints about FOUND, and its exit code."""
    lines = [f"would remove {line}" for line in found.lines().values()]
    lines = lines or ["nothing to remove"]
    return [*found.asides(), *lines], INCOMPLETE if found.unseen else OK


def result(
    before: Found, after: Found, errors: Mapping[str, str]
) -> tuple[list[str], int]:
    """Return what to print after the removal, and the exit code.

    A thing is removed if it is not found again; ERRORS only give reasons.
    """
    rest = after.lines()
    lines = [
        f"removed {line}"
        for name, line in before.lines().items()
        if name not in rest
    ]
    for name, line in rest.items():
        reason = errors.get(name, "it is still there, or again")
        lines.append(f"FAILED {line}: {reason}")
    code = INCOMPLETE if after.unseen else OK
    lines = lines or ["nothing to remove"]
    return [*after.asides(), *lines], FAILED if rest else code
