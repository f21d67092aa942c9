"""The hops of OVN and Open vSwitch: the rows, the daemons, the flows."""

from ...privsep import names
from ..core import traces
from .facts import Common, Facts, Unseen
from .hops import Hop, Judge, remove_ports

# Queues that somebody made to lose packets; none is a device's own.
_DROPPING = ("netem", "tbf", "blackhole", "plug")
_DAEMONS = {
    "ovs-vswitchd": "OVNMD-107",  # it forwards the packets
    "ovn-controller": "OVNMD-106",  # it installs the flows
}
_ELSEWHERE = Unseen("it has no control socket here, or not for root")


def southbound(at: Judge, common: Common) -> Hop:
    """Judge the connection to Southbound; without it, rows stay as known."""
    remote, problem = common.southbound
    text = f"{remote} is disconnected: {problem}; changes are not seen"
    at.warn(problem, "OVNMD-101", text)
    is_empty = not common.chassis.is_filled
    at.fail(is_empty and not problem, "OVNMD-105", f"{remote} is empty")
    age_s = common.read_age_s
    return at.ok(f"{remote} is connected, read {age_s:.1f} s ago")


def vswitch_db(at: Judge, common: Common) -> Hop:
    """Judge the connection to Open vSwitch's database, and the bridge."""
    remote, problem = common.vswitch_db
    at.warn(problem, "OVNMD-102", f"{remote} is disconnected: {problem}")
    vswitch = common.vswitch
    is_lost = not vswitch.bridge_exists and not problem
    at.fail(is_lost, "OVNMD-110", f"there is no bridge {vswitch.bridge}")
    kind = "userspace" if vswitch.is_userspace else "kernel"
    bridge = f"{vswitch.bridge} has the {kind} datapath"
    return at.ok(f"{remote} is connected; {bridge}")


def chassis(at: Judge, common: Common) -> Hop:
    """Judge whether this host is a chassis."""
    name = common.status["chassis"]
    at.fail(not name, "OVNMD-103", "Open vSwitch has no system-id")
    lost = common.chassis.chassis is None
    at.fail(lost, "OVNMD-104", f"no row Chassis has the name {name}")
    return at.ok(f"this host is chassis {name}")


def daemon(at: Judge, common: Common) -> Hop:
    """Judge whether the daemon of _DAEMONS works that the step names."""
    seen, name, code = common.daemons, at.step, _DAEMONS[at.step]
    if isinstance(seen, Unseen) or seen[name] == "unknown":
        lost = seen if isinstance(seen, Unseen) else _ELSEWHERE
        return at.unknown("whether it works", lost)
    note, why = at.fail, common.vswitch.problem
    if name == "ovn-controller":  # the flows that are installed stay
        note, why = at.warn, ""
    note(why, code, why)
    note(seen[name] == "dead", code, "is dead: only its socket is still there")
    note(seen[name] == "silent", code, "hangs: it does not answer")
    text = "is not connected to OVN Southbound"
    do = "correct external_ids:ovn-remote in the table Open_vSwitch"
    note(seen[name] == "lost", code, text, do)
    return at.ok("answers on its control socket")


def port(at: Judge, facts: Facts) -> Hop:
    """Judge whether the port is on this chassis, and whose it is."""
    own, vswitch = facts.target.port, facts.common.vswitch
    listed = ", ".join(str(address) for address, _ in own.addresses)
    name = f"{own.name} {own.logical_port}".strip()
    where = f"port {name} ({listed}, MAC {own.mac})"
    if not own.bound:
        is_plugged = facts.iface_id in vswitch.plugged
        text = f"{where} is plugged here and not bound by OVN"
        at.fail(is_plugged, "OVNMD-205", text)
        at.fail(
            not is_plugged,
            "OVNMD-205",
            f"{where} is requested here; no interface with a device has its "
            f"iface-id on {vswitch.bridge}",
            "wait until Nova has started the instance; if it runs, look at "
            "the iface-id of its tap device: ovs-vsctl list Interface",
        )
    at.fail(not own.instance, "OVNMD-211", f"{where} has no device id")
    return at.ok(
        f"{where} of instance {own.instance} is bound to this chassis"
    )


def localport(at: Judge, facts: Facts) -> Hop:
    """Judge whether the network has its metadata port."""
    found = facts.target.network.localport
    name = f"network {facts.network_name}"
    if found is None:
        rows = facts.common.chassis.problems
        why = "; ".join(each for each in rows if facts.key in each)
        at.fail(name, "OVNMD-201", f"{name} has no localport. {why}".strip())
        return at.ok("")
    own = ", ".join(sorted(map(str, found.cidrs))) or "no IPv4 address"
    return at.ok(
        f"{name} has the localport {found.logical_port}, MAC {found.mac}, "
        f"{own}; OVN has it on every chassis: no packet leaves this host"
    )


