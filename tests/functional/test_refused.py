"""A client waits until it is served: no connection is ever refused.

cloud-init gives up a source that refuses, and waits for one that is silent.
Each test has a client that connects again and again, from before its port is
plugged; what lasts some milliseconds otherwise is held up meanwhile.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from sandbox import (
    Instance,
    Network,
    Sandbox,
    attach_all,
    host,
    namespaces,
    wait_for,
)
from sandbox.case import wait_served
from sandbox.continuity import SIGKILL, hanging, pause
from sandbox.controller import bind, frozen
from sandbox.daemons import run
from sandbox.hoststate import haproxies, wait_gone, written_map
from sandbox.knocker import Knocker
from sandbox.processes import send_signal
from sandbox.sockets import status

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")
OVN = ("northd", "ovn-controller")
LONG_S = 1.5  # as long as something is held up


@pytest.fixture(scope="module")
def chassis(host) -> Iterator[Sandbox]:
    """Give a chassis whose agent runs: each test leaves it so."""
    made = host.sandbox()
    made.agent.start()
    made.agent.wait_ready()
    yield made
    host.clear()


@pytest.fixture
def network(chassis: Sandbox) -> Iterator[Network]:
    """Give a network of its own to a test."""
    made = chassis.neutron.create_network("n", subnets=SUBNETS)
    yield made
    ours = [i for i in chassis.instances if i.port.network is made]
    chassis.unplug(ours)
    wait_gone(chassis, made.id, timeout_s=120)
    chassis.neutron.delete_network(made)


def prepared(box: Sandbox, network: Network) -> Instance:
    """Return an instance on NETWORK that is ready to be plugged."""
    (made,) = box.prepare([box.neutron.create_port(network)])
    return made


def served(box: Sandbox, network: Network) -> Instance:
    """Return an instance on NETWORK that is served."""
    made = prepared(box, network)
    attach_all([made])
    wait_both(made)
    return made


def wait_both(instance: Instance, *, timeout_s: float = 120) -> None:
    for ipv6 in (False, True):
        wait_served(instance, ipv6=ipv6, timeout_s=timeout_s)


@contextlib.contextmanager
def nobody_refused(instance: Instance) -> Iterator[list[Knocker]]:
    """Have INSTANCE connect all the while; in the end it is served."""
    with contextlib.ExitStack() as stack:
        knockers = [
            stack.enter_context(Knocker(instance, ipv6=ipv6))
            for ipv6 in (False, True)
        ]
        yield knockers
        wait_both(instance)
        wait_for(
            lambda: all(knocker.taken for knocker in knockers),
            timeout_s=60,
            what="a connection of each",
        )
    assert [knocker.refused for knocker in knockers] == [[], []]


def index_of(network: Network) -> int:
    """Return the index of the outer veth of NETWORK; 0 without one."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(outer(network))
    return 0


def outer(network: Network) -> str:
    return f"tap{network.id[:10]}0"


def wait_veth(network: Network, *, other_than: int = 0) -> None:
    """Wait for NETWORK's veth; then OVN has some time to reach it."""
    wait_for(
        lambda: index_of(network) not in (0, other_than),
        timeout_s=60,
        what="the veth",
    )
    pause(LONG_S)


# -- a network that comes ---------------------------------------------------


def test_first_port_waits_for_its_haproxy(chassis, network):
    """The namespace is there, and nobody listens in it yet."""
    instance = prepared(chassis, network)
    with nobody_refused(instance), hanging("supervisord"):
        attach_all([instance])
        wait_veth(network)


def test_agent_is_killed_before_anybody_listens(chassis, network):
    """The next one finds a veth that is made, and no port."""
    instance = prepared(chassis, network)
    with nobody_refused(instance):
        with hanging("supervisord"):
            attach_all([instance])
            wait_veth(network)
            chassis.agent.kill9()
        chassis.agent.start()
        chassis.agent.wait_ready(timeout_s=120)


def test_haproxy_that_can_not_be_started_yet(chassis, network):
    """Its files can't be written: nothing leads to it."""
    stuck = host.config_of(network.id)
    stuck.mkdir()
    instance = prepared(chassis, network)
    with nobody_refused(instance):
        attach_all([instance])
        wait_veth(network)
        stuck.rmdir()


