"""The problems that exist now: each with its code, its reason and since when.

Whoever finds one notes it here. `shown` leaves out those that an operator
need not know of: too young ones, and consequences of others.
"""

import dataclasses
import errno
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from ...privsep import names
from ...privsep.errors import DaemonError, FleetError, LinkError, NoRootError
from ..core.codes import KINDS
from ..errors import AgentError, HaproxyError

# A problem that ends and begins again within this time is one problem. From
# then on it is shown until it has been over for this long.
FLAP_S = 5.0

# By the class of an exception, or by the number of one of the system's.
_CODES: dict[object, str] = {
    FleetError: "OVNMD-302",
    DaemonError: "OVNMD-401",
    NoRootError: "OVNMD-401",
    LinkError: "OVNMD-204",
    MemoryError: "OVNMD-404",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "OVNMD-402"),
    **dict.fromkeys((errno.EDQUOT, errno.ENOSPC), "OVNMD-403"),
    **dict.fromkeys((errno.EAGAIN, errno.EMFILE, errno.ENFILE), "OVNMD-404"),
    **dict.fromkeys((errno.ENOBUFS, errno.ENOMEM), "OVNMD-404"),
}


def code_of(error: BaseException, *, about: str = "") -> str:
    """Return the code of the problem that ERROR, raised for ABOUT, shows."""
    if isinstance(error, AgentError) and error.code:
        return error.code
    keys: list[object] = [*type(error).__mro__]
    if isinstance(error, OSError) or type(error).__name__ == "NetlinkError":
        keys += error.args[:1]
    for key in keys:
        if key in _CODES:
            return _CODES[key]
    if error.__cause__ is not None:
        return code_of(error.__cause__, about=about)
    if about == names.GATEWAY:
        return "OVNMD-307"
    return "OVNMD-301" if isinstance(error, HaproxyError) else "OVNMD-202"


_Key: TypeAlias = tuple[str, str]  # the code, and what has the problem


@dataclasses.dataclass(slots=True)
class _Entry:
    reason: str
    began: float  # by the clock
    since: float  # the same, since the epoch
    cuts: bool
    ended: float | None = None
    flaps: bool = False


