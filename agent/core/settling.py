"""Decide what to act on while rows may be missing for a while.

ovn-controller first makes its Chassis row and then claims its ports. Claims
made while Southbound is disconnected are not seen. A port that is missing
from the rows at such a time may still be here and must not be torn down. So
there is a grace period: until it ends, the ports of the last snapshot count.

At the end of a live migration two ovn-controllers write the same row. In one
order of their writes the port is bound to no chassis, or to the other one,
until the destination claims it again. A port that is unplugged looks the
same, but not in Open vSwitch, where one that flaps is still plugged.
"""

import dataclasses
import math
import uuid
from collections.abc import Collection, Iterable, Mapping

from ..model import ChassisSnapshot, IPAddress, NetworkSnapshot, VifPort
from . import identity

# How long an ovn-controller that starts may take to claim its ports.
SETTLE_S = 30.0
# The same at our own start; then it has mostly been running for long.
START_SETTLE_S = 5.0
# How long what flaps is held: an ovn-controller may be busy.
FLAP_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """What to act on, and what the next call of `settle` has to know."""

    snapshot: ChassisSnapshot = dataclasses.field(
        default_factory=lambda: ChassisSnapshot(None, {})
    )
    # The Chassis row whose bindings it has, and whether that row has been
    # missing since, or is of a backup.
    chassis: uuid.UUID | None = None
    was_missing: bool = False
    # When the grace period ends; None if it has ended.
    settles_at: float | None = None
    # Port -> its network, of those that were seen bound in that time. One of
    # them that is missing from the rows now, or is only requested (ovn-northd
    # does that before it is claimed), has really been unplugged.
    claimed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # Logical port, or network for its localport -> until when it is held.
    flapping: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def due_at(self) -> float:
        """When to call `settle` again; infinite if never."""
        return min([*self.flapping.values(), self.settles_at or math.inf])


def settle(
    last: Settled,
    rows: ChassisSnapshot,
    *,
    plugged: Collection[str],
    now: float,
    connected: bool,
) -> Settled:
    """Return what to act on after ROWS, and what to remember.

    PLUGGED are the logical ports with a device in Open vSwitch, CONNECTED is
    whether the Southbound server is connected. Call it when rows or the
    connection change, and at `due_at`; a second call with the same arguments
    changes nothing.
    """
    state = _with_deadline(last, rows, now=now, connected=connected)
    rows, flapping = _hold_flapping(
        state, rows, plugged, now=now, connected=connected
    )
    is_settled = rows.synced and state.settles_at is None
    in_rows = {
        port.logical_port: (key, port.bound)
        for key, network in rows.networks.items()
        for port in network.ports
    }
    networks = dict(rows.networks)
    if not is_settled:
        networks |= _hold_unseen(state, rows, in_rows)
    claimed = dict(state.claimed)
    if state.settles_at is not None:
        claimed |= {
            port: key for port, (key, bound) in in_rows.items() if bound
        }
    gone = frozenset[str]()
    if rows.synced:
        in_use = {key for key, each in networks.items() if not each.spare}
        gone = frozenset(claimed.values()) - in_use
    snapshot = dataclasses.replace(
        rows, networks=networks, settled=is_settled, gone=gone
    )
    return dataclasses.replace(
        state, snapshot=snapshot, claimed=claimed, flapping=flapping
    )


def _hold_unseen(
    state: Settled,
    rows: ChassisSnapshot,
    in_rows: Mapping[str, tuple[str, bool]],
) -> dict[str, NetworkSnapshot]:
    """Return the networks with ports that may still be here, held.

    A port that was claimed, or is bound, is where IN_ROWS has it.
    """
    claimed = state.claimed if rows.synced else {}
    networks: dict[str, NetworkSnapshot] = {}
    for key, before in state.snapshot.networks.items():
        held = [
            port
            for port in before.ports
            if port.logical_port not in claimed
            and in_rows.get(port.logical_port, (key, False)) == (key, False)
        ]
        current = rows.networks.get(key)
        if current is not None or held:
            networks[key] = _hold(current, before, held)
    return networks


