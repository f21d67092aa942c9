"""Join the exporter of metrics with what it shows."""

import functools

from ..privsep import context
from .config.settings import MAX_HOP_LIMIT
from .errors import HaproxyError
from .haproxy.counters import Endpoint
from .metrics import COUNTERS, process
from .metrics.collector import Collector
from .metrics.exporter import Exporter, Page
from .reconcile.site import Site
from .reconcile.snapshots import Snapshots


def make_exporter(site: Site, snapshots: Snapshots) -> Exporter:
    """Return the exporter, to be started; let the agent count for it."""
    settings, meter = site.settings(), site.meter

    def program_memory(network: str) -> float | None:
        config = site.haproxies.places.config(network)
        return process.memory(meter.pid(network), config)

    def endpoints() -> tuple[Endpoint, ...]:
        try:
            return site.haproxies.nova_counted().endpoints
        except (OSError, HaproxyError):
            return ()

    def ended() -> int:
        limit, places = site.settings().shield.hop_limit, site.haproxies.places
        return sum(
            process.ended(places.pid(network), places.config(network))
            for network in snapshots.chassis.networks
            if min(limit.on(network)) < MAX_HOP_LIMIT
        )

    collector = Collector(
        meter,
        status=site.status.as_dict,
        wanted=lambda: snapshots.chassis.networks,
        endpoints=endpoints,
        memory=program_memory,
        ended=ended,
    )
    page = Page(collector, meter, settings.state_path / COUNTERS)
    page.load()
    context.observers.append(meter.called)
    return Exporter(
        page,
        path=settings.metrics_socket,
        address=settings.metrics_address,
        report=functools.partial(site.status.note, "OVNMD-408"),
    )
