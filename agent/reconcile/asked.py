"""Answer what instances ask for, from the counters of the haproxies."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..errors import HaproxyError
from ..haproxy import asks
from ..model import NetworkSnapshot

# Haproxies that hang must not keep the operator waiting.
_LIMIT_S = 3.0


def answer(
    wanted: str,
    instances: Collection[str],
    networks: Mapping[str, NetworkSnapshot],
    read: Callable[[str, str], str],
) -> dict[str, Any]:
    """Return what WANTED asked for; "" is all of NETWORKS.

    WANTED is an instance, perhaps one that has gone, or means the INSTANCES.
    READ returns a network's answer to a command, or raises OSError or
    HaproxyError: then the network is "unknown".
    """
    asked: list[dict[str, Any]] = []
    unknown = []
    ends = time.monotonic() + _LIMIT_S
    for network, snapshot in networks.items():
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
