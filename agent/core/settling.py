"""Not seen is not gone: what the rows say, and what to act on meanwhile.

ovn-controller makes its Chassis row first and claims its ports then, and
nobody sees what it claims while Southbound is disconnected. A port that is
missing from the rows at such a time may still be there. So what was there
last counts until it is certain that it is gone.
"""

from __future__ import annotations

import dataclasses
import uuid

from ..model import ChassisSnapshot, NetworkSnapshot, VifPort
from . import identity

# What an ovn-controller that starts may take to claim its ports.
SETTLE_S = 30.0
# The same at our own start, where it has long run in most cases.
START_SETTLE_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """What to act on, and what decides how the next rows are taken."""

    snapshot: ChassisSnapshot = dataclasses.field(
        default_factory=lambda: ChassisSnapshot(None, {})
    )
    # Whose bindings it has, and whether that row was missing since.
    chassis: uuid.UUID | None = None
    was_missing: bool = False
    # When ovn-controller had the time to claim all its ports; None: it had.
    settles_at: float | None = None
    # Networks and ports that were bound in that time: what no longer is, is
    # really gone.
    seen: frozenset[str] = frozenset()


def settle(
    last: Settled, rows: ChassisSnapshot, *, now: float, connected: bool
) -> Settled:
    """Return what to act on after ROWS, and what to remember.

    CONNECTED tells whether the Southbound server is. To be called when
    rows or the connection change, and when it is `settles_at`; calling it
    again with the same changes nothing.
    """
    state = _wait(last, rows, now=now, connected=connected)
    is_settled = rows.synced and state.settles_at is None
    networks = dict(rows.networks)
    if not is_settled:
        # Elsewhere by now, or really gone.
        certain = _ports(rows) | (state.seen if rows.synced else set())
        for key, before in last.snapshot.networks.items():
            held = [p for p in before.ports if p.logical_port not in certain]
            networks |= _hold(networks.get(key), before, held)
    gone = state.seen - networks.keys() if rows.synced else frozenset()
    snapshot = dataclasses.replace(
        rows, networks=networks, settled=is_settled, gone=gone
    )
    return dataclasses.replace(state, snapshot=snapshot)


def _wait(
    last: Settled, rows: ChassisSnapshot, *, now: float, connected: bool
) -> Settled:
    """Return LAST with the time it takes from NOW on to be certain of ROWS.

    While Southbound is disconnected ovn-controller can't claim any port.
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
    """Return CURRENT with the ports HELD of LAST, by its id; or nothing.

    Except those whose address or MAC another port has, or may use, by now.
    While its localport is asked for, the last one stays known.
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
