"""Join the exporter of metrics with what it shows."""

from __future__ import annotations

import functools

from ..privsep import context
from .databases import Databases
from .errors import HaproxyError
from .haproxy.counters import Endpoint
from .metrics import kept, memory
from .metrics.collector import Collector, Sources
from .metrics.exporter import Exporter, Page
from .reconcile.site import Site
from .reconcile.snapshots import Snapshots
from .reconcile.workqueue import Queues


def make_exporter(
    site: Site, queues: Queues, snapshots: Snapshots, databases: Databases
) -> Exporter:
    """Return the exporter, to be started; let the agent count for it."""
    settings, meter = site.settings(), site.meter
    file = settings.state_path / kept.NAME
    kept.load(file, meter)
    context.observers.append(meter.called)

    def program_memory(network: str) -> float | None:
        config = site.haproxies.places.config(network)
        return memory.of_program(meter.pid(network), config)

    def endpoints() -> tuple[Endpoint, ...]:
        try:
            return site.haproxies.nova_counted().endpoints
        except (OSError, HaproxyError):
            return ()

    sources = Sources(
        status=site.status.as_dict,
        wanted=lambda: snapshots.chassis.networks,
        waiting=queues.reconcile.waiting,
        gauges={
            "southbound_connected": databases.is_connected,
            "southbound_rows": databases.southbound_rows,
            "southbound_change_timestamp_seconds": lambda: (
                snapshots.changed_at
            ),
            "heartbeat_timestamp_seconds": databases.heartbeat_at,
        },
        endpoints=endpoints,
        memory=program_memory,
    )
    return Exporter(
        Page(Collector(meter, sources), meter, file),
        path=settings.metrics_socket,
        address=settings.metrics_address,
        report=functools.partial(site.status.note, "OVNMD-408"),
    )
