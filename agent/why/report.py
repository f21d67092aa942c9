"""What `why` answers, in the types of JSON (docs/reference/why.md)."""

import dataclasses
import functools
import shlex
from collections.abc import Mapping
from typing import Any

from ...privsep import names
from ..config.values import is_address
from ..core import port_rows
from ..core.codes import KINDS
from .facts import Common, Facts, Seen, Target, Unseen, seen
from .hops import Hop, Judge
from .walk import ABSENT, BROKEN, verdict, walk, walk_to

VERSION = 1
_ABSENT = "OVNMD-208"


def of(facts: Facts) -> dict[str, Any]:
    """Return the walk over FACTS."""
    hops, behind = walk(facts)
    return {
        "verdict": verdict(hops),
        "name": facts.target.name,
        **candidate(facts.target),
        "hops": [dataclasses.asdict(hop) for hop in hops],
        "behind": behind,
        "hint": _hint(facts) if verdict(hops) != BROKEN else {},
        "commands": commands(facts),
    }


def _hint(facts: Facts) -> dict[str, str]:
    """Return where to look if the path is whole."""
    kind, target = KINDS["OVNMD-601"], facts.target
    text = (
        f"without metadata all the same, look inside the guest: does it run, "
        f"has it the MAC {target.port.mac}, the address {target.address} and "
        f"the route to {target.metadata_address}, does its firewall let it "
        f"ask, is OpenStack in cloud-init's datasource_list? What it has "
        f"asked for: agent-status asks {target.port.instance}"
    )
    return {"code": kind.code, "text": text, "remedy": kind.remedy}


def candidate(target: Target) -> dict[str, str]:
    """Return which port TARGET is."""
    return {
        "network": target.network.network,
        "network_name": target.network.name,
        "instance": target.port.instance,
        "port": target.port.logical_port,
        "port_name": target.port.name,
        "address": target.address,
    }


def absent(name: str, found: Seen, common: Common) -> dict[str, Any]:
    """Return why NAME is not served here, by what is FOUND of it elsewhere."""
    judge = functools.partial(_absence, name=name, found=found)
    hops = walk_to(common, ("port", _ABSENT, judge))
    return {
        "verdict": ABSENT if hops[-1].code in ("", _ABSENT) else BROKEN,
        "name": name,
        "hops": [dataclasses.asdict(each) for each in hops],
        "behind": [],
    }


def _absence(at: Judge, common: Common, *, name: str, found: Seen) -> Hop:
    elsewhere = seen(found)
    row: Mapping[str, Any] = next(iter(elsewhere["ports"]), {})
    port, host = row.get("logical_port", name), row.get("hostname", "")
    chassis = row.get("chassis_name", "")
    named = f"{port!r:.80}"  # as `core.port_rows` names it
    problems = [each for each in common.chassis.problems if named in each]
    at.fail(problems, "; ".join(problems), code="OVNMD-109")
    kind = row.get("type", "")
    text = f"port {port} is of the type {kind}: no instance has it"
    do = "ask with an instance, its port or address, or the network"
    at.fail(kind not in port_rows.VIF_TYPES, text, do, code="OVNMD-211")
    is_here = chassis and chassis == common.status["chassis"]
    kind = f"type {kind!r}, mac {row.get('mac')}"
    text = f"port {port} is bound here; its row can't be used: {kind}"
    at.fail(is_here, text, code="OVNMD-109")
    text = f"no port on this host has the address {name}"
    do = "ask with the id of the instance or of its port"
    at.fail(is_address(name), text, do)
    text = f"port {port} is on host {host}, chassis {chassis}"
    do = f"run agent-status why {name} on {host}"
    at.fail(chassis, text, do)
    bridge, device = common.vswitch.bridge, common.interface(port).get("name")
    where = "is" if port in common.vswitch.plugged else "should be"
    unbound = f"port {port} is bound to no chassis"
    text = f"{unbound}, and {device} {where} on {bridge}"
    at.fail(row and device, text, code="OVNMD-205")
    text = f"{device} has iface-id={port}; OVN Southbound has no such port"
    do = "is it in Northbound (ovn-nbctl show)? then look at ovn-northd"
    at.fail(device and not row, text, do, code="OVNMD-205")
    other = _by_mac(str(row.get("mac", "")), common)
    text = f"{other} has the port's MAC and another iface-id than {port}"
    do = f"ovs-vsctl set Interface {other} external_ids:iface-id={port}"
    at.fail(other, text, do, code="OVNMD-205")
    do = "look at the instance in Nova: does it run, and on which host?"
    at.fail(row, unbound, do)
    text = f"no instance of network {name} is on this host"
    at.fail(elsewhere["networks"], text, "ask on a host that has one")
    text = f"OVN Southbound has no port, instance or network {name}"
    do = "check the id; neutron-ovn-db-sync-util in repair mode adds rows"
    at.fail(name, text, do)
    return at.ok("")


def _by_mac(column: str, common: Common) -> str:
    """Return the interface whose MAC COLUMN of a port has; "" for none.

    It may be another port's: a subport mostly has the MAC of its parent.
    """
    if isinstance(common.interfaces, Unseen):
        return ""
    for iface_id, row in common.interfaces.items():
        mac = row.get("external_ids", {}).get("attached-mac", "")
        if mac and mac in column and iface_id not in common.chassis.names:
            return str(row["name"])
    return ""


def commands(facts: Facts) -> list[str]:
    """Return commands for whoever wants to look deeper, to be copied.

    Names of the databases are quoted for a shell.
    """
    target, own = facts.target, facts.target.port
    found = target.network.localport
    ip = "ip6" if ":" in target.address else "ip4"
    made = []
    if found is not None:
        flow = (
            f'inport == "{own.logical_port}" && '
            f"eth.src == {own.mac} && eth.dst == {found.mac} && "
            f"{ip}.src == {target.address} && "
            f"{ip}.dst == {target.metadata_address} && ip.ttl == 64 && "
            f"tcp.src == 40000 && tcp.dst == 80"
        )
        remote, network = facts.common.southbound[0], f"neutron-{facts.key}"
        words = (f"--db={remote}", *facts.common.keys, network, flow)
        made.append(shlex.join(("ovn-trace", *words)))
    made.append(
        f"ip netns exec {facts.space} tcpdump -nei "
        f"{names.inner_veth(facts.key)} 'host {target.address} and tcp port "
        f"80 or arp or icmp6'"
    )
    if device := facts.tap.get("name"):
        made.append(
            f"tcpdump -nei {shlex.quote(device)} 'host "
            f"{target.metadata_address} or arp or icmp6 or udp port 67'"
        )
    return made
