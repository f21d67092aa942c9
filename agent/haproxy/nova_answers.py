"""What became of the requests that the gateway has passed on to Nova."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from .ledger import parse_number

BACKENDS = ("nova", "nova-alone")
# Nova answers 403 if the signature is not by its own secret
# (nova/api/metadata/handler.py), and to nothing else that we send.
REFUSED = "proc.nova_refused"
COUNT_REFUSED = (
    f"http-response set-var({REFUSED}) var({REFUSED},0),add(1) "
    f"if {{ status 403 }}"
)
COMMAND = "; ".join(
    [*(f"show stat {name} 2 -1" for name in BACKENDS), f"get var {REFUSED}"]
)
_VALUE = re.compile(rf"{re.escape(REFUSED)}: type=sint value=<(\d{{1,18}})>")


@dataclasses.dataclass(frozen=True, slots=True)
class NovaAnswers:
    """Numbers of requests since the gateway was started."""

    told: int = 0  # that had an answer below 500, 403 among them
    failed: int = 0  # no connection, no answer, or none in time
    refused: int = 0
    is_down: bool = False  # no server passes haproxy's check


def parse(answer: str) -> NovaAnswers:
    """Return what the gateway ANSWERs to COMMAND.

    What is not understood counts for nothing.
    """
    rows = list(_rows(answer))
    match = _VALUE.search(answer)
    refused = int(match[1]) if match else 0
    told = sum(
        parse_number(row.get(f"hrsp_{kind}xx", ""))
        for row in rows
        for kind in "1234"
    )
    return NovaAnswers(
        told=told,
        failed=sum(
            parse_number(row.get(what, ""))
            for row in rows
            for what in ("econ", "eresp")
        ),
        refused=refused,
        is_down=any(row.get("status") == "DOWN" for row in rows),
    )


def _rows(answer: str) -> Iterator[Mapping[str, str]]:
    """Yield the backends' rows of "show stat", by the names of its columns."""
    names: list[str] = []
    for line in answer.splitlines():
        cells = line.removeprefix("# ").split(",")
        if line.startswith("# "):
            names = cells
        elif cells[0] in BACKENDS and len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))
