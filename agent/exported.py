"""Everything that a scrape shows, as it is at that moment."""

from __future__ import annotations

import collections
import dataclasses
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import registry
from prometheus_client.core import Metric

from ..privsep import names
from .config.settings import MAX_HOP_LIMIT
from .metrics import process
from .metrics.catalog import HOST_SERIES, KINDS, STATES
from .reconcile.site import Site
from .reconcile.snapshots import Snapshots

_ENDPOINTS = 3  # more are not shown: see HOST_SERIES


@dataclasses.dataclass(frozen=True, slots=True)
class Collector(registry.Collector):
    """What prometheus-client asks for the metrics."""

    site: Site
    snapshots: Snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its samples."""
        status, meter = self.site.status.as_dict(), self.site.meter
        entries = dict(status["networks"])
        entries.pop(names.GATEWAY, None)
        networks = {*entries}
        if not status["ready"]:  # those of the agent before, until then
            networks |= meter.networks()
        found = _Found()
        for (name, *labels), total in meter.totals().items():
            if "network" not in KINDS[name].labels or labels[0] in networks:
                found.set(name, total, *labels)
        self._add_host(found, status, entries)
        for network in networks:
            self._add_network(found, network, entries.get(network))
        found.add_problems(status["problems"])
        for name, kind in KINDS.items():
            if name in found.samples:
                yield kind.metric(found.samples[name])

    def _add_host(
        self,
        found: _Found,
        status: Mapping[str, Any],
        entries: Mapping[str, Mapping[str, Any]],
    ) -> None:
        states = dict.fromkeys(STATES, 0)
        for entry in entries.values():
            states[_state(entry)] += 1
        wanted = self.snapshots.chassis.networks
        states["pending"] += len(wanted.keys() - entries.keys())
        for state, count in states.items():
            found.set("networks", count, state)
        found.set("queue_length", status["queue"]["length"])
        found.set("queue_oldest_seconds", status["queue"]["oldest_s"])
        found.set("start_time_seconds", status["started"])
        instances = sum(entry["instances"] for entry in entries.values())
        found.set("instances", instances)
        found.set("shield_ended_at_hop_limit", self._ended())
        found.set("gateway_memory_bytes", self._memory(names.GATEWAY))
        southbound = status["southbound"] or {}
        connected = southbound.get("connected", False)
        found.set("southbound_connected", connected)
        found.set("southbound_rows", southbound.get("rows", 0))
        changed = southbound.get("changed")
        found.set("southbound_change_timestamp_seconds", changed)
        heartbeat = (status["registration"] or {}).get("heartbeat")
        found.set("heartbeat_timestamp_seconds", heartbeat)
        python = platform.python_version()
        haproxy = self.site.meter.haproxy_version
        found.set("build_info", 1, status["version"], python, haproxy)
        for server in status.get("nova", ())[:_ENDPOINTS]:
            address, latency_ms = server["address"], server["latency_ms"] or 0
            found.set("nova_up", server["state"] == "up", address)
            found.set("nova_response_seconds", latency_ms / 1000, address)

    def _add_network(
        self, found: _Found, network: str, entry: Mapping[str, Any] | None
    ) -> None:
        memory = self._memory(network)
        found.set("network_haproxy_memory_bytes", memory, network)
        response_s = self.site.meter.response_s.get(network)
        found.set("network_response_seconds", response_s, network)
        if entry is not None:
            is_up = _state(entry) in ("served", "spare")
            found.set("network_up", is_up, network)
            over = len(entry["over_share"])
            found.set("network_over_share_instances", over, network)
            found.set("network_info", 1, network, entry.get("name", ""))

    def _memory(self, network: str) -> float | None:
        places = self.site.haproxies.places
        return process.memory(places.pid(network), places.config(network))

    def _ended(self) -> int:
        """Return how many answers ended at their hop limit."""
        places = self.site.haproxies.places
        limit = self.site.settings().shield.hop_limit
        return sum(
            process.ended(places.pid(network), places.config(network))
            for network in self.snapshots.chassis.networks
            if min(limit.on(network)) < MAX_HOP_LIMIT
        )


class _Found:
    """Name of a metric -> its samples."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[tuple[str, ...], float]] = {}

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """Set the sample of NAME with LABELS, if VALUE is known."""
        if value is not None:
            self.samples.setdefault(name, {})[labels] = value

    def add_problems(self, problems: Iterable[Mapping[str, Any]]) -> None:
        """Add PROBLEMS, the worst of them if that is too many series."""
        counts = collections.Counter(
            (each["code"], each["severity"]) for each in problems
        )
        others = sum(
            len(samples)
            for name, samples in self.samples.items()
            if "network" not in KINDS[name].labels
        )
        worst = sorted(counts, key=lambda key: (key[1] != "error", key))
        shown = worst[: HOST_SERIES - others]
        self.samples["problems"] = {key: counts[key] for key in shown}


def _state(entry: Mapping[str, Any]) -> str:
    if entry["error"]:
        return "failing"
    if not entry["served"]:
        return "pending"
    return "spare" if entry["spare"] else "served"
