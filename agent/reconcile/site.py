"""What every reconcile on this chassis needs, as one value."""

import dataclasses
from collections.abc import Callable

from ..config.settings import Settings
from ..metrics.meter import Meter
from ..monitor.status import Status
from .haproxies import Haproxies
from .privileged import Privileged


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """The settings in force, the means to change the host, the status."""

    settings: Callable[[], Settings]
    privileged: Privileged
    haproxies: Haproxies
    status: Status
    has_ipv6: bool  # in the kernel
    meter: Meter = dataclasses.field(default_factory=Meter)
