"""A haproxy that hangs is ended and replaced; its clients wait meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sandbox import Instance, Loader, Sandbox, host, wait_for
from sandbox.case import Case, wait_served
from sandbox.hoststate import haproxies
from sandbox.processes import send_signal
from sandbox.sockets import status

# The gateway's is replaced after 9 s, a network's after 13 s; a busy machine
# takes longer.
MOST_S = 20.0


@pytest.fixture(scope="module")
def case(module_box: Sandbox) -> Case:
    return Case(module_box)


@pytest.fixture(scope="module")
def instance(case: Case) -> Instance:
    return case.instance(case.network())


def pair(box: Sandbox, key: str) -> tuple[int, int]:
    """Return the pids of KEY's haproxy: the master's, the worker's.

    After a reload the old worker is there for a moment, too.
    """
    found: dict[str, list[int]] = {}

    def one_each() -> bool:
        found.update(haproxies(box, key))
        return [*map(len, found.values())] == [1, 1]

    wait_for(one_each, timeout_s=60, what="one master and one worker")
    return found["masters"][0], found["workers"][0]


def wait_gone(*pids: int, timeout_s: float = 30.0) -> None:
    wait_for(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids),
        timeout_s=timeout_s,
        what=f"the end of {pids}",
    )


@pytest.mark.parametrize("key", ["gateway", "network"])
def test_one_that_hangs_is_replaced(module_box, instance, key):
    """No request fails, and none waits for longer than a boot can."""
    box = module_box
    key = key.replace("network", instance.port.network.id)
    mark = box.agent.mark()
    pids = pair(box, key)
    with Loader([instance], rate=10, timeout_s=30, workers=256) as load:
        send_signal(pids[1], signal.SIGSTOP)
        wait_gone(*pids)
        wait_served(instance)
    print(f"{key}: {load.requests} requests, gap {load.longest_gap_s:.1f} s")
    # A network's own requests that it had accepted are lost with it.
    in_hand = [f for f in load.failures if "Disconn" in f.reason]
    in_hand += [f for f in load.failures if "ConnectionReset" in f.reason]
    assert [f for f in load.failures if f not in in_hand] == []
    assert not in_hand or key != "gateway"
    assert load.longest_gap_s < MOST_S
    replaced = f"network={key} haproxy replaced: "
    assert box.agent.log(mark).count(replaced) == 1
    box.agent.wait_ready()


@pytest.mark.parametrize("key", ["gateway", "network"])
def test_a_master_that_hangs_is_replaced_when_it_is_to_reload(
    module_box, instance, key
):
    """Its worker serves until then."""
    box = module_box
    key = key.replace("network", instance.port.network.id)
    pids = pair(box, key)
    before = status()["networks"][key]["digest"]
    with Loader([instance], rate=10, timeout_s=30, workers=256) as load:
        send_signal(pids[0], signal.SIGSTOP)
        seconds = str(int(box.agent.options.get(TIMEOUT, "32")) + 1)
        box.agent.configure({TIMEOUT: seconds})
        box.agent.reload()
        wait_gone(*pids)
        wait_for(
            lambda: status()["networks"][key]["digest"] != before,
            timeout_s=30,
            what="the new configuration",
        )
        wait_served(instance)
    print(f"{key}: {load.requests} requests, gap {load.longest_gap_s:.1f} s")
    assert len(load.failures) <= (0 if key == "gateway" else 1)
    assert load.longest_gap_s < MOST_S
    box.agent.wait_ready()


TIMEOUT = ("metadata_haproxy", "timeout_server")


@pytest.mark.parametrize("key", ["gateway", "network"])
def test_one_that_can_not_reload_is_not_replaced(module_box, instance, key):
    """Its worker serves all the time, and the next try is a reload."""
    box = module_box
    key = key.replace("network", instance.port.network.id)
    pids, file = pair(box, key), host.map_of(key)
    before = status()["networks"][key]["digest"]

    def digest() -> str:
        return status()["networks"][key]["digest"]

    with Loader([instance], rate=10, timeout_s=30, workers=256) as load:
        # Only the agent, which checks the configuration, can read its map.
        readable = file.stat().st_mode
        file.chmod(0o600)
        seconds = str(int(box.agent.options.get(TIMEOUT, "32")) + 1)
        box.agent.configure({TIMEOUT: seconds})
        box.agent.reload()
        wait_for(
            lambda: status()["networks"][key].get("error"),
            timeout_s=30,
            what="the failure in agent-status",
        )
        assert pair_alive(pids)
        assert digest() == before
        file.chmod(readable)
        wait_for(lambda: digest() != before, timeout_s=60, what="a reload")
        wait_served(instance)
    assert load.failures == []
    box.agent.wait_ready()


def pair_alive(pids: tuple[int, int]) -> bool:
    return all(Path(f"/proc/{pid}").exists() for pid in pids)


def test_one_that_hangs_and_is_stale_is_killed_at_a_teardown(module_box, case):
    """SIGTERM reaches a stopped process only when it is continued."""
    box = module_box
    network = case.network("stale")
    instance = case.instance(network)
    stale = pair(box, network.id)
    for pid in stale:
        send_signal(pid, signal.SIGSTOP)
    (supervisord,) = box.agent.processes("supervisord")
    send_signal(supervisord.pid, signal.SIGKILL)
    wait_served(instance)  # by the next one
    box.unplug([instance])
    wait_gone(*stale)
    box.agent.wait_ready()