def test_clients_are_taken_while_a_haproxy_fails(chassis, network):
    """They wait in the socket: a port that was lost is plugged again."""
    instance = served(chassis, network)
    chassis.agent.stop()
    socket_ = host.stats_of(network.id)
    socket_.unlink()
    socket_.mkdir()  # haproxy can't listen there, and ends
    chassis.ovn.vsctl("del-port", outer(network))
    with nobody_refused(instance) as knockers:
        for pid in haproxies(chassis, network.id):
            send_signal(pid, SIGKILL)
        chassis.agent.start()
        wait_for(
            lambda: status()["networks"].get(network.id, {}).get("failures"),
            timeout_s=90,
            what="a haproxy that fails",
        )
        before = [knocker.taken for knocker in knockers]
        wait_for(
            lambda: all(
                knocker.taken > count
                for knocker, count in zip(knockers, before, strict=True)
            ),
            timeout_s=60,
            what="clients that are taken",
        )
        socket_.rmdir()
        chassis.agent.wait_ready(timeout_s=120)


# -- a network that is repaired ---------------------------------------------


def lose_veth(network: Network) -> None:
    run("ip", "link", "delete", outer(network))


def lose_namespace(network: Network) -> None:
    namespaces.lose(network.namespace)


@pytest.mark.parametrize("lose", [lose_veth, lose_namespace])
def test_what_is_made_again_while_its_haproxy_runs(
    chassis, network, lose: Callable[[Network], None]
):
    """The haproxy listens where nobody comes any more."""
    instance = served(chassis, network)
    with nobody_refused(instance), hanging("supervisord"):
        before = index_of(network)
        lose(network)
        chassis.neutron.update_network(network, mtu=1400)
        wait_veth(network, other_than=before)


def test_host_that_boots(chassis, network):
    """Open vSwitch has its ports again before anything else is there."""
    instance = served(chassis, network)
    chassis.agent.stop()
    chassis.agent.stop_fleet()
    lose_veth(network)
    lose_namespace(network)
    config = host.config_of(network.id)
    config.unlink()
    config.mkdir()
    with nobody_refused(instance):
        chassis.agent.start()
        wait_veth(network)
        config.rmdir()
        chassis.agent.wait_ready(timeout_s=120)


def test_ipv6_comes_later(chassis, network):
    """Below its least MTU there is none; the haproxy then is reloaded."""
    instance = served(chassis, network)
    chassis.neutron.update_network(network, mtu=1200)
    chassis.ovn.sync()
    wait_for(
        lambda: "fe80::a9fe:a9fe" not in addresses_of(network),
        timeout_s=60,
        what="end of IPv6",
    )
    with nobody_refused(instance):
        chassis.neutron.update_network(network, mtu=1400)


def addresses_of(network: Network) -> str:
    return run("ip", "-n", network.namespace, "-brief", "address")


def test_metadata_port_changes(chassis, network):
    """Its addresses, its MAC address, and at last the whole port."""
    instance = served(chassis, network)
    port = network.metadata
    with nobody_refused(instance):
        chassis.neutron.update_port(port, addresses=["10.10.0.200"])
        wait_for(
            lambda: "10.10.0.200" in addresses_of(network),
            timeout_s=60,
            what="the other address",
        )
        instance.configure()  # its route leads there
        wait_both(instance)
        chassis.neutron.update_port(port, mac="fa:16:3e:00:00:77")
        chassis.ovn.sync()
        wait_both(instance)
        chassis.neutron.delete_port(port)
        chassis.neutron.restore_metadata_port(network)
        chassis.ovn.sync()


# -- a network that goes ----------------------------------------------------


def test_network_that_is_removed_while_a_client_comes(chassis, network):
    """Its haproxy ends when nothing leads there any more.

    ovn-controller stands still: packets go on as if the port was bound. So
    does Open vSwitch's database: the metadata port can't be removed.
    """
    instance = served(chassis, network)
    with nobody_refused(instance), frozen(chassis, *OVN, "ovsdb-server"):
        bind(chassis, instance.port)
        wait_for(
            lambda: not written_map(network),
            timeout_s=60,
            what="end of its rights",
        )
        pause(LONG_S)


def test_network_that_comes_and_goes(chassis, network):
    """Again and again, as a hard reboot does it."""
    instance = served(chassis, network)
    with nobody_refused(instance):
        for _ in range(4):
            with frozen(chassis, *OVN):
                bind(chassis, instance.port)
                wait_gone(chassis, network.id, timeout_s=90)
            wait_both(instance)
