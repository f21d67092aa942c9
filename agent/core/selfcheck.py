"""Which networks the agent asks in, as whom, and what an answer means."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ...privsep import names
from ..model import MetadataNetwork

NO_ANSWER, WRONG_MAP, NO_GATEWAY = "OVNMD-306", "OVNMD-309", "OVNMD-307"
NO_FLOWS = "OVNMD-206"
CODES = (NO_ANSWER, WRONG_MAP, NO_GATEWAY, NO_FLOWS)


def turn(
    networks: Iterable[str],
    asked: Mapping[str, float],
    failing: Collection[str],
    *,
    most: int,
) -> list[str]:
    """Return the MOST of NETWORKS to ask in next.

    ASKED is when each was asked in. Half of the places are for those that
    are FAILING; new ones come before all others.
    """
    order = sorted(
        networks, key=lambda each: (asked.get(each, -math.inf), each)
    )
    first = [each for each in order if each in failing][: most // 2]
    rest = [each for each in order if each not in first]
    return (first + rest)[:most]


def sources(desired: MetadataNetwork | None, number: int) -> list[str]:
    """Return an instance's address of each IP version that is served.

    It is another one for another NUMBER.
    """
    if desired is None:
        return []
    found = []
    for version in (4, 6)[: 1 + desired.has_ipv6]:
        of_version = [
            str(address)
            for address in desired.instances
            if address.version == version
        ]
        if of_version:
            found.append(of_version[number % len(of_version)])
    return found


def answer_packet(
    source: str, ofport: int, *, mac: str, to_mac: str
) -> dict[str, Any]:
    """Return the answer to SOURCE, as it enters the bridge by OFPORT."""
    return {
        "kind": "answer",
        "in_port": ofport,
        "vlan": 0,
        "mac": mac,
        "to_mac": to_mac,
        "source": names.metadata_address(source),
        "destination": source,
    }


def verdict(source: str, status: int) -> tuple[str, str]:
    """Return the code and the reason of STATUS for SOURCE; "" for none."""
    if status == 200:
        return "", ""
    if status == 404:
        return WRONG_MAP, f"the map in haproxy has no {source}"
    if status in (502, 503, 504):
        return NO_GATEWAY, f"the network's haproxy gets no answer: {status}"
    return NO_ANSWER, f"asked as {source}: answered {status}"
