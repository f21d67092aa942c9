"""What must not happen while something hangs or is away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox, host, wait_for
from sandbox.daemons import run
from sandbox.peer import idle_haproxy

RESYNC_S = 5
SETTLED_S = 30  # after a Chassis row came anew, nothing is removed
SECRET = ("DEFAULT", "metadata_proxy_shared_secret")


@contextlib.contextmanager
def stopped(box: Sandbox, kind: str) -> Iterator[None]:
    """Have the process of KIND stand still."""
    (process,) = box.agent.processes(kind)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def served(instance) -> bool:
    answer = instance.fetch(timeout=2)
    return answer.status == 200 and answer.text == instance.instance_id


@pytest.mark.parametrize("kind", ["supervisord", "agent"])
def test_new_owner_of_an_address_never_gets_the_old_ones_metadata(
    own_box, kind
):
    """The map is cleared first, whatever hangs: nobody's, then its own."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    keeper = box.instance(box.neutron.create_port(network))
    address = ["10.10.0.77"]
    first = box.neutron.create_port(network, addresses=address)
    old = box.instance(first)
    wait_for(lambda: served(old), timeout_s=20, what="the old one's")
    answers = []
    with stopped(box, kind):
        box.unplug([old])
        box.neutron.delete_port(first)
        new = box.instance(box.neutron.create_port(network, addresses=address))
        if kind == "supervisord":
            # An agent that stands still can't know yet: for it, what
            # counts is the moment when it wakes up.
            answers += ask_for(new, 3.0)
    answers += ask_for(new, 3.0)
    wait_for(lambda: served(new), timeout_s=30, what="its own")
    assert old.instance_id not in answers
    assert served(keeper)


def ask_for(instance, seconds: float) -> list[str]:
    """Return who INSTANCE was taken for, asking for SECONDS."""
    said = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            answer = instance.fetch(timeout=0.3)
            if answer.status == 200:
                said.append(answer.text)
    return said


def test_ovn_controller_that_comes_back_finds_all_served(own_box):
    """It makes its Chassis row first and claims its ports then."""
    box = own_box
    box.agent.configure(
        {("ovn_metadata_agent", "resync_interval"): str(RESYNC_S)}
    )
    box.agent.start()
    box.agent.wait_ready()
    ports = [
        box.neutron.create_port(box.neutron.create_network(f"n{number}"))
        for number in range(3)
    ]
    instances = box.plug(ports)
    for instance in instances:
        wait_for(lambda i=instance: served(i), timeout_s=20, what="metadata")
    before = {p.pid for p in box.agent.processes("haproxy")}
    # Asked to end like this, it takes its rows away; killed, it does not.
    run("ovn-appctl", "-t", "ovn-controller", "exit")
    box.ovn.daemons["ovn-controller"].wait()
    wait_for(
        lambda: (
            (said := box.agent.status()).returncode == 2
            and "no Chassis row" in said.stdout
        ),
        timeout_s=10,
        what="agent-status that says why",
    )
    assert box.agent.log().count("no Chassis row") == 1
    # What is served is served by a new secret all the same.
    box.nova.accept("another")
    box.agent.configure({SECRET: "another"})
    box.agent.reload()
    for instance in instances:
        wait_for(lambda i=instance: served(i), timeout_s=10, what="metadata")
    # Away for longer than a pass over all networks takes to come.
    back = time.monotonic() + RESYNC_S + 2
    wait_for(lambda: time.monotonic() > back, timeout_s=30, what="its time")
    box.ovn.start("ovn-controller")
    for instance in instances:
        wait_for(lambda i=instance: served(i), timeout_s=20, what="metadata")
    box.agent.wait_ready()
    assert {p.pid for p in box.agent.processes("haproxy")} == before
    assert "removed network" not in box.agent.log()