def tap(at: Judge, facts: Facts) -> Hop | None:
    """Judge the instance's interface; None for one that is not on a host."""
    seen = facts.common.interfaces
    if isinstance(seen, Unseen):
        return at.unknown("Open vSwitch's rows", seen)
    if facts.target.port.is_external:
        return None
    row, iface_id, code = facts.tap, facts.iface_id, "OVNMD-212"
    bridge = facts.common.vswitch
    if not row:
        at.fail(not row, code, f"no interface has iface-id={iface_id}")
        return at.ok("")
    device, ofport = row["name"], row["ofport"]
    why = row["error"] or "it has no OpenFlow port"
    at.fail(why == row["error"] or ofport < 1, code, f"{device}: {why}")
    lost = iface_id not in bridge.plugged
    at.fail(lost, code, f"{device} is not on {bridge.bridge}")
    is_down = row["admin_state"] == "down"
    do = f"ip link set {device} up"
    at.fail(is_down, code, f"{device} is set down", do)
    is_down = row["link_state"] == "down"
    do = "does the instance run, and is its own end up?"
    at.fail(is_down, code, f"{device} has no carrier", do)
    rivals, mtu = " ".join(row["rivals"]), facts.mtu
    text = f"{rivals} has the iface-id of {device}: OVN takes one of them"
    note = at.fail if facts.iface_id in bridge.doubled else at.warn
    note(rivals, code, text, remove_ports(rivals))
    text = f"{device} has MTU {row['mtu']}, not {mtu}: long answers are lost"
    is_small = isinstance(row["mtu"], int) and row["mtu"] < mtu
    at.warn(is_small, code, text, f"ip link set {device} mtu {mtu}")
    host = {} if isinstance(facts.host, Unseen) else facts.host["device"]
    queue = host.get("qdisc")
    text = f"{device} has a queue {queue} of somebody's, which may drop"
    do = f"tc qdisc del dev {device} root, if it is no QoS policy's"
    at.warn(queue in _DROPPING, code, text, do)
    text = (
        f"{device} has the port's iface-id, is up, and is OpenFlow port "
        f"{ofport} of {bridge.bridge}"
    )
    lacks = "ovn-installed" not in row["external_ids"]
    at.warn(lacks, "OVNMD-206", f"{text}; it lacks ovn-installed")
    return at.ok(f"{text}; OVN has installed its flows (ovn-installed)")


def dhcp(at: Judge, facts: Facts) -> Hop | None:
    """Judge the route that OVN's DHCP gives; IPv6 needs none."""
    found = facts.target.network.localport
    if ":" in facts.target.address:
        return at.ok(f"{names.METADATA_ADDRESS_V6} is on-link: none needed")
    if facts.target.port.is_external:
        return None
    if isinstance(facts.dhcp, Unseen):
        return at.unknown("what OVN answers", facts.dhcp)
    options = traces.dhcp_options(facts.dhcp)
    at.warn(not options, "OVNMD-207", "OVN answers no DHCP on this port")
    via, router = traces.metadata_route(options), traces.router(options)
    own = {str(cidr.ip) for cidr in found.cidrs} if found else set()
    its = ", ".join(sorted(own)) or "it has no address"
    goes = f"{names.METADATA_ADDRESS_V4} by {via}"
    told = f"OVN gives the instance {goes or 'no route'}"
    at.fail(
        options and via not in own,
        "OVNMD-207",
        f"{told}, not the metadata port ({its})"
        if via
        else f"OVN's DHCP gives no route to {names.METADATA_ADDRESS_V4}",
        "correct classless_static_route in the subnet's DHCP_Options "
        "(neutron-ovn-db-sync-util in repair mode); renew the lease in the "
        "guest",
    )
    rest = "there is no router, and none is needed"
    if router:
        rest = f"the router {router} is not on the way"
    return at.ok(f"{told}, which is the metadata port itself; {rest}")


def flows_there(at: Judge, facts: Facts) -> Hop | None:
    """Judge the flows from the instance to the metadata port."""
    target = facts.target
    packet = f"{target.address} to {target.metadata_address} port 80"
    return _flows(facts, at, facts.there, packet, facts.veth)


def flows_back(at: Judge, facts: Facts) -> Hop | None:
    """Judge the flows from the metadata port to the instance."""
    target = facts.target
    packet = f"{target.metadata_address} to {target.address}"
    return _flows(facts, at, facts.back, packet, facts.tap)


def _flows(
    facts: Facts,
    at: Judge,
    trace: str | Unseen,
    packet: str,
    out: dict[str, object],
) -> Hop | None:
    if facts.target.port.is_external:
        return None
    if isinstance(trace, Unseen):
        return at.unknown("what ovs-vswitchd does", trace)
    bridge, last = facts.common.vswitch.bridge, traces.dropped_at(trace)
    at.fail(
        not traces.delivers(trace, out.get("ofport")),
        "OVNMD-206",
        f"{bridge} drops TCP from {packet}; the last flow that matches is "
        f"in OpenFlow table {last:.200}",
        "run ovn-trace as below: if it drops the packet too, a security "
        "group, an ACL or a port that is disabled does; else restart "
        "ovn-controller, as for OVNMD-106: it installs the flows again",
    )
    return at.ok(f"TCP from {packet} leaves {bridge} at {out.get('name')}")