@dataclasses.dataclass(eq=False)
class Problems:
    """What is wrong, safe for any number of threads."""

    name_of: Callable[[str], str]  # of a network's id; it may return ""
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[_Key, _Entry] = {}

    def note(
        self, code: str, reason: str, *, about: str = "", cuts: bool = False
    ) -> bool:
        """Note that ABOUT has the problem CODE for REASON; "" if it is over.

        CUTS: it cuts the service even if its kind need not. Returns whether
        it is new, or has another reason.
        """
        cuts = cuts or KINDS[code].severity == "error"
        with self._lock:
            now = self.clock()
            entry = self._entries.get((code, about))
            if entry is not None and self._is_past(entry, now):
                entry = None
            if not reason:
                if entry is not None and entry.ended is None:
                    entry.ended = now
                return False
            if entry is None:
                entry = _Entry(reason, now, self.wall_clock(), cuts)
                self._entries[code, about] = entry
                return True
            if entry.ended is not None:
                entry.ended, entry.flaps = None, True
            is_new = entry.reason != reason
            entry.reason, entry.cuts = reason, cuts
            return is_new

    def reason(self, code: str, about: str) -> str:
        """Return why ABOUT has the problem CODE now; "" if it has not."""
        with self._lock:
            entry = self._entries.get((code, about))
            return "" if entry is None or entry.ended else entry.reason

    @staticmethod
    def _is_past(entry: _Entry, now: float) -> bool:
        return entry.ended is not None and now - entry.ended > FLAP_S

    def replace(
        self, code: str, reasons: Mapping[str, str], warnings: Collection[str]
    ) -> None:
        """Note REASONS, by what has them, as all problems CODE that exist.

        Those about WARNINGS cut no service, whatever their kind.
        """
        with self._lock:
            for kind, about in [*self._entries]:
                if kind == code and about not in reasons:
                    self.note(code, "", about=about)
            for about, reason in reasons.items():
                self.note(code, reason, about=about)
                if about in warnings:
                    self._entries[code, about].cuts = False

    def forget(self, about: str) -> None:
        """Note that ABOUT, which has gone, has no problem."""
        with self._lock:
            for key in [key for key in self._entries if key[1] == about]:
                del self._entries[key]

    def shown(self) -> list[dict[str, Any]]:
        """Return those to show, the ones that cut the service first.

        They are in the types of JSON: docs/reference/status.md has the keys.
        """
        with self._lock:
            now = self.clock()
            for key, entry in [*self._entries.items()]:
                if self._is_past(entry, now):
                    del self._entries[key]
            lines = _lines(self._entries)
        causes_of = _causes(lines)
        began = {line: entry.began for line, entry in lines.items()}
        for line, entry in lines.items():
            # A young cause must not hide for long what was shown before it.
            if not _is_young(line, entry.began, now):
                for cause in causes_of[line]:
                    began[cause] = min(began[cause], entry.began)
        shown = [
            line for line in lines if not _is_young(line, began[line], now)
        ]
        cutting: set[_Key] = set()
        caused: dict[_Key, set[str]] = {line: set() for line in lines}
        for line in shown:
            if lines[line].cuts:  # so does what it follows from
                cutting |= causes_of[line] or {line}
            for cause in causes_of[line]:
                caused[cause].add(line[0])
        problems = [
            self._problem(line, lines[line], cutting, caused[line])
            for line in shown
            if not causes_of[line]
        ]
        return sorted(problems, key=lambda each: not each["cuts_service"])

    def _problem(
        self,
        line: _Key,
        entry: _Entry,
        cutting: Collection[_Key],
        caused: Iterable[str],
    ) -> dict[str, Any]:
        (code, about), cuts = line, line in cutting
        kind = KINDS[code]
        network = about if names.is_network(about) else ""
        return {
            "code": code,
            "severity": "error" if cuts else "warning",
            "title": kind.title,
            "since": entry.since,
            "about": about,  # a network, "gateway", ...; "" for the host
            "network": network,
            "network_name": self.name_of(network) if network else "",
            "cuts_service": cuts,
            "behind": kind.behind,
            # Codes that are not shown: it causes them.
            "explains": (*sorted(caused),),
            "reason": entry.reason,
            "remedy": kind.remedy,
            "link": kind.link,
        }


def _order(item: tuple[_Key, _Entry]) -> tuple[bool, _Key]:
    """Order problems: what networks share has the host's own reason."""
    code, about = key = item[0]
    return KINDS[code].is_hosts and names.is_program(about), key


def _lines(entries: Mapping[_Key, _Entry]) -> dict[_Key, _Entry]:
    """Return those of ENTRIES that exist; networks share one of the host."""
    found: dict[_Key, _Entry] = {}
    for (code, about), entry in sorted(entries.items(), key=_order):
        if entry.ended is None or entry.flaps:
            line = code, "" if KINDS[code].is_hosts else about
            first = found.setdefault(line, dataclasses.replace(entry))
            first.began = min(first.began, entry.began)
            first.since = min(first.since, entry.since)
            first.cuts |= entry.cuts
    return found


def _is_young(line: _Key, began: float, now: float) -> bool:
    return now - began < KINDS[line[0]].visible_after_s


def _causes(lines: Mapping[_Key, object]) -> dict[_Key, set[_Key]]:
    """Return which of LINES each of them follows from.

    They are about the same thing, or about the host.
    """
    hosts = [line for line in lines if not names.is_network(line[1])]
    found = {}
    for code, about in lines:
        behind = KINDS[code].behind
        same = lines.keys() & {(cause, about) for cause in behind}
        found[code, about] = same.union(
            other for other in hosts if other[0] in behind
        )
    return found
