"""Count and measure; keep counters that never fall.

haproxy begins at 0 when it restarts, and a reload is a new process. So the
growth of its counters is added up here, and so are the agent's own counters.
All of it becomes a plain value, for `exporter`, and continues from one.
"""

import math
import threading
from collections.abc import Mapping
from typing import Any

from ...privsep import names
from ..haproxy.asks import SHIELD
from ..haproxy.counters import Counted
from .catalog import BOUNDS, CLASSES, KINDS

# Name of the metric, then the values of its labels.
_Key = tuple[str, ...]
# A process of haproxy, and its counters when they were read last.
_Raw = tuple[str, tuple[float, ...]]

_RESTARTS = "network_haproxy_restarts_total"
_SHIELD = "network_shield_requests_total"
_GONE = 1000  # networks that keep their counters: one may come back


class Meter:
    """The counters, and the histograms; safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[_Key, float] = {}
        self._raw: dict[str, _Raw] = {}
        self._programs: dict[str, str] = {}  # network -> its process
        for name, kind in KINDS.items():
            if kind.type == "histogram":
                buckets = (("bucket", bound) for bound in BOUNDS)
                for part in (*buckets, ("count",), ("sum",)):
                    self._totals[name, *part] = 0
            elif kind.type == "counter" and not kind.labels:
                self._totals[name,] = 0
        # Besides the counters: seconds by network, and the gateway's version.
        self.response_s: dict[str, float] = {}
        self.haproxy_version = ""

    def _add(self, key: _Key, by: float = 1) -> None:
        self._totals[key] = self._totals.get(key, 0) + by

    def add(self, name: str, by: float = 1) -> None:
        """Let the counter NAME, which has no labels, grow."""
        with self._lock:
            self._add((name,), by)

    def observe(self, name: str, seconds: float) -> None:
        """Add SECONDS to the histogram NAME."""
        with self._lock:
            self._add((name, "count"))
            self._add((name, "sum"), seconds)
            for bound in BOUNDS:
                self._add((name, "bucket", bound), seconds <= float(bound))

    def called(self, seconds: float, failed: bool) -> None:  # noqa: FBT001
        """Note a call to the privileged daemon that took SECONDS."""
        self.add("privsep_calls_total")
        self.add("privsep_seconds_total", seconds)
        self.add("privsep_errors_total", failed)

    def counted(self, network: str, counted: Counted) -> None:
        """Add what the haproxy of NETWORK (or gateway) has COUNTED."""
        if network == names.GATEWAY:
            self.haproxy_version = counted.version
        if network == names.GATEWAY or not counted.process:
            return
        keys: list[_Key] = [
            *(("network_requests_total", network, c) for c in CLASSES),
            ("network_not_yet_total", network),
            *((_SHIELD, network, name) for name in SHIELD),
        ]
        shield = (counted.shield.get(name, 0) for name in SHIELD)
        values = (*counted.answers, counted.not_yet, *shield)
        with self._lock:
            process, before = self._raw.pop(network, ("", ()))
            if process != counted.process:
                before = ()
            # An older version kept fewer of them.
            before = (*before, *(0,) * len(values))[: len(values)]
            self._raw[network] = counted.process, values
            for key, then, now in zip(keys, before, values, strict=True):
                if key[0] != _SHIELD or now:  # shown once it counts
                    self._add(key, now - then if now >= then else now)
            self._add((_RESTARTS, network), 0)
            self.response_s[network] = counted.response_ms / 1000

    def saw(self, programs: Mapping[str, Mapping[str, object]]) -> None:
        """Note which processes PROGRAMS has: a new one is a restart."""
        with self._lock:
            for network in self._programs.keys() - programs.keys():
                del self._programs[network]
            for network, program in programs.items():
                process = f"{program['pid']} {program['start']}"
                before = self._programs.get(network)
                if program["pid"] and before != process:
                    self._programs[network] = process
                    key: _Key = (_RESTARTS, network)
                    if network == names.GATEWAY:
                        key = ("gateway_restarts_total",)
                    self._add(key, before is not None)

    def networks(self) -> set[str]:
        """Return the networks whose haproxies ran when it last saw them."""
        with self._lock:
            return self._programs.keys() - {names.GATEWAY}

    def totals(self) -> dict[tuple[str, ...], float]:
        """Return the sum by the metric and the values of its labels."""
        with self._lock:
            return self._totals.copy()

    def plain(self) -> dict[str, Any]:
        """Return all counters in the types of JSON, for `restore`."""
        with self._lock:
            gone = [key for key in self._raw if key not in self._programs]
            for network in gone[:-_GONE]:
                del self._raw[network]
                self.response_s.pop(network, None)
                for key in [key for key in self._totals if network in key]:
                    del self._totals[key]
            return {
                "totals": [[*key, n] for key, n in self._totals.items()],
                "raw": dict(self._raw),
                "programs": dict(self._programs),
            }

    def restore(self, plain: Any) -> None:
        """Continue from what `plain` returned, before anything is counted.

        Raises ValueError for anything else; then nothing is changed.
        """
        try:
            totals = {
                tuple(key): _number(total)
                for *key, total in plain["totals"]
                if self._is_known(tuple(key))
            }
            raw = {
                network: (str(process), (*map(_number, counts),))
                for network, (process, counts) in plain["raw"].items()
            }
            programs = {
                network: f"{int(pid)} {start}"
                for network, process in plain["programs"].items()
                for pid, start in [process.split()]
            }
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(repr(error)) from None
        with self._lock:
            self._totals.update(totals)
            self._raw.update(raw)
            self._programs.update(programs)

    def _is_known(self, key: _Key) -> bool:
        """Return whether KEY is of a counter that this version has."""
        name, *labels = key
        kind = KINDS.get(name)
        if key in self._totals or not labels:  # else it is of a network
            return key in self._totals
        if kind is None or kind.type != "counter":
            return False
        if not names.is_network(labels[0]):
            raise ValueError(f"{labels[0]!r:.40} is no network")
        is_class = len(labels) < 2 or labels[1] in (*CLASSES, *SHIELD)
        return is_class and len(labels) == len(kind.labels)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r:.40} is no sum")
    return value