def test_nothing_is_removed_while_southbound_is_away(own_box):
    """ovn-controller has made its row and could not claim its ports yet."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    wait_for(lambda: served(instance), timeout_s=20, what="metadata")
    run("ovn-appctl", "-t", "ovn-controller", "exit")
    box.ovn.daemons["ovn-controller"].wait()
    box.ovn.sbctl("chassis-add", box.ovn.system_id, "geneve", "127.0.0.1")
    wait_for(
        lambda: "made its Chassis row anew" in box.agent.log(),
        timeout_s=20,
        what="the new row",
    )
    box.agent.wait_ready()  # it has been told that nothing is bound
    box.ovn.stop("sb")
    settled = time.monotonic() + SETTLED_S + RESYNC_S
    wait_for(
        lambda: time.monotonic() > settled,
        timeout_s=SETTLED_S + 2 * RESYNC_S,
        what="the time to settle",
    )
    box.ovn.start("sb")
    box.ovn.start("ovn-controller")
    box.agent.wait_ready()
    wait_for(lambda: served(instance), timeout_s=20, what="metadata")
    assert "removed network" not in box.agent.log()


@pytest.mark.parametrize("name", ["sb", "ovsdb-server"])
def test_database_that_hangs_is_named_and_does_not_hold_sigterm_up(
    own_box, name
):
    """It takes connections and says nothing: SIGTERM ends the agent."""
    box = own_box
    title = {"sb": "OVN Southbound", "ovsdb-server": "Open vSwitch"}[name]
    box.ovn.freeze(name)
    try:
        box.agent.start()
        wait_for(
            lambda: title in box.agent.status().stdout,
            timeout_s=20,
            what=f"{title} in agent-status",
        )
        begun = time.monotonic()
        box.agent.stop()
        assert time.monotonic() - begun < 5
    finally:
        box.ovn.thaw(name)


def test_southbound_that_goes_is_told_and_costs_nothing(own_box):
    """agent-status has it; the agent sleeps until it is back."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    port = box.neutron.create_port(box.neutron.create_network("n"))
    instance = box.instance(port)
    wait_for(lambda: served(instance), timeout_s=20, what="metadata")
    box.ovn.stop("sb")
    wait_for(
        lambda: (
            "connection to OVN Southbound lost" in box.agent.status().stdout
        ),
        timeout_s=30,
        what="the loss in agent-status",
    )
    assert box.agent.status().returncode == 2
    before = cpu_s(box.agent.pid)
    begun = time.monotonic()
    while time.monotonic() - begun < 4:
        assert served(instance)
    assert cpu_s(box.agent.pid) - before < 1.0
    box.ovn.start("sb")
    box.agent.wait_ready()
    assert "OVN Southbound is connected again" in box.agent.log()


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that process PID has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_supervisord_that_hangs_is_told_and_holds_nothing_up(own_box):
    """What is served is served on; SIGTERM ends the agent all the same."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    wait_for(lambda: served(instance), timeout_s=20, what="metadata")
    with stopped(box, "supervisord"):
        other = box.neutron.create_network("other")
        box.instance(box.neutron.create_port(other))
        wait_for(
            lambda: "supervisord hangs" in box.agent.status().stdout,
            timeout_s=40,
            what="the reason in agent-status",
        )
        assert box.agent.status().returncode == 3
        assert served(instance)
        begun = time.monotonic()
        box.agent.stop()
        assert time.monotonic() - begun < 10
    box.agent.start()
    box.agent.wait_ready()
    assert served(instance)


def test_neutrons_haproxy_makes_way_for_ours(own_box):
    """It runs as root, on the file that is ours now, and has the port."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    wait_for(lambda: served(instance), timeout_s=20, what="metadata")
    box.agent.stop()
    box.agent.stop_fleet()
    config = host.HOME / "ovn-metadata-proxy" / f"{network.id}.conf"
    config.write_text(idle_haproxy("169.254.169.254:80"))
    inside = ("ip", "netns", "exec", network.namespace)
    run(*inside, "haproxy", "-f", str(config))
    wait_for(
        lambda: instance.fetch(timeout=1).status == 503,
        timeout_s=10,
        what="the old one's answer",
    )
    box.agent.start()
    box.agent.wait_ready()
    wait_for(lambda: served(instance), timeout_s=10, what="metadata")
    users = {process.user for process in box.agent.processes("haproxy")}
    assert users == {host.FLEET_USER}


def test_start_as_root_follows_nothing_below_state_path(own_box):
    """A link of the service user's leads root nowhere."""
    box = own_box
    box.agent.configure()
    victim = box.folder / "victim"
    victim.mkdir(mode=0o755)
    (host.HOME / "external").symlink_to(victim)
    started = subprocess.run(
        [
            str(Path(sys.prefix, "bin", "ovn-metadata-agent")),
            *box.agent.config_arguments(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 1
    assert "state_path" in started.stderr
    assert started.stderr.count("\n") == 1
    assert list(victim.iterdir()) == []
    assert victim.stat().st_uid == 0
