"""Everything that a scrape shows, as it is at that moment."""

from __future__ import annotations

import collections
import dataclasses
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from prometheus_client import registry
from prometheus_client.core import Metric

from ..privsep import names
from .config.settings import MAX_HOP_LIMIT
from .metrics import process
from .metrics.catalog import HOST_SERIES, KINDS, STATES, Samples
from .reconcile.site import Site
from .reconcile.snapshots import Snapshots

_ENDPOINTS = 3  # more are not shown: see HOST_SERIES
# The name of a metric, its value (None: unknown), and those of its labels.
_Sample: TypeAlias = tuple[Any, ...]
_Entry: TypeAlias = Mapping[str, Any]  # of a network, in the status


@dataclasses.dataclass(frozen=True, slots=True)
class Collector(registry.Collector):
    """What prometheus-client asks for the metrics."""

    site: Site
    snapshots: Snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its samples, those that are known."""
        status = self.site.status.as_dict()
        found: dict[str, Samples] = collections.defaultdict(dict)
        for name, value, *labels in self._samples(status):
            if value is not None:
                found[name][tuple(labels)] = value
        found["problems"] = _problems(status["problems"], found)
        for name, kind in KINDS.items():
            if name in found:
                yield kind.metric(found[name])

    def _samples(self, status: Mapping[str, Any]) -> Iterator[_Sample]:
        entries = dict(status["networks"])
        entries.pop(names.GATEWAY, None)
        networks = {*entries}
        if not status["ready"]:  # those of the agent before, until then
            networks |= self.site.meter.networks()
        for (name, *labels), total in self.site.meter.totals().items():
            if "network" not in KINDS[name].labels or labels[0] in networks:
                yield name, total, *labels
        yield from self._of_host(status, entries)
        for network in networks:
            yield from self._of_network(network, entries.get(network))

    def _of_host(
        self, status: Mapping[str, Any], entries: Mapping[str, _Entry]
    ) -> Iterator[_Sample]:
        states = dict.fromkeys(STATES, 0)
        for entry in entries.values():
            states[_state(entry)] += 1
        wanted = self.snapshots.chassis.networks
        states["pending"] += len(wanted.keys() - entries.keys())
        for state, count in states.items():
            yield "networks", count, state
        yield "queue_length", status["queue"]["length"]
        yield "queue_oldest_seconds", status["queue"]["oldest_s"]
        yield "start_time_seconds", status["started"]
        yield "instances", sum(each["instances"] for each in entries.values())
        yield "shield_ended_at_hop_limit", self._ended()
        yield "gateway_memory_bytes", self._memory(names.GATEWAY)
        southbound = status["southbound"] or {}
        yield "southbound_connected", southbound.get("connected", False)
        yield "southbound_rows", southbound.get("rows", 0)
        changed = southbound.get("changed")
        yield "southbound_change_timestamp_seconds", changed
        heartbeat = (status["registration"] or {}).get("heartbeat")
        yield "heartbeat_timestamp_seconds", heartbeat
        python = platform.python_version()
        haproxy = self.site.meter.haproxy_version
        yield "build_info", 1, status["version"], python, haproxy
        for server in status.get("nova", ())[:_ENDPOINTS]:
            address, latency_ms = server["address"], server["latency_ms"] or 0
            yield "nova_up", server["state"] == "up", address
            yield "nova_response_seconds", latency_ms / 1000, address

    def _of_network(
        self, network: str, entry: _Entry | None
    ) -> Iterator[_Sample]:
        yield "network_haproxy_memory_bytes", self._memory(network), network
        response_s = self.site.meter.response_s.get(network)
        yield "network_response_seconds", response_s, network
        if entry is not None:
            yield "network_up", _state(entry) in ("served", "spare"), network
            over = len(entry["over_share"])
            yield "network_over_share_instances", over, network
            yield "network_info", 1, network, entry.get("name", "")

    def _memory(self, network: str) -> float | None:
        haproxies = self.site.haproxies
        uid = haproxies.stats(network).uid
        return process.memory(haproxies.places.pid(network), uid)

    def _ended(self) -> int:
        """Return how many answers ended at their hop limit."""
        haproxies = self.site.haproxies
        limit = self.site.settings().shield.hop_limit
        return sum(
            process.ended(
                haproxies.places.pid(network), haproxies.stats(network).uid
            )
            for network in self.snapshots.chassis.networks
            if min(limit.on(network)) < MAX_HOP_LIMIT
        )


def _problems(
    problems: Iterable[Mapping[str, Any]], found: Mapping[str, Samples]
) -> Samples:
    """Count PROBLEMS; the worst if there are too many series beside FOUND."""
    counts = collections.Counter(
        (each["code"], each["severity"]) for each in problems
    )
    others = sum(
        len(samples)
        for name, samples in found.items()
        if "network" not in KINDS[name].labels
    )
    worst = sorted(counts, key=lambda key: (key[1] != "error", key))
    return {key: counts[key] for key in worst[: HOST_SERIES - others]}


def _state(entry: Mapping[str, Any]) -> str:
    if entry["error"]:
        return "failing"
    if not entry["served"]:
        return "pending"
    return "spare" if entry["spare"] else "served"
