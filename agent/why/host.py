"""The hops on this host: namespace, veth, addresses, neighbours."""

from ...privsep import names
from .facts import Common, Facts, Unseen, seen
from .hops import Hop, Judge, fault, remove_ports

# Of the sysctls that we set, those with which packets are lost.
_CUTTING = ("arp_ignore", "arp_filter", "rp_filter", "disable_ipv6")


def privileged(at: Judge, common: Common) -> Hop:
    """Judge whether the privileged daemon answers the agent."""
    lost = common.daemons
    if isinstance(lost, Unseen):
        at.fail(lost, lost.reason, code=lost.code)
    return at.ok("answers the agent")


def served(at: Judge, facts: Facts) -> Hop:
    """Judge what the agent has made of the network's rows."""
    entry, name = facts.common.entry(facts.key), facts.network_name
    at.fail(not entry, f"network {name} is not provisioned yet")
    error, code = entry.get("error"), entry.get("code", "")
    note = at.warn if entry.get("served") else at.fail
    note(error, f"network {name} can't be provisioned: {error}", code=code)
    pid, count = facts.common.status["pid"], entry.get("instances")
    return at.ok(f"pid {pid} serves network {name}, instances here: {count}")


def namespace(at: Judge, facts: Facts) -> Hop:
    """Judge whether the network's namespace is there."""
    name, state = facts.space, seen(facts.host)["namespace"]
    at.fail(state == "missing", f"{name} is missing")
    at.fail(state == "lost", f"{name} is only a file")
    return at.ok(f"{name} is there")


def veth(at: Judge, facts: Facts) -> Hop:
    """Judge both ends of the veth."""
    host, desired = seen(facts.host), seen(facts.desired)
    own, other = names.outer_veth(facts.key), names.inner_veth(facts.key)
    outer, inner = host["outer"], host["inner"]
    kind, alias = outer.get("kind", "veth"), outer.get("alias", "")
    is_foreign = kind != "veth" or alias not in ("", facts.space)
    text = f"{own} is another device: {kind} {alias!r:.80}"
    at.fail(is_foreign, text, code="OVNMD-204")
    inside = f"tc -n {facts.space}"
    ends = ((own, outer, "tc"), (other, inner, inside))
    for name, end, tc in ends:
        at.fail(not end, f"{name} is missing")
        at.fail(not end.get("up"), f"{name} is set down")
        mtu, queue = end.get("mtu"), end.get("qdisc")
        is_wrong = desired.mtu and mtu != desired.mtu
        at.fail(is_wrong, f"{name} has MTU {mtu}, not {desired.mtu}")
        text = f"{name} has a queue {queue} of somebody's, which may drop"
        is_made = queue not in ("", "noqueue")  # a veth has none of its own
        at.fail(is_made, text, f"{tc} qdisc del dev {name} root")
    mac = inner.get("mac")
    text = f"{other} has MAC {mac}, not {desired.mac}"
    at.fail(mac != desired.mac, text)
    return at.ok(
        f"{own} on the host, {other} in {facts.space}: both up, MTU "
        f"{inner.get('mtu')}, MAC {mac} inside"
    )


def plugged(at: Judge, facts: Facts) -> Hop:
    """Judge the veth's port on the integration bridge."""
    own = names.outer_veth(facts.key)
    bridge, row = facts.common.vswitch.bridge, facts.veth
    found = facts.common.vswitch.ports.get(own)
    where = f"on {found.bridge}" if found else "on no bridge"
    is_lost = where != f"on {bridge}"
    at.fail(is_lost, f"{own} is {where}, not on {bridge}")
    wanted = seen(facts.desired).localport
    iface_id = found.iface_id if found else ""
    is_wrong = iface_id != wanted
    at.fail(is_wrong, f"{own} has iface-id={iface_id}, not {wanted}")
    if row:
        rivals = " ".join({row["name"], *row["rivals"]} - {own})
        text = f"{rivals} has the localport's iface-id too"
        at.fail(rivals, text, remove_ports(rivals))
        why = fault(row)
        at.fail(why, f"{own} does not work: {why}")
    if found and not isinstance(facts.host, Unseen):
        index = facts.host["outer"].get("index")
        is_old = found.ifindex not in (None, index)
        at.fail(is_old, f"{bridge} has an older device of the name {own}")
    return at.ok(f"{own} is on {bridge}, iface-id the localport's")


def addresses(at: Judge, facts: Facts) -> Hop:
    """Judge the addresses inside the namespace."""
    space, present = facts.space, {*seen(facts.host).get("addresses", ())}
    wanted = {str(cidr) for cidr in seen(facts.desired).addresses}
    lacks = ", ".join(sorted(wanted - present))
    at.fail(lacks, f"{space} lacks {lacks}, or its routes")
    more = ", ".join(sorted(present - wanted))
    at.warn(more, f"{space} also has {more}")
    return at.ok(f"{space} has {', '.join(sorted(wanted))}")


def kernel(at: Judge, facts: Facts) -> Hop:
    """Judge the namespace's sysctls."""
    differ = seen(facts.host).get("sysctls", {})
    told = ", ".join(f"{name}={value}" for name, value in differ.items())
    cuts = any(name.endswith(_CUTTING) for name in differ)
    note = at.fail if cuts else at.warn
    note(differ, f"not as the agent set them: {told}")
    return at.ok("are as the agent set them")


def neighbour(at: Judge, facts: Facts) -> Hop:
    """Judge the namespace's way back to the instance."""
    host, desired = seen(facts.host), seen(facts.desired)
    space, address = facts.space, facts.target.address
    wanted = {str(a): mac for a, mac in desired.neighbours.items()}.get(
        address
    )
    known = dict(host.get("neighbours", ())).get(address)
    is_wrong = known and known != wanted
    at.fail(is_wrong, f"answers to {address} go to MAC {known}, not {wanted}")
    onlink = {str(each) for each in desired.onlink}
    lost = address in onlink - {*host.get("hosts", ())}
    at.fail(lost, f"there is no route to {address}")
    strays = ", ".join(host.get("strays", ()))
    at.fail(
        strays,
        f"others have made: {strays}; answers may be lost",
        f"remove them: ip -n {space} link, route, rule; tc -n {space} qdisc",
    )
    is_on = host.get("checksum") and facts.common.vswitch.is_userspace
    text = "the inner veth leaves checksums open; OVS drops such packets"
    at.fail(is_on, text)
    count = host.get("rules")
    text = f"others have made {count} rules of nftables in {space}"
    do = f"ip netns exec {space} nft flush ruleset, or the same by iptables"
    at.warn(count, text, do)
    at.warn(not known, f"{address} has no entry; the kernel asks by itself")
    return at.ok(f"answers to {address} go to MAC {wanted}")


def listener(at: Judge, facts: Facts) -> Hop:
    """Judge the listening socket in the namespace."""
    address = facts.target.metadata_address
    is_lost = address not in seen(facts.host).get("listeners", ())
    at.fail(is_lost, f"nobody listens on {address} port 80 in the namespace")
    return at.ok(f"{address} port 80 in the namespace, held by supervisord")
