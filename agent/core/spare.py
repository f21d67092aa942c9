"""Decide which networks without a bound port are provisioned all the same.

They are the spare networks. Some have ports that are requested on this
chassis and not plugged yet: an instance that starts finds its metadata ready.
Others have lost their last port a moment ago and are kept, because a port
often comes back: to reboot an instance, Nova unplugs it and plugs it again.
"""

import dataclasses
import math
from collections.abc import Mapping

from ..model import ChassisSnapshot, NetworkSnapshot

# A port that is not bound within this time does not count until it is bound.
# Neutron also requests the ports of instances that are shut off.
REQUEST_S = 600.0
_EXPIRED = -math.inf  # instead of a time: longer ago


@dataclasses.dataclass(frozen=True, slots=True)
class Spare:
    """What to act on, and what the next call of `add_spare` has to know."""

    snapshot: ChassisSnapshot = dataclasses.field(
        default_factory=lambda: ChassisSnapshot(None, {})
    )
    # Port -> since when it has been requested and not bound.
    requested: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Networks as they were with their last bound port, and since when that
    # has been gone (infinity: it is there, or it may be).
    used: Mapping[str, tuple[NetworkSnapshot, float]] = dataclasses.field(
        default_factory=dict
    )
    due_at: float = math.inf  # when to call again


def add_spare(
    last: Spare,
    settled: ChassisSnapshot,
    *,
    limit: int,
    keep_s: int,
    now: float,
    connected: bool,
) -> Spare:
    """Return what to act on after SETTLED, and what to remember.

    Of the networks without a bound port it has the LIMIT newest: those with
    requested ports and, for KEEP_S, those that had a bound one. If LIMIT is
    0, requested ports do not count at all. While Southbound is not CONNECTED
    or SETTLED is not settled, no time ends: a bound port may not be seen. A
    second call with the same arguments changes nothing.
    """
    may_end = connected and settled.settled
    requested = _requested(last, settled, now=now, may_end=may_end)
    in_use, spare = _by_use(settled, requested if limit else {})
    used = _used(last, settled, in_use, now=now)
    for key, (network, gone_at) in [*used.items()]:
        if not keep_s or (may_end and now >= gone_at + keep_s):
            del used[key]
        elif gone_at <= now:
            kept = dataclasses.replace(network, kept=True, complete=True)
            since, found = spare.get(key, (gone_at, kept))
            spare[key] = max(since, gone_at), found
    newest = sorted(
        spare, key=lambda key: (-spare[key][0], spare[key][1].kept, key)
    )[:limit]
    networks = in_use | {key: spare[key][1] for key in newest}
    used = {
        key: entry
        for key, entry in used.items()
        if key not in spare or key in networks
    }
    ends = [since + REQUEST_S for since in requested.values()]
    ends += [gone_at + keep_s for _, gone_at in used.values()]
    return Spare(
        dataclasses.replace(settled, networks=networks),
        requested,
        used,
        min((end for end in ends if may_end and end > now), default=math.inf),
    )


def _requested(
    last: Spare, settled: ChassisSnapshot, *, now: float, may_end: bool
) -> dict[str, float]:
    """Return the ports of SETTLED that are not bound, and since when."""
    requested = {}
    for network in settled.networks.values():
        for port in network.ports:
            if not port.bound:
                since = last.requested.get(port.logical_port, now)
                is_over = may_end and now >= since + REQUEST_S
                requested[port.logical_port] = _EXPIRED if is_over else since
    return requested


def _by_use(
    settled: ChassisSnapshot, requested: Mapping[str, float]
) -> tuple[
    dict[str, NetworkSnapshot], dict[str, tuple[float, NetworkSnapshot]]
]:
    """Return the networks with a bound port, and those with requested ones.

    The latter with the time of their newest port. Ports that are neither
    bound nor in REQUESTED are left out.
    """
    in_use = {}
    spare = {}
    for key, network in settled.networks.items():
        times = {
            port: requested.get(port.logical_port, _EXPIRED)
            for port in network.ports
        }
        ports = [p for p, since in times.items() if p.bound or since >= 0]
        found = dataclasses.replace(network, ports=tuple(ports))
        if not found.spare:
            in_use[key] = found
        elif ports:
            spare[key] = max(times[port] for port in ports), found
    return in_use, spare


def _used(
    last: Spare,
    settled: ChassisSnapshot,
    in_use: Mapping[str, NetworkSnapshot],
    *,
    now: float,
) -> dict[str, tuple[NetworkSnapshot, float]]:
    """Return the networks that have, or had, a bound port; see `Spare`."""
    used = {
        key: (network, math.inf)
        for key, network in in_use.items()
        if network.localport is not None
    }
    for key, (network, gone_at) in last.used.items():
        if key not in in_use:
            is_gone = key in settled.networks or settled.is_certain(key)
            used[key] = network, min(gone_at, now) if is_gone else gone_at
    return used
