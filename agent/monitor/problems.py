"""The problems that exist now: each with its code, its reason and since when.

Whoever finds one notes it here. `shown` leaves out those that an operator
need not know of: too young ones, and consequences of others.
"""

import dataclasses
import errno
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, TypeAlias

from ...privsep import names
from ...privsep.errors import DaemonError, FleetError, LinkError, NoRootError
from ..core.codes import KINDS
from ..errors import (
    HaproxyError,
    NoBridgeError,
    NoLocalportError,
    NotLookedUpError,
    RefusedConfigError,
)

# A problem that ends and begins again within this time is one problem. From
# then on it is shown until it has been over for this long.
FLAP_S = 5.0

# By the class of an exception, or by the number of one of the system's.
_CODES: dict[object, str] = {
    NoLocalportError: "OVNMD-201",
    NoBridgeError: "OVNMD-110",
    NotLookedUpError: "OVNMD-502",
    RefusedConfigError: "OVNMD-304",
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
        cuts = cuts or KINDS[code].cuts_service
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
            exist = {
                key: entry
                for key, entry in self._entries.items()
                if entry.ended is None or entry.flaps
            }
        hosts = {_line_of(key) for key in exist if _is_of_host(key)}
        causes_of = {
            key: {_line_of(cause) for cause in _causes(key, exist, hosts)}
            for key in exist
        }
        began = _began(exist, causes_of, now)
        found: dict[_Key, _Entry] = {}
        cutting: set[_Key] = set()
        caused: dict[_Key, set[str]] = {}
        for key, entry in sorted(exist.items(), key=_order):
            causes, line = causes_of[key], _line_of(key)
            if _is_young(key, began.get(line, entry.began), now):
                continue
            if entry.cuts:  # so does what it follows from
                cutting |= causes or {line}
            for cause in causes:
                caused.setdefault(cause, set()).add(key[0])
            first = found.get(line, entry)
            if not causes:
                since = min(first.since, entry.since)
                found[line] = dataclasses.replace(first, since=since)
        problems = [
            self._problem(line, entry, cutting, caused.get(line, ()))
            for line, entry in found.items()
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
    is_shared = KINDS[code].is_hosts and (
        about == names.GATEWAY or names.is_network(about)
    )
    return is_shared, key


def _line_of(key: _Key) -> _Key:
    """Return what KEY is shown as: networks share a problem of the host."""
    code, about = key
    return code, "" if KINDS[code].is_hosts else about


def _is_young(key: _Key, began: float, now: float) -> bool:
    return now - began < KINDS[key[0]].visible_after_s


def _began(
    exist: Mapping[_Key, _Entry],
    causes_of: Mapping[_Key, Iterable[_Key]],
    now: float,
) -> dict[_Key, float]:
    """Return since when there is each of EXIST, or what it hides.

    A cause that is not shown yet must not hide for long what was shown.
    """
    began: dict[_Key, float] = {}
    for key, entry in exist.items():
        if not _is_young(key, entry.began, now):
            for line in (_line_of(key), *causes_of[key]):
                began[line] = min(began.get(line, now), entry.began)
    return began


def _is_of_host(key: _Key) -> bool:
    return KINDS[key[0]].is_hosts or not names.is_network(key[1])


def _causes(
    key: _Key, exist: Container[_Key], hosts: Iterable[_Key]
) -> list[_Key]:
    """Return those of EXIST that the problem KEY follows from.

    They are about the same thing, or among HOSTS, about the host.
    """
    code, about = key
    behind = KINDS[code].behind
    same = [(cause, about) for cause in behind if (cause, about) in exist]
    return same + [other for other in hosts if other[0] in behind]
