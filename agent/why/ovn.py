"""The hops of OVN and Open vSwitch: the rows, the daemons, the flows."""

from ...privsep import names
from ..core import traces
from .facts import Common, Facts, Unseen, seen
from .hops import Hop, Judge, fault, remove_ports

# Queues that somebody made to lose packets; none is a device's own.
_DROPPING = ("netem", "tbf", "blackhole", "plug")
_ELSEWHERE = Unseen("it has no control socket here, or not for root")


def southbound(at: Judge, common: Common) -> Hop:
    """Judge the connection to Southbound; without it, rows stay as known."""
    remote, problem = common.southbound
    text = f"{remote} is disconnected: {problem}; changes are not seen"
    at.warn(problem, text)
    is_empty = not common.chassis.is_filled and not problem
    at.fail(is_empty, f"{remote} is empty", code="OVNMD-105")
    age_s = common.read_age_s
    return at.ok(f"{remote} is connected, read {age_s:.1f} s ago")


def vswitch_db(at: Judge, common: Common) -> Hop:
    """Judge the connection to Open vSwitch's database, and the bridge."""
    remote, problem = common.vswitch_db
    at.warn(problem, f"{remote} is disconnected: {problem}")
    vswitch = common.vswitch
    is_lost = not vswitch.bridge_exists and not problem
    at.fail(is_lost, f"there is no bridge {vswitch.bridge}", code="OVNMD-110")
    kind = "userspace" if vswitch.is_userspace else "kernel"
    bridge = f"{vswitch.bridge} has the {kind} datapath"
    return at.ok(f"{remote} is connected; {bridge}")


def chassis(at: Judge, common: Common) -> Hop:
    """Judge whether this host is a chassis."""
    name = common.status["chassis"]
    at.fail(not name, "Open vSwitch has no system-id")
    text = f"no row Chassis has the name {name}"
    at.fail(common.chassis.chassis is None, text, code="OVNMD-104")
    return at.ok(f"this host is chassis {name}")


def daemon(at: Judge, common: Common) -> Hop:
    """Judge whether the daemon works that the step is named after."""
    word = seen(common.daemons)[at.step]
    if word == "unknown":
        return at.unknown(_ELSEWHERE)
    note, why = at.fail, common.vswitch.problem
    if at.step == "ovn-controller":  # the flows that are installed stay
        note, why = at.warn, ""
    note(why, why)
    note(word == "dead", "is dead: only its socket is still there")
    note(word == "silent", "hangs: it does not answer")
    text = "is not connected to OVN Southbound"
    do = "correct external_ids:ovn-remote in the table Open_vSwitch"
    note(word == "lost", text, do)
    return at.ok("answers on its control socket")


def port(at: Judge, facts: Facts) -> Hop:
    """Judge whether the port is on this chassis, and whose it is."""
    own, vswitch = facts.target.port, facts.common.vswitch
    listed = ", ".join(str(address) for address, _ in own.addresses)
    name = f"{own.name} {own.logical_port}".strip()
    where = f"port {name} ({listed}, MAC {own.mac})"
    is_plugged = facts.iface_id in vswitch.plugged
    text = f"{where} is plugged here and not bound by OVN"
    at.fail(not own.bound and is_plugged, text)
    at.fail(
        not own.bound,
        f"{where} is requested here; no interface with a device has its "
        f"iface-id on {vswitch.bridge}",
        "wait until Nova has started the instance; if it runs, look at "
        "the iface-id of its tap device: ovs-vsctl list Interface",
    )
    at.fail(not own.instance, f"{where} has no device id", code="OVNMD-211")
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
        at.fail(name, f"{name} has no localport. {why}".strip())
        return at.ok("")
    own = ", ".join(sorted(map(str, found.cidrs))) or "no IPv4 address"
    return at.ok(
        f"{name} has the localport {found.logical_port}, MAC {found.mac}, "
        f"{own}; OVN has it on every chassis: no packet leaves this host"
    )