def _hold_flapping(
    state: Settled,
    rows: ChassisSnapshot,
    plugged: Collection[str],
    *,
    now: float,
    connected: bool,
) -> tuple[ChassisSnapshot, dict[str, float]]:
    """Return ROWS with what flaps in them, and until when each is held.

    A port that was bound stays so while it is requested here and PLUGGED (in
    a grace period: one that was seen bound). A network keeps its localport.
    """
    held: dict[str, float] = {}
    is_settled = rows.synced and state.settles_at is None

    def holds(key: str) -> bool:
        until = state.flapping.get(key, now + FLAP_S)
        if now < until or not connected:
            held[key] = until if connected else now + FLAP_S
        return key in held

    networks = dict(rows.networks)
    for key in networks.keys() & state.snapshot.networks.keys():
        network, before = networks[key], state.snapshot.networks[key]
        bound = {port.logical_port for port in before.ports if port.bound}
        if not is_settled:
            bound &= state.claimed.keys()
        ports = tuple(
            dataclasses.replace(port, bound=True)
            if not port.bound
            and port.logical_port in bound
            and (port.parent or port.logical_port) in plugged
            and holds(port.logical_port)
            else port
            for port in network.ports
        )
        network = dataclasses.replace(network, ports=ports)
        # In a grace period it is held anyway until the server has answered.
        is_gone = not network.localport and (network.complete or is_settled)
        if is_gone and before.localport and holds(key):
            network = dataclasses.replace(network, localport=before.localport)
        networks[key] = network
    return dataclasses.replace(rows, networks=networks), held


def _with_deadline(
    last: Settled, rows: ChassisSnapshot, *, now: float, connected: bool
) -> Settled:
    """Return LAST with the end of the grace period that ROWS call for.

    While Southbound is disconnected ovn-controller can't claim a port, so
    the time does not run.
    """
    if rows.chassis is None or rows.restored != last.snapshot.restored:
        last = dataclasses.replace(last, was_missing=True)
    if rows.synced and (last.was_missing or rows.chassis != last.chassis):
        is_start = last.chassis is None and not last.was_missing
        is_running = is_start and not all(
            network.spare for network in rows.networks.values()
        )
        delay_s = START_SETTLE_S if is_running else SETTLE_S
        last = Settled(last.snapshot, rows.chassis, settles_at=now + delay_s)
    until = last.settles_at
    if until is not None and not connected:
        until = max(until, now + SETTLE_S)
    if until is None or now >= until:
        return dataclasses.replace(last, settles_at=None, claimed={})
    return dataclasses.replace(last, settles_at=until)


def _hold(
    current: NetworkSnapshot | None, last: NetworkSnapshot, held: list[VifPort]
) -> NetworkSnapshot:
    """Return CURRENT, or LAST without one, with the ports HELD of LAST.

    A port is dropped if another port has, or may use, its address or MAC by
    now; a bound one only if the other one is bound. A port that is requested
    in CURRENT counts as bound, if it was. The localport of LAST is kept
    while CURRENT has none yet.
    """
    here = current.ports if current else ()
    taken = {
        bound: _claims(port for port in here if port.bound >= bound)
        for bound in (True, False)
    }
    ports = {port.logical_port: port for port in here}
    for old in held:
        newest = ports.get(old.logical_port, old)
        port = dataclasses.replace(newest, bound=old.bound)
        own = {*port.macs, *dict(port.addresses)}
        if not own & taken[port.bound]:
            ports[port.logical_port] = port
    network = current or last
    localport = network.localport if network.complete else last.localport
    return dataclasses.replace(
        network,
        ports=tuple(ports[name] for name in sorted(ports)),
        localport=localport,
        complete=network.complete
        or (current is None and localport is not None),
    )


def _claims(ports: Iterable[VifPort]) -> set[str | IPAddress]:
    """Return the MACs and the addresses that PORTS may use."""
    found: set[str | IPAddress] = set()
    for port in ports:
        found |= port.macs.union(*identity.claimed_addresses(port))
    return found
