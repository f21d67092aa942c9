"""The hops on this host: namespace, veth, addresses, neighbours."""

from ...privsep import names
from .facts import Common, Facts, Unseen
from .hops import Hop, Judge, remove_ports

# Of the sysctls that we set, those with which packets are lost.
_CUTTING = ("arp_ignore", "arp_filter", "rp_filter", "disable_ipv6")
_SELF = (
    "the agent mends it with its next pass; at once: systemctl reload "
    "ovn-metadata-agent"
)
_MADE = "OVNMD-209"


def privileged(at: Judge, common: Common) -> Hop:
    """Judge whether the privileged daemon answers the agent."""
    seen = common.daemons
    if isinstance(seen, Unseen):
        at.fail(seen, seen.code or "OVNMD-401", seen.reason)
    return at.ok("answers the agent")


def served(at: Judge, facts: Facts) -> Hop:
    """Judge what the agent has made of the network's rows."""
    entry = facts.common.entry(facts.key)
    name, pid = facts.network_name, facts.common.status["pid"]
    at.fail(not entry, "OVNMD-202", f"network {name} is not provisioned yet")
    error, code = entry.get("error"), entry.get("code") or "OVNMD-202"
    text = f"network {name} can't be provisioned: {error}"
    note = at.warn if entry.get("served") else at.fail
    note(error, code, text)
    count = entry.get("instances")
    return at.ok(f"pid {pid} serves network {name}, {count} instances here")


def namespace(at: Judge, facts: Facts) -> Hop:
    """Judge whether the network's namespace is there."""
    name = names.namespace_name(facts.key)
    if isinstance(facts.host, Unseen):
        return at.unknown(name, facts.host)
    state = facts.host["namespace"]
    at.fail(state == "missing", _MADE, f"{name} is missing", _SELF)
    at.fail(state == "lost", _MADE, f"{name} is only a file", _SELF)
    return at.ok(f"{name} is there")


def veth(at: Judge, facts: Facts) -> Hop | None:
    """Judge both ends of the veth."""
    if isinstance(facts.host, Unseen):
        return None
    desired = facts.desired
    own, other = names.outer_veth(facts.key), names.inner_veth(facts.key)
    outer, inner = facts.host["outer"], facts.host["inner"]
    space = names.namespace_name(facts.key)
    kind, alias = outer.get("kind", "veth"), outer.get("alias", "")
    is_foreign = kind != "veth" or alias not in ("", space)
    text = f"{own} is another device: {kind} {alias!r:.80}"
    at.fail(is_foreign, "OVNMD-204", text)
    mtu = facts.mtu
    mac = desired.mac if desired else ""
    for name, end in ((own, outer), (other, inner)):
        at.fail(not end, _MADE, f"{name} is missing", _SELF)
        at.fail(not end.get("up"), _MADE, f"{name} is set down", _SELF)
        is_wrong = mtu and end.get("mtu") != mtu
        text = f"{name} has MTU {end.get('mtu')}, not {mtu}"
        at.fail(is_wrong, _MADE, text, _SELF)
        queue = end.get("qdisc")  # a veth has none of its own
        text = f"{name} has a queue {queue} of somebody's, which may drop"
        do = f"tc qdisc del dev {name} root"
        at.fail(queue not in ("", "noqueue"), _MADE, text, do)
    text = f"{other} has MAC {inner.get('mac')}, not {mac}"
    at.fail(inner.get("mac") != mac, _MADE, text, _SELF)
    return at.ok(
        f"{own} on the host, {other} in {space}: both up, MTU "
        f"{inner.get('mtu')}, MAC {mac} inside"
    )


