"""Decide what to act on while rows may be missing for a while.

ovn-controller first makes its Chassis row and then claims its ports. Claims
made while Southbound is disconnected are not seen. A port that is missing
from the rows at such a time may still be here and must not be torn down. So
there is a grace period: until it ends, the ports of the last snapshot count.
"""

from __future__ import annotations

import dataclasses
import uuid

from ..model import ChassisSnapshot, NetworkSnapshot, VifPort
from . import identity

# How long an ovn-controller that starts may take to claim its ports.
SETTLE_S = 30.0
# The same at our own start; then it has mostly been running for long.
START_SETTLE_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """What to act on, and what the next call of `settle` has to know."""

    snapshot: ChassisSnapshot = dataclasses.field(
        default_factory=lambda: ChassisSnapshot(None, {})
    )
    # The Chassis row whose bindings it has, and whether that row has been
    # missing since.
    chassis: uuid.UUID | None = None
    was_missing: bool = False
    # When the grace period ends; None if it has ended.
    settles_at: float | None = None
    # Networks and ports that were seen bound in that time. One of them that
    # is missing from the rows now is really gone.
    seen: frozenset[str] = frozenset()


def settle(
    last: Settled, rows: ChassisSnapshot, *, now: float, connected: bool
) -> Settled:
    """Return what to act on after ROWS, and what to remember.

    CONNECTED is whether the Southbound server is connected. Call it when
    rows or the connection change, and at `settles_at`; a second call with
    the same arguments changes nothing.
    """
    state = _with_deadline(last, rows, now=now, connected=connected)
    is_settled = rows.synced and state.settles_at is None
    networks = dict(rows.networks)
    if not is_settled:
        # These are bound here or elsewhere by now, or they are really gone.
        certain = _ports(rows) | (state.seen if rows.synced else set())
        for key, before in last.snapshot.networks.items():
            held = [p for p in before.ports if p.logical_port not in certain]
            networks |= _hold(networks.get(key), before, held)
    gone = state.seen - networks.keys() if rows.synced else frozenset()
    snapshot = dataclasses.replace(
        rows, networks=networks, settled=is_settled, gone=gone
    )
    return dataclasses.replace(state, snapshot=snapshot)


def _with_deadline(
    last: Settled, rows: ChassisSnapshot, *, now: float, connected: bool
) -> Settled:
    """Return LAST with the end of the grace period that ROWS call for.

    While Southbound is disconnected ovn-controller can't claim a port, so
    the time does not run.
    """
    if rows.chassis is None:
        last = dataclasses.replace(last, was_missing=True)
    elif rows.synced and (last.was_missing or rows.chassis != last.chassis):
        is_start = last.chassis is None and not last.was_missing
        is_running = is_start and bool(rows.networks)
        delay_s = START_SETTLE_S if is_running else SETTLE_S
        last = Settled(last.snapshot, rows.chassis, settles_at=now + delay_s)
    until = last.settles_at
    if until is not None and not connected:
        until = max(until, now + SETTLE_S)
    if until is None or now >= until:
        return dataclasses.replace(last, settles_at=None, seen=frozenset())
    seen = last.seen | rows.networks.keys() | _ports(rows)
    return dataclasses.replace(last, settles_at=until, seen=seen)


def _ports(rows: ChassisSnapshot) -> frozenset[str]:
    return frozenset(
        port.logical_port
        for network in rows.networks.values()
        for port in network.ports
    )


def _hold(
    current: NetworkSnapshot | None, last: NetworkSnapshot, held: list[VifPort]
) -> dict[str, NetworkSnapshot]:
    """Return CURRENT with the ports HELD of LAST, by network; or nothing.

    A port is dropped if another port has, or may use, its address or MAC by
    now. The localport of LAST is kept while CURRENT has none yet.
    """
    if current is None and not held:
        return {}
    here = current.ports if current else ()
    macs = {mac for port in here for mac in port.macs}
    taken = {
        address
        for port in here
        for claims in identity.claimed_addresses(port)
        for address in claims
    }
    kept = [
        port
        for port in held
        if not port.macs & macs
        and not taken & {address for address, _ in port.addresses}
    ]
    network = current or last
    localport = network.localport
    complete = network.complete
    if current is None:
        complete = complete or localport is not None
    elif not complete:
        localport = last.localport
    network = dataclasses.replace(
        network,
        ports=tuple(sorted((*here, *kept), key=lambda p: p.logical_port)),
        localport=localport,
        complete=complete,
    )
    return {network.network: network}
