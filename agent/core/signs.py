"""Signs that OVN's daemons on this host make no progress.

All of it is a function of the rows, of what the daemons answer, and of how
long each sign has lasted: a port that comes, or a daemon that starts again,
shows each of them for a moment.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from ...privsep import names
from ..model import ChassisSnapshot, VswitchSnapshot

SWITCH, CONTROLLER = "ovs-vswitchd", "ovn-controller"
_CODES = {CONTROLLER: "OVNMD-106", SWITCH: "OVNMD-107"}
_NOT_BOUND, _NO_FLOWS, _NO_PORT = "OVNMD-205", "OVNMD-206", "OVNMD-210"
_DOUBLED = "OVNMD-212"
_WORDS = {
    "dead": (3.0, "it was killed, or crashed"),
    # It has removed its socket. A restart makes a new one.
    "stopped": (10.0, "it was stopped"),
    # A full computation of a large cloud takes seconds.
    "silent": (12.0, "its control socket gives no answer"),
    "lost": (20.0, "it is not connected to OVN Southbound; see ovn-remote"),
}
_IS_BEHIND = (
    f", and {CONTROLLER} has installed it; is the agent's server of OVN "
    f"Southbound behind?"
)
_BEHIND_S = 60.0
_APPLY_S = 15.0
_PORT_S = 30.0
_BINDING_S = 10.0
# For so long a marked interface means that our server is behind. After that
# the port was deleted while ovn-controller did not run.
_LACKING_S = 600.0
_BAD_PORT_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sign:
    """A sign of the problem CODE, if it lasts for LASTS_S."""

    code: str
    lasts_s: float
    reason: str
    about: str = ""  # a network; "" for the host


def signs(
    chassis: ChassisSnapshot | None,
    vswitch: VswitchSnapshot | None,
    daemons: Mapping[str, str],
    *,
    tells_installed: bool,
) -> Iterator[Sign]:
    """Yield the signs that there are now.

    CHASSIS and VSWITCH are None while their database is disconnected.
    DAEMONS has a word on each daemon, as `privsep.vswitch.daemons` has, or
    "stopped": it answered before, and has no socket now. With
    TELLS_INSTALLED ovn-controller marks the ports whose flows are there.
    """
    for daemon, code in _CODES.items():
        if (word := daemons.get(daemon, "")) in _WORDS:
            lasts_s, reason = _WORDS[word]
            yield Sign(code, lasts_s, reason)
    if vswitch is not None and vswitch.applied is not None:
        yield Sign(
            _CODES[SWITCH],
            _APPLY_S,
            f"it applies no change of Open_vSwitch (cur_cfg stays at "
            f"{vswitch.applied})",
        )
    if vswitch is not None and vswitch.problem:
        yield Sign(_CODES[SWITCH], _BAD_PORT_S, vswitch.problem)
    if chassis is None:
        return
    if chassis.followed is not None and chassis.followed < chassis.nb_cfg:
        yield Sign(
            _CODES[CONTROLLER],
            _BEHIND_S,
            f"it follows no change of OVN Southbound (nb_cfg of "
            f"Chassis_Private stays at {chassis.followed})",
        )
    if vswitch is not None and chassis.synced:
        yield from _of_ports(chassis, vswitch, tells_installed=tells_installed)


def _of_ports(
    chassis: ChassisSnapshot,
    vswitch: VswitchSnapshot,
    *,
    tells_installed: bool,
) -> Iterator[Sign]:
    for network in chassis.networks.values():
        own = names.outer_veth(network.network)
        if not network.kept and vswitch.ofports.get(own, 0) < 0:
            reason = f"Open vSwitch can't use {own}; ovs-vsctl show says why"
            yield Sign(_NO_PORT, _BAD_PORT_S, reason, network.network)
        for port in () if network.kept else network.ports:
            name = port.logical_port
            if port.parent or port.moves_here or name not in vswitch.plugged:
                continue
            if name in vswitch.doubled:
                reason = f"several interfaces have iface-id {name}"
                yield Sign(_DOUBLED, _PORT_S, reason, network.network)
            if not port.bound:
                reason = f"port {name} is plugged here and not bound"
                yield Sign(_NOT_BOUND, _PORT_S, reason, network.network)
            elif tells_installed and name not in vswitch.marked:
                reason = (
                    f"port {name} is bound here and {CONTROLLER} has not "
                    f"installed its flows (ovn-installed)"
                )
                yield Sign(_NO_FLOWS, _PORT_S, reason, network.network)
    for name in sorted(vswitch.astray):
        reason = f"the interface with iface-id {name} is on another bridge"
        where = f"{vswitch.bridge} (external_ids:ovn-bridge)"
        yield Sign(_NOT_BOUND, _PORT_S, f"{reason} than {where}")
    for name in sorted(unknown_ports(chassis, vswitch)):
        reason = f"an interface has iface-id {name}, which no port here has"
        reason += _IS_BEHIND * (name in vswitch.installed)
        yield Sign(_NOT_BOUND, _PORT_S, reason)


def unknown_ports(
    chassis: ChassisSnapshot, vswitch: VswitchSnapshot
) -> frozenset[str]:
    """Return the iface-ids on the bridge that no row of this chassis has.

    Only those of Neutron's form: others may mean something else by it.
    """
    own = {*vswitch.metadata_ports}
    for network in chassis.networks.values():
        own |= {port.logical_port for port in network.ports}
    left = vswitch.plugged - chassis.names - own
    return frozenset(filter(names.is_network, left))


def may_lack(
    unknown: Mapping[str, float], vswitch: VswitchSnapshot, *, now: float
) -> bool:
    """Return whether the rows may lack a port that has flows here.

    UNKNOWN has those of `unknown_ports`, and since when. ovn-controller makes
    the flows when it sends the binding, which a busy server takes late. It
    marks the interface when its own server has the binding. If ours has not,
    ours is behind.
    """
    return any(
        now - since < (_LACKING_S if name in vswitch.installed else _BINDING_S)
        for name, since in unknown.items()
    )


def problems(
    since: Mapping[Sign, float], *, now: float
) -> dict[tuple[str, str], str]:
    """Return (code, what has it) -> the reason, of signs that last.

    SINCE has the signs that exist at NOW, each with when it appeared.
    """
    shown = sorted(
        (sign.code, sign.about, sign.reason)
        for sign, began in since.items()
        if now - began >= sign.lasts_s
    )
    found: dict[tuple[str, str], list[str]] = {}
    for code, about, reason in shown:
        found.setdefault((code, about), []).append(reason)
    return {
        key: first + (f" (and {len(rest)} more)" if rest else "")
        for key, (first, *rest) in found.items()
    }