def tap(at: Judge, facts: Facts) -> Hop | None:
    """Judge the instance's interface; None for one that is not on a host."""
    seen(facts.common.interfaces)
    if facts.target.port.is_external:
        return None
    row, iface_id, vswitch = facts.tap, facts.iface_id, facts.common.vswitch
    if not row:
        at.fail(iface_id, f"no interface has iface-id={iface_id}")
        return at.ok("")
    device, why = row["name"], fault(row)
    at.fail(why, f"{device}: {why}")
    lost = iface_id not in vswitch.plugged
    at.fail(lost, f"{device} is not on {vswitch.bridge}")
    do = f"ip link set {device} up"
    at.fail(row["admin_state"] == "down", f"{device} is set down", do)
    do = "does the instance run, and is its own end up?"
    at.fail(row["link_state"] == "down", f"{device} has no carrier", do)
    rivals, mtu = " ".join(row["rivals"]), seen(facts.desired).mtu
    text = f"{rivals} has the iface-id of {device}: OVN takes one of them"
    note = at.fail if iface_id in vswitch.doubled else at.warn
    note(rivals, text, remove_ports(rivals))
    text = f"{device} has MTU {row['mtu']}, not {mtu}: long answers are lost"
    is_small = isinstance(row["mtu"], int) and row["mtu"] < mtu
    at.warn(is_small, text, f"ip link set {device} mtu {mtu}")
    host = {} if isinstance(facts.host, Unseen) else facts.host["device"]
    queue = host.get("qdisc")
    text = f"{device} has a queue {queue} of somebody's, which may drop"
    do = f"tc qdisc del dev {device} root, if it is no QoS policy's"
    at.warn(queue in _DROPPING, text, do)
    text = (
        f"{device} has the port's iface-id, is up, and is OpenFlow port "
        f"{row['ofport']} of {vswitch.bridge}"
    )
    marks = {"ovn-installed", "ovn-installed-ts"}
    lacks = marks.isdisjoint(row["external_ids"])
    at.warn(lacks, f"{text}; it lacks ovn-installed", code="OVNMD-206")
    return at.ok(f"{text}; OVN has installed its flows (ovn-installed)")


def dhcp(at: Judge, facts: Facts) -> Hop | None:
    """Judge the route that OVN's DHCP gives; IPv6 needs none."""
    found = facts.target.network.localport
    if ":" in facts.target.address:
        return at.ok(f"{names.METADATA_ADDRESS_V6} is on-link: none needed")
    if facts.target.port.is_external:
        return None
    options = traces.dhcp_options(seen(facts.dhcp))
    at.warn(not options, "OVN answers no DHCP on this port")
    via, router = traces.metadata_route(options), traces.router(options)
    own = {str(cidr.ip) for cidr in found.cidrs} if found else set()
    its = ", ".join(sorted(own)) or "it has no address"
    told = f"OVN gives the instance {names.METADATA_ADDRESS_V4} by {via}"
    at.fail(
        options and via not in own,
        f"{told}, not the metadata port ({its})"
        if via
        else f"OVN's DHCP gives no route to {names.METADATA_ADDRESS_V4}",
        "correct classless_static_route in the subnet's DHCP_Options "
        "(neutron-ovn-db-sync-util in repair mode); renew the lease in the "
        "guest",
    )
    rest = f"the router {router} is not on the way"
    rest = rest if router else "there is no router, and none is needed"
    return at.ok(f"{told}, which is the metadata port itself; {rest}")


def flows(at: Judge, facts: Facts, *, back: bool = False) -> Hop | None:
    """Judge the flows to the metadata port, or BACK to the instance."""
    target, bridge = facts.target, facts.common.vswitch.bridge
    if target.port.is_external:
        return None
    packet = f"{target.address} to {target.metadata_address} port 80"
    trace, out = facts.there, facts.veth
    if back:
        packet = f"{target.metadata_address} to {target.address}"
        trace, out = facts.back, facts.tap
    last = traces.dropped_at(seen(trace))
    at.fail(
        not traces.delivers(seen(trace), out.get("ofport")),
        f"{bridge} drops TCP from {packet}; the last flow that matches is "
        f"in OpenFlow table {last:.200}",
        "run ovn-trace as below: if it drops the packet too, a security "
        "group, an ACL or a port that is disabled does; else restart "
        "ovn-controller, as for OVNMD-106: it installs the flows again",
    )
    return at.ok(f"TCP from {packet} leaves {bridge} at {out.get('name')}")
