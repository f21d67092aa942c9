"""What the haproxies have counted of who asked for more than a share."""

from __future__ import annotations

import re

from . import fair_share, stats
from .ledger import Counted, parse_number

# A key is an instance's id; who has broken into a haproxy may say anything.
_ENTRY = re.compile(r"0x[0-9a-f]+: key=([A-Za-z0-9_.:-]{1,255}) ")
_COUNT = re.compile(r" (gpc0|gpc1)=(\d{1,10})\b")
_INCOMPLETE = 12  # `ereq`, of "show stat"'s fields
_MAX_ANSWER = 1 << 20


def read(socket: stats.Stats, *, is_gateway: bool) -> Counted:
    """Return what the haproxy of SOCKET has counted.

    Raises OSError and HaproxyError as `stats.ask` does.
    """
    table = fair_share.INSTANCES if is_gateway else fair_share.SOURCES
    command = (
        f"show table {table} data.gpc0 gt 0; "
        f"show table {table} data.gpc1 gt 0; show stat metadata 1 -1"
    )
    return parse(stats.ask(socket, command, max_bytes=_MAX_ANSWER))


def parse(answer: str) -> Counted:
    """Return what ANSWER says; what is not understood counts for nothing."""
    sources = {}
    incomplete = 0
    for line in answer.splitlines():
        if match := _ENTRY.match(line):
            counts = {name: int(n) for name, n in _COUNT.findall(line)}
            sources[match[1]] = counts.get("gpc0", 0), counts.get("gpc1", 0)
        elif line.startswith("metadata,FRONTEND,"):
            field = "".join(line.split(",")[_INCOMPLETE : _INCOMPLETE + 1])
            incomplete = parse_number(field)
    return Counted(incomplete, sources)
