"""`make demo`: instances on two networks ask for their metadata.

One network has a router, the other has none; both have the same addresses.
Everything is real but Neutron and Nova, in namespaces that vanish with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial

from . import (
    Instance,
    Network,
    Response,
    Sandbox,
    inside_sandbox,
    subnet,
)
from .agent import Process
from .waiting import wait_for

_PATH = "/openstack/latest/meta_data.json"
_CIDR = "10.10.0.0/24"
_CIDR6 = "fd00:10::/64"
_STRANGER = "10.10.0.99"

_WHY = """\
Why it works on both, step by step:
 1. The agent saw in OVN's Southbound database that a port of the network is
    bound to this chassis, made the namespace ovnmeta-<network id> and put
    one end of a veth into it, the other on br-int with the iface-id of the
    network's localport. OVN has such a port on every chassis.
 2. Neutron's DHCP options give each instance a route: 169.254.169.254 by the
    localport's own address ({routed_by} and {isolated_by} here).
    That is on the instance's own network, so no router is needed, and where
    there is one it is not used: OVN hands the packet to the localport of
    this very chassis.
 3. The haproxy in that namespace looks up the source address in the map of
    this one network and says whose request it is: id, project and a
    signature that Nova checks. 10.10.0.11 exists on both networks; they are
    two instances, and each gets its own answer.
 4. By a unix socket the request leaves the namespace to the gateway haproxy,
    which passes it to Nova. No Python is on the way: the agent may stop.
"""


def main() -> int:
    """Run the demo; return the exit code."""
    if not inside_sandbox():
        print("run it by: make demo", file=sys.stderr)
        return 2
    step("starting OVN, Open vSwitch and a stand-in for Nova")
    with Sandbox() as box:
        routed, isolated = make_networks(box)
        step("starting the agent, as the user ovn-metadata")
        box.agent.start()
        box.agent.wait_ready()
        step("plugging two instances into each network (one by DHCP)")
        instances = plug(box, routed, isolated)
        correct = ask_all(instances)
        correct &= ask_as_stranger(box, routed)
        print()
        print(
            _WHY.format(
                routed_by=routed.metadata.ip4,
                isolated_by=isolated.metadata.ip4,
            )
        )
        show_routes(instances)
        show_processes(box)
        print("\n" + box.agent.status().stdout)
        correct &= show_why(box, instances[0], instances[2])
        if os.environ.get("KEEP", "") not in ("", "0"):
            keep(box, instances)
    print(
        "Gone without a trace."
        if correct
        else "Something is wrong above: the demo failed."
    )
    return 0 if correct else 1


def step(text: str) -> None:
    """Say what is being done."""
    print(f"--> {text}", flush=True)


def make_networks(box: Sandbox) -> tuple[Network, Network]:
    """Make a network with a router and one without, alike otherwise."""
    routed = box.neutron.create_network(
        "routed", subnets=[subnet(_CIDR), subnet(_CIDR6)]
    )
    isolated = box.neutron.create_network(
        "isolated", subnets=[subnet(_CIDR, gateway=False)]
    )
    box.neutron.create_router("router", [routed])
    return routed, isolated


def plug(box: Sandbox, routed: Network, isolated: Network) -> list[Instance]:
    """Plug two instances into each network; addresses overlap."""
    instances = []
    for network in (routed, isolated):
        for number, last in enumerate((11, 12)):
            port = box.neutron.create_port(
                network,
                name=f"{network.name}-{number}",
                addresses=[f"10.10.0.{last}"],
            )
            instances.append(box.instance(port, dhcp=number == 1))
    return instances


def ask_all(instances: list[Instance]) -> bool:
    """Have each ask for its metadata; tell if each got its own."""
    print()
    print(f"{'instance':12} {'network':10} {'address':12} answer")
    correct = True
    for instance in instances:
        port = instance.port
        answer = wait_for(
            partial(served, instance),
            timeout_s=30,
            what=f"metadata of {port.name}",
        )
        uuid = json.loads(answer.body)["uuid"]
        own = uuid == instance.instance_id
        correct &= own
        print(
            f"{port.name:12} {port.network.name:10} {port.ip4!s:12} "
            f"{answer.status} uuid {uuid}, "
            f"{'its own' if own else 'NOT ITS OWN'}"
        )
    return correct


def served(instance: Instance) -> Response | None:
    """Return INSTANCE's metadata; None while nobody answers."""
    try:
        answer = instance.fetch(_PATH, timeout=1.0)
    except OSError:
        return None
    return answer if answer.status == 200 else None


