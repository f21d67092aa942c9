"""Not seen is not the same as not there: what is served is served on.

While ovn-controller, ovn-northd or the Southbound database is away, or has
not got round to it yet.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
from collections.abc import Iterator

from sandbox import Instance, Sandbox, wait_for
from sandbox.case import wait_served
from sandbox.continuity import pause
from sandbox.controller import exit_controller, frozen
from sandbox.silent_server import silent_server
from sandbox.sockets import network_status, status

RESYNC_S = 5
OPTIONS = {("ovn_metadata_agent", "resync_interval"): str(RESYNC_S)}
SETTLED_S = 30  # after a Chassis row came anew, nothing is removed
START_SETTLED_S = 5  # nor after the agent's own start
SECRET = ("DEFAULT", "metadata_proxy_shared_secret")


def start(box: Sandbox, networks: int = 1, ports: int = 1) -> list[Instance]:
    """Start the agent; return the instances that it serves then."""
    box.agent.configure(OPTIONS)
    box.agent.start()
    box.agent.wait_ready()
    made = [box.neutron.create_network(f"n{n}") for n in range(networks)]
    instances = box.plug(
        [box.neutron.create_port(n) for n in made for _ in range(ports)]
    )
    wait_served(*instances)
    for network in made:
        network_status(network.id)
    return instances


def end_controller(box: Sandbox) -> None:
    """End ovn-controller; return once the agent has said so."""
    exit_controller(box)
    wait_for(
        lambda: (
            (said := box.agent.status()).returncode == 2
            and "no Chassis row" in said.stdout
        ),
        timeout_s=60,
        what="agent-status that says why",
    )


def make_chassis(box: Sandbox) -> None:
    """Make the Chassis row as ovn-controller does before it claims ports."""
    box.ovn.sbctl("chassis-add", box.ovn.system_id, "geneve", "127.0.0.1")
    box.agent.wait_ready()  # it has been told that nothing is bound


def haproxies(box: Sandbox) -> set[int]:
    return {process.pid for process in box.agent.processes("haproxy")}


def test_ovn_controller_that_comes_back_finds_all_served(own_box):
    """It makes its Chassis row first and claims its ports then."""
    box = own_box
    instances = start(box, networks=3)
    before = haproxies(box)
    end_controller(box)
    # It is logged when the status has it already.
    wait_for(
        lambda: box.agent.log().count("no Chassis row") == 1,
        timeout_s=60,
        what="a line of the log",
    )
    # What is served is served by a new secret all the same.
    box.nova.accept("another")
    box.agent.configure({SECRET: "another"})
    box.agent.reload()
    for instance in instances:
        wait_served(instance)
    # Away for longer than a pass over all networks takes to come.
    pause(RESYNC_S + 2)
    box.ovn.start("ovn-controller")
    wait_served(*instances)
    box.agent.wait_ready()
    assert haproxies(box) == before
    assert "removed network" not in box.agent.log()


def test_an_agent_restarted_meanwhile_knows_no_less(own_box):
    """Both are upgraded at once, and the claims come late."""
    box = own_box
    instances = start(box, networks=2)
    before = haproxies(box)
    end_controller(box)
    box.agent.stop()
    box.agent.start()
    wait_for(
        lambda: "no Chassis row" in box.agent.status().stdout,
        timeout_s=60,
        what="agent-status that says why",
    )
    make_chassis(box)
    pause(RESYNC_S + 2)
    for instance in instances:
        assert instance.fetch().text == instance.instance_id
    assert "ready networks=0" in box.agent.log()
    box.ovn.start("ovn-controller")
    box.agent.wait_ready()
    wait_served(*instances)
    assert haproxies(box) == before
    assert "removed network" not in box.agent.log()


def test_ports_claimed_one_by_one_are_all_served_meanwhile(own_box):
    """The first one of a network does not take the others' metadata."""
    box = own_box
    first, second = start(box, ports=2)
    end_controller(box)
    make_chassis(box)
    before = reconciles()
    box.ovn.sbctl("lsp-bind", first.port.id, box.ovn.system_id)
    wait_for(lambda: reconciles() > before, timeout_s=60, what="a look at it")
    pause(2)
    for instance in (first, second):
        assert instance.fetch().text == instance.instance_id
    # What is not claimed when it should have been is let go. It is not told
    # 404: its interface has the mark that ovn-controller has claimed it.
    wait_for(
        lambda: second.fetch(timeout=20).status == 503,
        timeout_s=SETTLED_S + 60,
        what="the end of the second one",
    )
    assert first.fetch().text == first.instance_id
    box.ovn.start("ovn-controller")
    wait_served(second)


