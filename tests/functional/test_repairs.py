"""What is broken without a change of rows is repaired, named and counted."""

from __future__ import annotations

import http.client
import re
import signal

import pytest

from sandbox import Instance, Sandbox, host, namespaces, wait_for
from sandbox.case import Case, wait_served
from sandbox.daemons import run
from sandbox.hoststate import haproxies
from sandbox.model import Network
from sandbox.processes import send_signal
from sandbox.sockets import ask_gateway, network_status, stats, status


@pytest.fixture(scope="module")
def case(module_box: Sandbox) -> Case:
    return Case(module_box)


@pytest.fixture(scope="module")
def instance(case: Case) -> Instance:
    return case.instance(case.network())


def inside(network: Network, *command: str) -> None:
    run("ip", "netns", "exec", network.namespace, *command)


def outer(network: Network) -> str:
    return f"tap{network.id[:10]}0"


def inner(network: Network) -> str:
    return f"tap{network.id[:10]}1"


def veth_down(box: Sandbox, instance: Instance) -> None:
    run("ip", "link", "set", outer(instance.port.network), "down")


def veth_gone(box: Sandbox, instance: Instance) -> None:
    run("ip", "link", "delete", outer(instance.port.network))


def namespace_gone(box: Sandbox, instance: Instance) -> None:
    namespaces.lose(instance.port.network.namespace)


def address_gone(box: Sandbox, instance: Instance) -> None:
    network = instance.port.network
    command = ("ip", "address", "del", "169.254.169.254/32")
    inside(network, *command, "dev", inner(network))


def subnets_routes_gone(box: Sandbox, instance: Instance) -> None:
    network = instance.port.network
    inside(network, "ip", "route", "flush", "table", "main")


def local_routes_gone(box: Sandbox, instance: Instance) -> None:
    network = instance.port.network
    inside(network, "ip", "-6", "route", "flush", "table", "local")


def sysctl_changed(box: Sandbox, instance: Instance) -> None:
    network = instance.port.network
    inside(network, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=8")


def map_differs(box: Sandbox, instance: Instance) -> None:
    network = instance.port.network.id
    file = re.findall(r"[^\s(]+\.map", stats(network, "show map"))[0]
    stats(network, f"del map {file} {instance.port.ip4}")


def port_off(box: Sandbox, instance: Instance) -> None:
    box.ovn.vsctl("del-port", outer(instance.port.network))


def port_has_a_rival(box: Sandbox, instance: Instance) -> None:
    """As an agent that named the port in another way may add one."""
    name = f"iface-id={instance.port.network.metadata.id}"
    box.ovn.vsctl(
        *("add-port", box.ovn.bridge, "rival", "--", "set", "Interface"),
        *("rival", "type=internal", f"external_ids:{name}"),
    )


def add_dead_rival(box: Sandbox, instance: Instance) -> None:
    """ovn-controller 23.03 releases both: no flows are left."""
    name = f"iface-id={instance.port.network.metadata.id}"
    # Without waiting: ovs-vsctl 4.0.0 fails for a port without a device.
    box.ovn.vsctl(
        *("--no-wait", "add-port", box.ovn.bridge, "rival"),
        *("--", "set", "Interface", "rival", f"external_ids:{name}"),
    )
    get = ("get", "Interface", "rival", "ofport")
    wait_for(
        lambda: box.ovn.vsctl(*get).strip() == "-1",
        timeout_s=60,
        what="a port that ovs-vswitchd can't use",
    )
    box.ovn.sync()


def port_has_a_dead_rival(box: Sandbox, instance: Instance) -> None:
    """As after a boot of the host: its device is gone."""
    send_signal(box.agent.pid, signal.SIGSTOP)
    add_dead_rival(box, instance)
    send_signal(box.agent.pid, signal.SIGCONT)


def port_had_a_dead_rival(box: Sandbox, instance: Instance) -> None:
    """Somebody else removed it, before the agent saw it."""
    send_signal(box.agent.pid, signal.SIGSTOP)
    add_dead_rival(box, instance)
    box.ovn.vsctl("del-port", "rival")
    send_signal(box.agent.pid, signal.SIGCONT)


def port_is_renumbered(box: Sandbox, instance: Instance) -> None:
    """ovn-controller 23.03 leaves a localport's flows as they are."""
    where = ("Interface", outer(instance.port.network))
    box.ovn.vsctl("set", *where, "ofport_request=77")


def haproxy_hangs(box: Sandbox, instance: Instance) -> None:
    for pid in haproxies(box, instance.port.network.id):
        send_signal(pid, signal.SIGSTOP)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (veth_down, "veth down"),
        (veth_gone, "veth gone"),
        (namespace_gone, "namespace gone"),
        (address_gone, "address 169.254.169.254/32 gone"),
        (subnets_routes_gone, "routes of 10.10.0.1 gone"),
        (local_routes_gone, "routes of fe80::a9fe:a9fe gone"),
        (sysctl_changed, "sysctl arp_ignore changed"),
        (map_differs, "map in haproxy changed"),
        (port_off, "port not on the bridge"),
        (port_has_a_rival, "port not as it should be"),
        (port_has_a_dead_rival, "port not as it should be"),
        (port_had_a_dead_rival, "port not as it should be"),
        (port_is_renumbered, "port not as it should be"),
        (haproxy_hangs, "haproxy did not answer"),
    ],
)
def test_it_is_repaired_named_and_counted(module_box, instance, damage, words):
    box, network = module_box, instance.port.network.id
    wait_served(instance)
    network_status(network)
    mark, before = box.agent.mark(), status()
    damage(box, instance)
    box.agent.reload()
    line = re.compile(
        rf" WARNING .*network={network} found: (.*); set up again"
    )

    def found() -> list[str]:
        return line.findall(box.agent.log(mark))

    wait_for(
        lambda: any(words in each for each in found()),
        timeout_s=90,
        what="a word of it",
    )
    wait_served(instance)

    def counts() -> tuple[int, int]:
        now = status()
        ours = [s["networks"][network]["repairs"] for s in (before, now)]
        return now["repairs"] - before["repairs"], ours[1] - ours[0]

    # A pass that was under way may have found half of it.
    wait_for(
        lambda: counts() == (len(found()), len(found())),
        timeout_s=60,
        what="as many repairs as lines",
    )
    assert 1 <= len(found()) <= 2


