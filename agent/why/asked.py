"""Answer what instances ask for, from the counters of the haproxies."""

import time
from collections.abc import Mapping
from typing import Any

from ..errors import HaproxyError
from ..haproxy import asks
from .gather import Gather
from .target import find

# Haproxies that hang must not keep the operator waiting.
_LIMIT_S = 3.0


def answer(gather: Gather, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return what instances ask for: all, or the one in QUESTION.

    Its "asks" is "", or an instance, perhaps one that has gone, or a name
    that `find` knows. A network is "unknown" if its haproxy gives no answer.
    """
    wanted, chassis = str(question["asks"]), gather.databases.snapshots.chassis
    instances = {target.port.instance for target in find(wanted, chassis)}
    read = gather.site.haproxies.read
    asked: list[dict[str, Any]] = []
    unknown = []
    ends = time.monotonic() + _LIMIT_S
    for network, snapshot in chassis.networks.items():
        ports = {port.instance: port.name for port in snapshot.ports}
        try:
            if time.monotonic() > ends:
                raise TimeoutError
            found = asks.parse(read(network, asks.COMMAND), time.time())
        except (OSError, HaproxyError):
            unknown.append(network)
            continue
        asked += [
            {
                "instance": instance,
                "port_name": ports.get(instance, ""),
                "network": network,
                "network_name": snapshot.name,
                **counts,
            }
            for instance, counts in found.items()
            if wanted in ("", instance) or instance in instances
        ]
    asked.sort(key=lambda entry: -entry["last_seen"])
    is_known = bool(not wanted or instances or asked)
    return {"asks": asked, "unknown": unknown, "is_known": is_known}