def ask_as_stranger(box: Sandbox, network: Network) -> bool:
    """Ask from an address that no port has; tell if that was refused."""
    port = box.neutron.create_port(
        network, name="stranger", addresses=["10.10.0.13"], port_security=False
    )
    stranger = box.instance(port)
    stranger.execute("ip", "address", "add", f"{_STRANGER}/24", "dev", "eth0")
    wait_for(
        partial(served, stranger), timeout_s=30, what="the stranger's own"
    )
    answer = stranger.fetch(_PATH, source=_STRANGER)
    print(
        f"{'stranger':12} {network.name:10} {_STRANGER:12} "
        f"{answer.status} {answer.text.strip()}"
    )
    return answer.status == 404


def show_routes(instances: list[Instance]) -> None:
    """Print where the instances' routes come from."""
    for instance in instances[1::2]:
        print(f"Routes of {instance.port.name}, from OVN's DHCP:")
        for line in instance.execute("ip", "-4", "route").splitlines():
            print(f"    {line.strip()}")


def show_processes(box: Sandbox) -> None:
    """Print who runs as whom."""
    print("\nWho runs as whom (the capabilities are the effective ones):")
    print(f"    {'pid':>5} {'user':18} {'capabilities':24} {'MiB':>5} program")
    for process in box.agent.processes():
        print(
            f"    {process.pid:5} {process.user:18} "
            f"{capabilities(process):24} {process.pss_kib / 1024:5.1f} "
            f"{describe(process)}"
        )


def capabilities(process: Process) -> str:
    """Return the effective capabilities of PROCESS, in words."""
    if not process.cap_eff:
        return "none, no_new_privs" if process.no_new_privs else "none"
    count = bin(process.cap_eff).count("1")
    return (
        "all of root's" if count > 30 else f"{count} (0x{process.cap_eff:x})"
    )


def describe(process: Process) -> str:
    """Return what PROCESS is here for."""
    words = process.cmdline
    if process.kind == "haproxy":
        config = words[words.index("-f") + 1].rpartition("/")[2]
        return f"haproxy {config.removesuffix('.conf')}"
    return {
        "agent": "ovn-metadata-agent: follows the databases",
        "privsep": "privsep daemon: namespaces, veths, the fleet's programs",
        "supervisord": "supervisord: keeps the haproxies running",
    }.get(process.kind, process.kind)


def show_why(box: Sandbox, *instances: Instance) -> bool:
    """Let the agent explain the path of INSTANCES; tell if each is whole."""
    whole = True
    for instance in instances:
        name = instance.instance_id
        answer = box.agent.status("why", name)
        print(f"$ agent-status why {name}    # {instance.port.name}")
        print(answer.stdout)
        whole &= answer.returncode == 0
    return whole


def keep(box: Sandbox, instances: list[Instance]) -> None:
    """Leave it all running until the user has seen enough."""
    port = instances[0].port
    print(
        f"""
Kept up. In another terminal, as root, go in there:

    nsenter --target $(pgrep -f 'sandbox[.]demo' | tail -n 1) \\
        --mount --net --pid bash

and look around:

    ip netns list
    ip netns exec {instances[0].namespace} curl -s 169.254.169.254{_PATH}
    ip netns exec {port.network.namespace} ip address
    cat /run/ovn-metadata-fleet/read/{port.network.id}/*.map
    {sys.prefix}/bin/agent-status
    ovn-sbctl show
    tail {box.agent.log_file}

Ctrl-C here ends it all.""",
        flush=True,
    )
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT} if os.environ.get("KEEP") else ()
    )
    sys.exit(main())