def plugged(at: Judge, facts: Facts) -> Hop:
    """Judge the veth's port on the integration bridge."""
    own = names.outer_veth(facts.key)
    vswitch, row, code = facts.common.vswitch, facts.veth, "OVNMD-210"
    found = vswitch.ports.get(own)
    where = f"on {found.bridge}" if found else "on no bridge"
    is_lost = where != f"on {vswitch.bridge}"
    text = f"{own} is {where}, not on {vswitch.bridge}"
    at.fail(is_lost, code, text, _SELF)
    localport = facts.target.network.localport
    wanted = localport.logical_port if localport else ""
    iface_id = found.iface_id if found else ""
    text = f"{own} has iface-id={iface_id}, not {wanted}"
    at.fail(iface_id != wanted, code, text, _SELF)
    if row:
        why = row["error"] or "it has no OpenFlow port"
        rivals = " ".join({row["name"], *row["rivals"]} - {own})
        text = f"{rivals} has the localport's iface-id too"
        at.fail(rivals, code, text, remove_ports(rivals))
        is_bad = row["error"] or row["ofport"] < 1
        at.fail(is_bad, code, f"{own} does not work: {why}")
    if found and not isinstance(facts.host, Unseen):
        index = facts.host["outer"].get("index")
        is_old = found.ifindex not in (None, index)
        text = f"{vswitch.bridge} has an older device of the name {own}"
        at.fail(is_old, code, text, _SELF)
    return at.ok(f"{own} is on {vswitch.bridge}, iface-id the localport's")


def addresses(at: Judge, facts: Facts) -> Hop | None:
    """Judge the addresses inside the namespace."""
    if isinstance(facts.host, Unseen) or facts.desired is None:
        return None
    space = names.namespace_name(facts.key)
    present = {*facts.host.get("addresses", ())}
    wanted = {str(cidr) for cidr in facts.desired.addresses}
    lacks = ", ".join(sorted(wanted - present))
    at.fail(lacks, _MADE, f"{space} lacks {lacks}, or its routes", _SELF)
    more = ", ".join(sorted(present - wanted))
    at.warn(more, _MADE, f"{space} also has {more}", _SELF)
    return at.ok(f"{space} has {', '.join(sorted(wanted))}")


def kernel(at: Judge, facts: Facts) -> Hop | None:
    """Judge the namespace's sysctls."""
    if isinstance(facts.host, Unseen):
        return None
    differ = facts.host.get("sysctls", {})
    told = ", ".join(f"{name}={value}" for name, value in differ.items())
    cuts = any(name.endswith(_CUTTING) for name in differ)
    note = at.fail if cuts else at.warn
    note(differ, _MADE, f"not as the agent set them: {told}", _SELF)
    return at.ok("are as the agent set them")


def neighbour(at: Judge, facts: Facts) -> Hop | None:
    """Judge the namespace's way back to the instance."""
    if isinstance(facts.host, Unseen) or facts.desired is None:
        return None
    address = facts.target.address
    wanted = {str(a): mac for a, mac in facts.desired.neighbours}.get(address)
    known = dict(facts.host.get("neighbours", ())).get(address)
    text = f"answers to {address} go to MAC {known}, not {wanted}"
    at.fail(known and known != wanted, _MADE, text, _SELF)
    onlink = {str(each) for each in facts.desired.onlink}
    lost = address in onlink - {*facts.host.get("hosts", ())}
    at.fail(lost, _MADE, f"there is no route to {address}", _SELF)
    strays = ", ".join(facts.host.get("strays", ()))
    text = f"others have made: {strays}; answers may be lost"
    space = names.namespace_name(facts.key)
    do = f"remove them: ip -n {space} link, route, rule; tc -n {space} qdisc"
    at.fail(strays, _MADE, text, do)
    is_on = facts.host.get("checksum") and facts.common.vswitch.is_userspace
    text = "the inner veth leaves checksums open; OVS drops such packets"
    at.fail(is_on, _MADE, text, _SELF)
    count = facts.host.get("rules")
    text = f"others have made {count} rules of nftables in {space}"
    do = f"ip netns exec {space} nft flush ruleset, or the same by iptables"
    at.warn(count, _MADE, text, do)
    text = f"{address} has no entry; the kernel asks by itself"
    at.warn(not known, _MADE, text, _SELF)
    return at.ok(f"answers to {address} go to MAC {wanted}")


def listener(at: Judge, facts: Facts) -> Hop | None:
    """Judge the listening socket in the namespace."""
    if isinstance(facts.host, Unseen):
        return None
    address = facts.target.metadata_address
    is_lost = address not in facts.host.get("listeners", ())
    text = f"nobody listens on {address} port 80 in the namespace"
    at.fail(is_lost, "OVNMD-301", text, _SELF)
    return at.ok(f"{address} port 80 in the namespace, held by supervisord")
