"""A haproxy that takes long until it has come up, as on a busy host."""

from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sandbox import Instance, Network, Sandbox, host, hoststate, wait_for
from sandbox.case import wait_served
from sandbox.daemons import run
from sandbox.hoststate import haproxies
from sandbox.processes import send_signal
from sandbox.sockets import network_status, stats, visits
from sandbox.waiting import BEHIND_CALL_S

# What is wrong is not mended by a look at all networks.
OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "3600",
    ("ovn_metadata_agent", "selfcheck_interval"): "0",
}
# haproxy reads so many lines of a comment for some tenths of a second.
COMMENT = "#\n" * 20_000_000
CLOUD_INIT_S = 10


@pytest.fixture(scope="module")
def chassis(host) -> Iterator[Sandbox]:
    """Give a chassis whose agent runs: each test leaves it so."""
    made = host.sandbox(OPTIONS)
    made.agent.start()
    made.agent.wait_ready()
    yield made
    host.clear()


@pytest.fixture
def instance(chassis: Sandbox) -> Instance:
    network = chassis.neutron.create_network("n")
    (made,) = chassis.plug([chassis.neutron.create_port(network)])
    wait_served(made)
    network_status(network.id)
    return made


def started(box: Sandbox, network: Network, act: Callable[[], None]) -> int:
    """Have ACT start a haproxy of NETWORK; stop it while it reads its map.

    Returns its pid.
    """
    key, before = network.id, haproxies(box, network.id)
    file = host.map_of(key)

    def reads(pid: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            opened = [*Path(f"/proc/{pid}/fd").iterdir()]
            return file in [entry.readlink() for entry in opened]
        return False

    def reading() -> list[int]:
        new = [pid for pid in haproxies(box, key) if pid not in before]
        return [*filter(reads, new)]

    with file.open("a") as written:
        size = written.tell()
        written.write(COMMENT)
        written.flush()
        act()
        (pid,) = wait_for(
            reading, timeout_s=120, interval_s=0.001, what="one that reads"
        )
        send_signal(pid, signal.SIGSTOP)
        # The agent reads it too, which would take a busy host half a minute.
        written.truncate(size)
    return pid


@contextlib.contextmanager
def broken(program: Path) -> Iterator[None]:
    """Have PROGRAM end at once wherever it is started."""
    run("mount", "--bind", "/bin/false", str(program))
    try:
        yield
    finally:
        run("umount", "--lazy", str(program))


def wait_alone(box: Sandbox, network: Network, pid: int) -> None:
    """Wait until PID is the only haproxy of NETWORK."""
    wait_for(
        lambda: haproxies(box, network.id) == [pid],
        timeout_s=120,
        what="the end of the one before",
    )


def test_a_port_that_comes_meanwhile_is_served(chassis, instance):
    """The successor has read the map of before, and answered it 404."""
    box, network = chassis, instance.port.network
    pid = started(box, network, partial(hoststate.reload, network.id))
    (newcomer,) = box.plug([box.neutron.create_port(network)])
    wait_served(newcomer)  # by the one before
    send_signal(pid, signal.SIGCONT)
    wait_alone(box, network, pid)
    answer = newcomer.fetch(timeout=CLOUD_INIT_S)
    assert (answer.status, answer.text) == (200, newcomer.instance_id)


def test_an_address_that_goes_meanwhile_is_no_ones(chassis, instance):
    """The successor's map has another instance's id for it."""
    box, network = chassis, instance.port.network
    before = instance.instance_id
    pid = started(box, network, partial(hoststate.reload, network.id))
    box.neutron.update_port(instance.port, instance_id=str(uuid.uuid4()))
    file = host.map_of(network.id)
    wait_for(
        lambda: before not in file.read_text(),
        timeout_s=60,
        what="a file without the instance",
    )
    send_signal(pid, signal.SIGCONT)
    wait_alone(box, network, pid)
    wait_for(
        lambda: before not in stats(network.id, f"show map {file}"),
        timeout_s=60,
        what="a haproxy without the instance",
    )


def test_a_port_that_comes_while_the_next_one_fails_is_served(
    chassis, instance
):
    """As after an upgrade to a haproxy that can't start: one still serves."""
    box, network = chassis, instance.port.network
    with broken(Path("/usr/sbin/haproxy")):
        hoststate.reload(network.id)
        box.agent.reload()
        wait_for(
            lambda: network_status(network.id)["error"],
            timeout_s=BEHIND_CALL_S,
            what="a haproxy that fails",
        )
        (newcomer,) = box.plug([box.neutron.create_port(network)])
        wait_served(newcomer)
        assert network_status(network.id)["error"]
    wait_for(
        lambda: not network_status(network.id)["error"],
        timeout_s=BEHIND_CALL_S * 2,
        what="a haproxy that starts",
    )
    wait_served(instance, newcomer)


def test_one_that_has_not_come_up_yet_is_not_replaced(chassis, instance):
    """Where many start at once, to start them again takes longer."""
    box, key = chassis, instance.port.network.id

    def kill() -> None:
        for pid in haproxies(box, key):
            send_signal(pid, signal.SIGKILL)

    pid = started(box, instance.port.network, kill)
    before = visits()[key]
    box.agent.reload()
    wait_for(
        lambda: visits()[key] > before,
        timeout_s=BEHIND_CALL_S,
        what="a visit",
    )
    assert haproxies(box, key) == [pid]
    send_signal(pid, signal.SIGCONT)
    wait_served(instance, timeout_s=60)
    assert haproxies(box, key) == [pid]
    box.agent.wait_ready()
