"""Ready before the port is plugged: Neutron asks for it seconds earlier."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from sandbox import (
    Agent,
    Network,
    Port,
    Sandbox,
    release,
    wait_for,
)
from sandbox.agent import SPARE
from sandbox.case import Case, ready, wait_served
from sandbox.controller import FOREIGN, bind, exit_controller, frozen, here
from sandbox.hoststate import haproxies, left_of, wait_host
from sandbox.namespaces import NETNS_FOLDER
from sandbox.sockets import network_status

LIMIT = ("ovn_metadata_agent", "spare_networks")
OPTIONS = {LIMIT: SPARE[LIMIT]}  # no network is kept: what goes is seen
REQUEST_S = 12  # a busy machine needs some for a network


def settled(box: Sandbox) -> Sandbox:
    """Start the agent of BOX, and return BOX when what is unplugged may go.

    With a port that is bound, ovn-controller is known to have claimed all.
    """
    box.plug([box.neutron.create_port(box.neutron.create_network("old"))])
    ready(box)
    with contextlib.closing(Case(box)) as case:
        network = case.network("gone")
        case.instance(network)
    wait_host(box, network)
    return box


@pytest.fixture(scope="module")
def box(host) -> Sandbox:
    """Provide a sandbox for this module, with the agent's own limit."""
    return settled(host.sandbox(OPTIONS))


def hook(box: Sandbox, *lines: str) -> None:
    """Have each Python process of the agent of BOX begin with LINES."""
    prefix = release.build(box.folder)
    file = release.packages(prefix) / "hook.pth"
    file.write_text("; ".join(lines) + "\n")
    box.agent = Agent(
        box.folder, box.nova, options=box.agent.options, prefix=prefix
    )


@pytest.fixture(scope="module")
def foreign(box: Sandbox) -> str:
    """Provide the uuid of another chassis, which nobody runs."""
    return box.neutron.add_foreign_chassis(FOREIGN)


