"""A network is kept for a while: a port that comes back finds it ready."""

from __future__ import annotations

import pytest

from sandbox import Instance, Network, Sandbox, wait_for
from sandbox.agent import SPARE, Options
from sandbox.case import Case, ready, wait_served
from sandbox.hoststate import found, haproxies, wait_host, written_map
from sandbox.namespaces import NETNS_FOLDER
from sandbox.sockets import status

KEEP = ("ovn_metadata_agent", "network_keep_time")
KEEP_S = 2


@pytest.fixture(scope="module")
def box(host) -> Sandbox:
    """Provide a sandbox for this module, with the agent's own defaults."""
    box = host.sandbox(SPARE)
    # With a port that is bound, ovn-controller is known to have claimed all.
    box.plug([box.neutron.create_port(box.neutron.create_network("old"))])
    return ready(box)


def state(network: Network) -> tuple[str, int]:
    """Return why NETWORK is there without a port, and for how many."""
    entry = status()["networks"].get(network.id, {})
    return entry.get("spare", "gone"), entry.get("instances", 0)


def wait_state(network: Network, word: str, instances: int) -> None:
    """Wait until NETWORK is there for INSTANCES, because of WORD."""
    wait_for(
        lambda: state(network) == (word, instances),
        timeout_s=60,
        what=f"network that is {word!r}, for {instances}",
    )


def wait_left(network: Network) -> None:
    """Wait until NETWORK is kept for nobody, or gone: KEEP_S is short."""
    wait_for(
        lambda: state(network) in (("kept", 0), ("gone", 0)),
        timeout_s=60,
        what="network that is left",
    )


def configure(box: Sandbox, options: Options) -> None:
    """Have the agent of BOX follow OPTIONS from now on."""
    box.agent.configure(options)
    box.agent.reload_and_wait()


def made(box: Sandbox, network: Network) -> tuple[int, object, str]:
    """Return what another namespace, veth or haproxy would differ in."""
    inode = (NETNS_FOLDER / network.namespace).stat().st_ino
    name = f"tap{network.id[:10]}0"
    (port,) = box.ovn.ovs.select("Interface", [["name", "==", name]])
    return inode, haproxies(box, network.id), port["_uuid"]


def leave(box: Sandbox, instance: Instance) -> None:
    """End INSTANCE and its port, as Nova and Neutron do."""
    box.unplug([instance])
    box.neutron.delete_port(instance.port)


def test_the_next_port_finds_it_ready(box, case: Case):
    """Nobody is served there meanwhile, and at once."""
    network = case.network()
    instance = case.instance(network)
    before = made(box, network)
    assert written_map(network)
    leave(box, instance)
    wait_state(network, "kept", 0)
    assert written_map(network) == {}
    host = found(box, network)
    assert host is not None
    assert host.instances == {}
    assert "(kept)" in box.agent.status().stdout
    mark = box.agent.mark()
    (other,) = case.plug([box.neutron.create_port(network)])
    wait_host(box, network, other.port)
    assert made(box, network) == before
    assert other.fetch().text == other.instance_id
    said = [n for n in box.agent.log(mark).splitlines() if network.id in n]
    assert not any("removed" in line or "veth" in line for line in said)


def test_the_last_owner_of_an_address_is_forgotten_at_once(box, case: Case):
    """The next one has its address before the network is gone."""
    network = case.network()
    address = ["10.10.0.77"]
    first = box.neutron.create_port(network, addresses=address)
    (old,) = case.plug([first])
    leave(box, old)
    wait_state(network, "kept", 0)
    second = box.neutron.create_port(network, addresses=address)
    box.nova.register(second.device_id, second.project_id, "second")
    (new,) = case.plug([second])
    assert new.fetch().text == second.device_id != old.instance_id


def test_a_hard_reboot_loses_no_request(box, case: Case):
    """Nova unplugs and plugs again; Neutron requests it all the time."""
    network = case.network()
    instance = case.instance(network)
    port = instance.port
    before = made(box, network)
    for _ in range(3):
        box.unplug([instance])
        wait_state(network, "requested", 1)
        (instance,) = box.plug([port])
        assert instance.fetch(timeout=60).text == instance.instance_id
        wait_state(network, "", 1)
    assert made(box, network) == before
    # Without a request the network is kept: an OVN before 21.12.
    box.neutron.update_port(port, host=False)
    wait_host(box, network, port)
    box.unplug([instance])
    wait_state(network, "kept", 0)
    (instance,) = box.plug([port])
    wait_served(instance, timeout_s=60)
    assert made(box, network) == before


@pytest.fixture
def short(box: Sandbox):
    """Have networks kept for some seconds."""
    configure(box, {KEEP: str(KEEP_S)})
    yield
    configure(box, SPARE)


def test_it_goes_after_its_time_and_at_the_agents_restart(
    box, case: Case, short
):
    network = case.network()
    leave(box, case.instance(network))
    wait_left(network)
    wait_host(box, network, timeout_s=KEEP_S + 50)
    configure(box, SPARE)
    leave(box, case.instance(network))
    wait_state(network, "kept", 0)
    box.agent.stop()
    ready(box)
    wait_host(box, network, timeout_s=60)


def test_a_network_that_is_deleted_is_kept_no_longer_than_others(
    box, case: Case, short
):
    network = case.network()
    instance = case.instance(network)
    box.neutron.delete_network(network)
    wait_host(box, network, timeout_s=KEEP_S + 50)
    box.unplug([instance])


@pytest.mark.parametrize("word", ["kept", "gone"])
def test_ports_come_and_go_about_when_the_network_goes(
    box, case: Case, short, word
):
    """None meets a network that is half torn down."""
    network, other = case.network("n"), case.network("other")
    for _ in range(3):
        ports = [
            box.neutron.create_port(each, host=False)
            for each in (network, other)
        ]
        instances = box.plug(ports)
        wait_served(*instances, timeout_s=60)
        for instance in instances:
            leave(box, instance)
        if word == "kept":
            wait_left(network)
        else:
            wait_state(network, word, 0)
    for each in (network, other):
        wait_host(box, each, timeout_s=KEEP_S + 50)