def reconciles() -> int:
    """Return how often the agent has looked at the one network there is."""
    (line,) = [
        entry["reconciles"]
        for network, entry in status()["networks"].items()
        if network != "gateway"
    ]
    return int(line)


def test_northd_may_take_its_time_to_fill_a_new_database(own_box):
    """ovn-controller makes its row at once, in an empty one."""
    box = own_box
    (instance,) = start(box)
    before = haproxies(box)
    with frozen(box, "northd"):
        box.ovn.replace_southbound()
        wait_for(
            lambda: "ovn-northd has written" in box.agent.status().stdout,
            timeout_s=60,
            what="agent-status that says why",
        )
        pause(SETTLED_S + RESYNC_S)
        assert box.agent.status().returncode == 2
    box.agent.wait_ready()
    wait_served(instance)
    assert haproxies(box) == before
    assert "removed network" not in box.agent.log()


@contextlib.contextmanager
def mute_southbound(box: Sandbox) -> Iterator[list[socket.socket]]:
    """Have a server that takes connections and says nothing instead."""
    _, _, port = box.ovn.southbound.remote.rpartition(":")
    taken: list[socket.socket] = []
    box.ovn.stop("sb")
    with silent_server(int(port), taken):
        yield taken
    box.ovn.start("sb")


def test_nothing_is_removed_while_southbound_is_away(own_box):
    """ovn-controller has made its row and could not claim its ports yet.

    Nor can it when the database is there again: that takes it a while.
    """
    box = own_box
    (instance,) = start(box)
    end_controller(box)
    make_chassis(box)
    with mute_southbound(box) as taken:
        pause(SETTLED_S + RESYNC_S)
        assert taken
        assert instance.fetch().text == instance.instance_id
    box.agent.wait_ready()
    pause(RESYNC_S + 2)
    assert instance.fetch().text == instance.instance_id
    box.ovn.start("ovn-controller")
    wait_served(instance)
    assert "removed network" not in box.agent.log()


def test_networks_claimed_one_by_one_are_all_there(own_box):
    """The agent and ovn-controller were restarted at once.

    By the agent's own clock: a busy machine may be late with anything.
    """
    box = own_box
    first, second = start(box, networks=2)
    end_controller(box)
    box.agent.stop()
    row = (box.ovn.system_id, "geneve", "127.0.0.1")
    box.ovn.sbctl("chassis-add", *row)
    box.ovn.sbctl("lsp-bind", first.port.id, box.ovn.system_id)
    mark = box.agent.mark()
    box.agent.start()
    removed = f"removed network={second.port.network.id}"
    wait_for(
        lambda: removed in box.agent.log(mark),
        timeout_s=START_SETTLED_S + 60,
        what="the end of the network that is not claimed",
    )
    said = box.agent.log(mark)
    # That Southbound is connected may be logged when its rows were taken.
    waited = logged_at(said, removed) - logged_at(said, "to Open vSwitch")
    assert waited.total_seconds() >= START_SETTLED_S
    assert first.fetch().text == first.instance_id
    box.ovn.start("ovn-controller")
    wait_served(second)
    assert box.agent.log(mark).count("removed network") == 1


def logged_at(log: str, text: str) -> datetime.datetime:
    """Return when TEXT was logged first."""
    line = next(line for line in log.splitlines() if text in line)
    return datetime.datetime.fromisoformat(line[:23])
