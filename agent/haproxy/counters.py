"""Read the haproxies' counters: commands, answers, sums.

A haproxy loses its counters at a restart, and forgets a client a minute after
its last request. `Sums` adds up the counters over both.
"""

import collections
import dataclasses
import operator
import re
from collections.abc import Iterable, Iterator, Mapping

from . import asks, limits, shield

# A client that went over its share this long ago is no longer reported.
CALM_S = 60.0
# At most so many clients are reported: a haproxy that was broken into may
# invent any number of them.
_MOST_OVER = 100

_NUMBER = re.compile(r"[0-9]{1,18}")
_UNPRINTABLE = re.compile(r"[^ -~]")
_MOST_LETTERS = 80
_NOTHING = (0, 0, 0)
_CLASSES = (("2xx",), ("3xx",), ("4xx",), ("5xx",), ("1xx", "other"))
LIMITED = "rate_limited_requests"
# In the answer to "get var".
_VALUE = re.compile(r"proc\.(\w{1,40}): type=sint value=<(\d{1,18})>")

_NOVA_BACKENDS = (limits.LANE, limits.LONE_LANE)
_REFUSED = "nova_refused"
# The rule that counts how often Nova refuses a signature. It answers 403 to
# that (nova/api/metadata/handler.py) and to nothing else that we send. A web
# server in front of it may answer 403 because of what an instance sends.
COUNT_REFUSED = (
    f"http-response set-var(proc.{_REFUSED}) var(proc.{_REFUSED},0),add(1) "
    f"if {{ status 403 }}"
)
NOVA_COMMAND = "; ".join(
    [
        # A backend and its servers.
        *(f"show stat {name} 6 -1" for name in _NOVA_BACKENDS),
        f"get var proc.{_REFUSED}",
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """What one haproxy has counted since it started.

    `sources`: instance -> (gpc0, gpc1, gpc2), as `limits` explains them.
    """

    # Requests that were not HTTP, or not complete: their source is unknown.
    incomplete: int = 0
    sources: Mapping[str, tuple[int, ...]] = dataclasses.field(
        default_factory=dict
    )
    connections: int = 0  # the most that it takes; 0: unknown
    process: str = ""  # one that counts from 0 has another
    version: str = ""
    # Of a network's: answers by class (2xx, 3xx, 4xx, 5xx, other), those of
    # them that were "not yet", and the mean time of the last ones.
    answers: tuple[int, ...] = (0,) * 5
    not_yet: int = 0
    response_ms: int = 0
    shield: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of Nova's, as the gateway sees it."""

    address: str  # with the port
    is_down: bool = False  # it does not pass haproxy's check
    why: str = ""  # what the check found
    check_ms: int | None = None  # None: it is not checked
    response_ms: int = 0  # on average over the last 1024 answers


@dataclasses.dataclass(frozen=True, slots=True)
class NovaCounted:
    """Numbers of requests to Nova since the gateway started."""

    answered: int = 0  # with a status below 500, 403 included
    good: int = 0  # those of them with 2xx
    unconnected: int = 0
    # No answer, or none in time. A server may close the connection because of
    # what one instance sends, like a header that is too long for it.
    failed: int = 0
    refused: int = 0  # 403
    is_down: bool = False  # no server passes haproxy's check
    errors: int = 0  # answers with a status from 500
    endpoints: tuple[Endpoint, ...] = ()


class Sums:
    """The sums of one haproxy's counters, over its restarts."""

    def __init__(self) -> None:
        self.last: Counted | None = None
        self._over: dict[str, float] = {}  # source -> when it was last over
        self._sums = _NOTHING
        self._incomplete = 0
        self._shield: collections.Counter[str] = collections.Counter()

    def add(self, counted: Counted, now: float) -> list[str]:
        """Add what was COUNTED; return the sources newly over their share.

        The sums start with the first call: its counters are not added.
        """
        before = self.last or dataclasses.replace(counted, sources={})
        if before.process != counted.process:
            before = Counted()
        over = set()
        for source, counts in counted.sources.items():
            last = before.sources.get(source, _NOTHING)
            more = [*map(growth, last, counts)]
            self._sums = tuple(map(operator.add, self._sums, more))
            if any(more):
                over.add(source)
        self._incomplete += growth(before.incomplete, counted.incomplete)
        for name, number in counted.shield.items():
            self._shield[name] += growth(before.shield.get(name, 0), number)
        self.last = counted
        self._over = {
            source: seen
            for source, seen in self._over.items()
            if now - seen <= CALM_S
        }
        known = over & self._over.keys()
        new = sorted(over - known)[: _MOST_OVER - len(self._over)]
        self._over.update(dict.fromkeys((*known, *new), now))
        return new

    @property
    def over(self) -> tuple[str, ...]:
        """The sources that are over their share, sorted."""
        return tuple(sorted(self._over))

    def by_name(self, *, is_gateway: bool) -> dict[str, int]:
        """Return the sums by what they count (see `limits`)."""
        what = ["refused_connections", "unlogged_requests", LIMITED]
        if is_gateway:
            what = ["queued_requests", "refused_requests"]
        sums = dict(zip(what, self._sums, strict=False))
        shield = {} if is_gateway else self._shield
        return {**sums, "incomplete_requests": self._incomplete, **shield}


def growth(before: int, after: int) -> int:
    """Return by how much a counter grew; a smaller one restarted from 0."""
    return after - before if after >= before else after


def command(*, is_gateway: bool) -> str:
    """Return the command whose answer `parse` reads."""
    table = limits.INSTANCES if is_gateway else limits.SOURCES
    used = ("gpc0", "gpc1") if is_gateway else ("gpt0",)
    shows = [f"show table {table} data.{name} gt 0" for name in used]
    stats = ["show stat metadata 1 -1"]
    if not is_gateway:
        stats += [f"show stat {name} 2 -1" for name in ("gateway", "hold")]
        stats.append(shield.COMMAND)
    return "; ".join([*shows, *stats, "show info"])


def info(answer: str, name: str) -> str:
    """Return the word that ANSWER, to "show info", has for NAME, or ""."""
    value = rf"^{name}: ([\w.~+-]{{1,64}})$"
    found = re.search(value, answer, re.MULTILINE | re.ASCII)
    return found[1] if found else ""


def parse(answer: str) -> Counted:
    """Return the counters in ANSWER; ignore what can't be parsed."""
    rows = {row["pxname"]: row for row in _stat_rows(answer)}
    front, hold = rows.get("metadata", {}), rows.get("hold", {})
    values = dict(_VALUE.findall(answer))
    started = info(answer, "Start_time_sec")
    return Counted(
        connections=_number(front, "slim"),
        incomplete=_number(front, "ereq"),
        sources={
            source: tuple(numbers.get(f"gpc{n}", 0) for n in range(3))
            for source, numbers in asks.entries(answer).items()
        },
        process=f"{info(answer, 'Pid')} {started}".strip(),
        version=info(answer, "Version"),
        answers=tuple(
            sum(_number(front, f"hrsp_{kind}") for kind in kinds)
            for kinds in _CLASSES
        ),
        not_yet=_number(hold, "hrsp_5xx"),
        response_ms=_number(rows.get("gateway", {}), "ttime"),
        shield={n: int(values[n]) for n in asks.SHIELD if n in values},
    )


def parse_nova(answer: str) -> NovaCounted:
    """Return the counters in the gateway's ANSWER to NOVA_COMMAND.

    What can't be parsed is ignored.
    """
    of_nova = [
        row for row in _stat_rows(answer) if row["pxname"] in _NOVA_BACKENDS
    ]
    rows = [row for row in of_nova if row.get("svname") == "BACKEND"]
    servers = [row for row in of_nova if row not in rows]
    return NovaCounted(
        answered=sum(
            _number(row, f"hrsp_{kind}xx") for row in rows for kind in "1234"
        ),
        good=sum(_number(row, "hrsp_2xx") for row in rows),
        unconnected=sum(_number(row, "econ") for row in rows),
        failed=sum(_number(row, "eresp") for row in rows),
        refused=int(dict(_VALUE.findall(answer)).get(_REFUSED, 0)),
        is_down=any(row.get("status") == "DOWN" for row in rows),
        errors=sum(_number(row, "hrsp_5xx") for row in servers),
        endpoints=_endpoints(
            row for row in servers if row["pxname"] == _NOVA_BACKENDS[0]
        ),
    )


def _endpoints(rows: Iterable[Mapping[str, str]]) -> tuple[Endpoint, ...]:
    """Return each address once, in order: one that is alone is listed twice.

    Either of the two may have had no answer yet.
    """
    found = {}
    for row in sorted(rows, key=lambda row: _number(row, "rtime")):
        address = _UNPRINTABLE.sub("", row.get("addr", ""))[:_MOST_LETTERS]
        check = row.get("check_status", "")
        why = row.get("last_chk", "") or check
        found[address] = Endpoint(
            address=address,
            is_down=row.get("status", "").startswith("DOWN"),
            why=_UNPRINTABLE.sub("", why)[:_MOST_LETTERS],
            check_ms=_number(row, "check_duration") if check else None,
            response_ms=_number(row, "rtime"),
        )
    return tuple(found[address] for address in sorted(found))


def _stat_rows(answer: str) -> Iterator[Mapping[str, str]]:
    """Yield the rows of "show stat" in ANSWER as column -> value."""
    columns: list[str] = []
    for line in answer.splitlines():
        cells = line.removeprefix("# ").split(",")
        if line.startswith("# pxname,"):
            columns = cells
        elif columns and len(cells) == len(columns):
            yield dict(zip(columns, cells, strict=True))


def _number(row: Mapping[str, str], column: str) -> int:
    """Return the number in COLUMN of ROW; 0 for anything else.

    A haproxy that was broken into may write thousands of digits, for which
    int() raises.
    """
    text = row.get(column, "")
    return int(text) if _NUMBER.fullmatch(text) else 0