def test_a_port_that_ovs_vswitchd_has_not_released(module_box, instance):
    """It would keep the device that is gone, under the name of the new one."""
    box, network = module_box, instance.port.network.id
    wait_served(instance)
    before = network_status(network)["failures"]
    box.ovn.freeze("ovs-vswitchd")
    run("ip", "link", "set", outer(instance.port.network), "name", "old")
    box.agent.reload()

    def has_tried_twice() -> bool:
        entry = network_status(network)
        failures = entry["failures"] - before
        return failures > 1 or (failures == 1 and not entry["error"])

    wait_for(has_tried_twice, timeout_s=90, what="another try")
    box.ovn.thaw("ovs-vswitchd")
    wait_served(instance)


def test_a_network_that_comes_back_while_ovs_vswitchd_hangs(
    module_box, case, instance
):
    """As above: it does not see that the port was gone."""
    box, network = module_box, instance.port.network
    wait_served(instance)
    box.ovn.freeze("ovs-vswitchd")
    box.neutron.delete_port(network.metadata)
    wait_for(
        lambda: network.id not in status()["networks"],
        timeout_s=60,
        what="a network that is removed",
    )
    box.neutron.restore_metadata_port(network)
    network_status(network.id)
    box.ovn.thaw("ovs-vswitchd")
    wait_served(instance)


def test_ports_that_have_each_others_openflow_port(module_box, case, instance):
    """ovn-controller 23.03 leaves both localports' flows as they are."""
    box, other = module_box, case.instance(case.network())
    names = [outer(each.port.network) for each in (instance, other)]
    wait_served(instance, other)
    box.agent.stop()
    numbers = [box.ovn.vsctl("get", "Interface", n, "ofport") for n in names]
    command = []
    for name, number in zip(names, reversed(numbers), strict=True):
        request = f"ofport_request={number.strip()}"
        command += ["--", "set", "Interface", name, request]
    box.ovn.vsctl(*command[1:])
    box.ovn.sync()
    box.agent.start()
    wait_served(instance, other, timeout_s=120)


def test_the_gateways_public_socket_is_made_again(module_box, instance):
    """Nothing else lacks; deployers' probes ask there."""
    (host.FLEET / "socket" / "metadata_proxy").unlink()
    module_box.agent.reload()
    wait_for(
        lambda: ask_gateway(path="/") == http.client.NOT_FOUND,
        timeout_s=60,
        what="an answer on the socket",
    )
    module_box.agent.wait_ready()
    wait_served(instance)


def test_what_a_failed_try_has_repaired_is_named_too(module_box, instance):
    """A try makes the namespace again and fails; the next one says so."""
    box, network = module_box, instance.port.network.id
    wait_served(instance)
    network_status(network)
    mark = box.agent.mark()
    stuck = host.config_of(network)
    stuck.unlink()
    stuck.mkdir()
    namespace_gone(box, instance)
    box.agent.reload()
    wait_for(
        lambda: network_status(network)["error"],
        timeout_s=60,
        what="a failed try",
    )
    stuck.rmdir()
    wait_for(
        lambda: re.search(
            rf"network={network} found: .*namespace gone", box.agent.log(mark)
        ),
        timeout_s=60,
        what="a word of the namespace",
    )
    wait_served(instance)


def repairs_of(damaged: set[str]) -> int:
    """Return how many repairs there were of others than DAMAGED."""
    return sum(
        int(entry["repairs"])
        for key, entry in status()["networks"].items()
        if key not in damaged
    )


def test_what_rows_and_options_explain_is_no_repair(module_box, case: Case):
    """Ports that come, go and change; options that change; a pass."""
    box = module_box
    # What was damaged before may be found again.
    damaged = {network.id for network in case.networks}
    mark, before = box.agent.mark(), repairs_of(damaged)
    network = case.network("quiet", "10.30.0.0/24", "fd00:30::/64")
    first = case.instance(network)
    second = case.instance(network)
    box.unplug([second])
    digest = network_status(network.id)["digest"]
    seconds = ("metadata_haproxy", "timeout_client")
    box.agent.configure({seconds: "31"})
    box.agent.reload()
    box.neutron.create_port(network)
    wait_for(
        lambda: network_status(network.id)["digest"] != digest,
        timeout_s=60,
        what="the new option",
    )
    third = case.instance(network)
    wait_served(first, third)
    done = network_status(network.id)["reconciles"]
    box.agent.reload()
    wait_for(
        lambda: network_status(network.id)["reconciles"] > done,
        timeout_s=60,
        what="another pass",
    )
    assert repairs_of(damaged) == before
    assert not [
        line
        for line in box.agent.log(mark).splitlines()
        if " found: " in line and not any(each in line for each in damaged)
    ]
