"""What all that works on this chassis shares, as one value."""

import dataclasses
from collections.abc import Callable

from ..config.settings import Settings
from ..core.desired import desired_network
from ..metrics.meter import Meter
from ..model import ChassisSnapshot, MetadataNetwork
from ..monitor.status import Status
from .haproxies import Haproxies
from .privileged import Privileged
from .workqueue import Queues


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """The settings in force, the means to change the host, what is known."""

    settings: Callable[[], Settings]
    privileged: Privileged
    haproxies: Haproxies
    status: Status
    has_ipv6: bool  # in the kernel
    meter: Meter = dataclasses.field(default_factory=Meter)
    queues: Queues = dataclasses.field(default_factory=Queues)

    def desired(
        self, snapshot: ChassisSnapshot, network: str
    ) -> MetadataNetwork | None:
        """Return what NETWORK needs by SNAPSHOT; None to tear it down."""
        known = snapshot.networks.get(network)
        return desired_network(known, ipv6=self.has_ipv6)