@contextlib.contextmanager
def stopped(box: Sandbox) -> Iterator[None]:
    """Have the agent stand still."""
    os.kill(box.agent.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(box.agent.pid, signal.SIGCONT)


def requested(box: Sandbox, port: Port) -> tuple[object, object]:
    """Return the columns that ovn-northd writes for PORT."""
    columns = ["requested_chassis", "requested_additional_chassis"]
    where = [["logical_port", "==", port.id]]
    (row,) = box.ovn.sb.select("Port_Binding", where, columns)
    return row[columns[0]], row[columns[1]]


def why(network: Network) -> str:
    """Return why NETWORK is ready without a bound port, by agent-status."""
    return str(network_status(network.id)["spare"])


def wait_spare(network: Network) -> None:
    """Wait until NETWORK is reported as requested; its host may be earlier."""
    wait_for(
        lambda: why(network) == "requested",
        timeout_s=60,
        what="a report of the network",
    )


def namespace(network: Network) -> int:
    """Return the inode of NETWORK's namespace: a new one has another."""
    return (NETNS_FOLDER / network.namespace).stat().st_ino


# ------------------------------------------------------------- before it is


def test_it_is_served_though_the_agent_stands_still_since_before(
    box, case: Case
):
    """Everything is there before the port is plugged."""
    network = case.network("first")
    port = box.neutron.create_port(network)
    wait_host(box, network, port)
    assert requested(box, port) == (here(box), [])
    wait_spare(network)
    assert "(requested)" in box.agent.status().stdout
    before = namespace(network), haproxies(box, network.id)
    with stopped(box):
        (instance,) = box.plug([port])
        assert instance.fetch().text == instance.instance_id
    wait_for(lambda: not why(network), timeout_s=60, what="a bound port")
    assert (namespace(network), haproxies(box, network.id)) == before


def test_it_is_served_to_no_one_else_before(box, case: Case):
    """Another port of the network takes its address and its MAC."""
    network = case.network("taken")
    port = box.neutron.create_port(network)
    thief = box.neutron.create_port(network, port_security=False)
    (other,) = box.plug([thief])
    wait_served(other)
    wait_host(box, network, port, thief)
    other.execute("ip", "link", "set", "eth0", "address", port.mac)
    other.take(str(port.ip4))
    with pytest.raises(TimeoutError):
        other.fetch(source=str(port.ip4), timeout=3)


def test_an_address_is_that_of_the_bound_port(box, case: Case):
    """OVN delivers from that one alone; with both bound it is a conflict."""
    network = case.network("double")
    address = ["10.10.0.77"]
    first = box.neutron.create_port(network, addresses=address)
    (instance,) = case.plug([first])
    second = box.neutron.create_port(network, addresses=address)
    third = box.neutron.create_port(network)
    link_local = str(second.link_local)
    wait_for(
        lambda: network_status(network.id)["instances"] == 3,
        timeout_s=60,
        what="the requested ports",
    )
    assert instance.fetch().text == instance.instance_id
    entry = network_status(network.id)
    assert entry["conflicts"] == []
    # Of two that are requested it is nobody's.
    box.unplug([instance])
    wait_for(
        lambda: [
            text
            for text in network_status(network.id)["conflicts"]
            if address[0] in text
        ],
        timeout_s=60,
        what="a conflict",
    )
    assert link_local not in str(network_status(network.id)["conflicts"])
    box.neutron.delete_port(first)
    (owner,) = case.plug([second])
    assert owner.fetch().text == second.device_id
    wait_host(box, network, second, third)


# ------------------------------------------------------------- elsewhere


def test_a_port_that_is_bound_elsewhere_and_requested_here_is_ready(
    box, case: Case, foreign
):
    """As one of a host that is lost, before the instance is started here."""
    network = case.network("elsewhere")
    port = box.neutron.create_port(network, host=FOREIGN)
    bind(box, port, chassis=foreign)
    box.ovn.sync()
    assert left_of(box, network.id) == []
    with frozen(box, "ovn-controller"):
        box.neutron.update_port(port, host=True)
        wait_host(box, network, port)
        wait_spare(network)
        bind(box, port, chassis=here(box))
        wait_for(lambda: not why(network), timeout_s=60, what="a bound port")
        bind(box, port, chassis=foreign)  # not plugged: it is not held
        wait_for(lambda: why(network), timeout_s=60, what="a requested port")
        box.neutron.update_port(port, host=FOREIGN)
        wait_host(box, network)


@pytest.mark.parametrize(
    "hosts", ["nowhere", "{away}", "nowhere,{away}", "{away},nowhere"]
)
def test_a_port_that_is_requested_elsewhere_is_nothing_here(
    box, case: Case, foreign, hosts
):
    network = case.network("not-here")
    port = box.neutron.create_port(network, host=hosts.format(away=FOREIGN))
    marker = box.neutron.create_port(case.network("marker"))
    wait_host(box, marker.network, marker)
    assert left_of(box, network.id) == []
    # It comes when it is requested here, among others or alone.
    for host in (f"{box.ovn.hostname},nowhere", True):
        box.neutron.update_port(port, host=host)
        wait_host(box, network, port)
    box.neutron.update_port(port, host=False)
    wait_host(box, network)


def test_the_destination_of_a_migration_is_ready_before_it_is_plugged(
    box, case: Case, foreign
):
    """It is bound to the source until the end."""
    network = case.network("migration")
    port = box.neutron.create_port(network, host=FOREIGN)
    bind(box, port, chassis=foreign)
    box.neutron.update_port(port, host=f"{FOREIGN},{box.ovn.hostname}")
    wait_host(box, network, port)
    assert requested(box, port) == (foreign, here(box))
    before = namespace(network), haproxies(box, network.id)
    with stopped(box):
        (instance,) = box.plug([port])
        wait_served(instance)
        box.neutron.update_port(port, host=True)
        box.ovn.sync()
        wait_served(instance)
    wait_for(lambda: not why(network), timeout_s=60, what="a bound port")
    assert (namespace(network), haproxies(box, network.id)) == before


# ------------------------------------------------------------- how many


def test_the_newest_are_ready_and_a_plugged_one_always(host):
    box = settled(host.sandbox({LIMIT: "2"}))
    made = []
    for number in range(3):
        network = box.neutron.create_network(f"n{number}")
        port = box.neutron.create_port(network)
        wait_host(box, network, port)
        made.append((network, port))
    (oldest, first), (second, _), (third, port) = made
    wait_host(box, oldest)
    (instance,) = box.plug([first])
    wait_served(instance)
    for network in (oldest, second, third):
        assert network_status(network.id)
    # With none only what is bound counts, and again when there are some.
    box.agent.configure({LIMIT: "0"})
    box.agent.reload()
    wait_host(box, second)
    wait_host(box, third)
    wait_host(box, oldest, first)
    box.agent.configure({LIMIT: "1"})
    box.agent.reload()
    wait_host(box, third, port)
    wait_served(instance)


def test_ovn_controller_that_comes_back_finds_more_than_the_limit(host):
    """Its ports are requested again, and bound, one after the other."""
    box = ready(host.sandbox({LIMIT: "1"}))
    networks = [box.neutron.create_network(f"n{n}") for n in range(3)]
    instances = box.plug([box.neutron.create_port(n) for n in networks])
    wait_served(*instances)
    before = {p.pid for p in box.agent.processes("haproxy")}
    exit_controller(box)
    wait_for(
        lambda: "no Chassis row" in box.agent.status().stdout,
        timeout_s=60,
        what="agent-status that says why",
    )
    # As ovn-controller does before it claims ports.
    name = box.ovn.system_id
    box.ovn.sbctl(
        *("chassis-add", name, "geneve", "127.0.0.1"),
        *("--", "set", "Chassis", name, f"hostname={box.ovn.hostname}"),
    )
    for instance in instances:
        wait_for(
            lambda i=instance: requested(box, i.port) == (here(box), []),
            timeout_s=60,
            what="requested ports",
        )
    box.agent.wait_ready()
    for instance in instances:
        assert instance.fetch().text == instance.instance_id
    box.ovn.start("ovn-controller")
    box.ovn.wait_installed([i.port.id for i in instances])
    wait_served(*instances)
    assert {p.pid for p in box.agent.processes("haproxy")} == before
    assert "removed network" not in box.agent.log()


def test_a_port_that_is_not_plugged_in_time_is_left_out(host):
    """Then it is served once it is plugged, as any other."""
    box = host.sandbox(OPTIONS)
    hook(
        box,
        "import ovn_metadata.agent.core.spare as spare",
        f"spare.REQUEST_S = {REQUEST_S}",
    )
    with contextlib.closing(settled(box).agent):
        network = box.neutron.create_network("n")
        port = box.neutron.create_port(network)
        wait_host(box, network, port)
        wait_host(box, network, timeout_s=REQUEST_S + 60)
        (instance,) = box.plug([port])
        wait_served(instance)
        wait_host(box, network, port)
        late = box.neutron.create_port(network)
        wait_host(box, network, port, late)
        wait_host(box, network, port, timeout_s=REQUEST_S + 60)
        box.unplug([instance])
        wait_for(
            lambda: why(network) == "requested",
            timeout_s=REQUEST_S + 60,
            what="an unplugged port",
        )
        wait_host(box, network, timeout_s=REQUEST_S + 60)


# ------------------------------------------------------------- an old OVN


def test_an_ovn_without_the_column_serves_what_is_bound(host):
    """As before OVN 21.12; it is logged, once."""
    box = host.sandbox(SPARE)
    hook(
        box,
        "import ovn_metadata.agent.ovsdb.southbound as southbound",
        "columns = southbound._COLUMNS['Port_Binding']",
        "old = [c for c in columns if not c.startswith('requested_')]",
        "southbound._COLUMNS['Port_Binding'] = tuple(old)",
    )
    with contextlib.closing(ready(box).agent):
        network = box.neutron.create_network("n")
        port = box.neutron.create_port(network)
        box.ovn.sync()
        assert left_of(box, network.id) == []
        (instance,) = box.plug([port])
        wait_served(instance)
        assert box.agent.log().count("requested_chassis") == 1
