"""Nova's metadata API behind real servers: what they see, whom they serve."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox import Sandbox, wait_for
from sandbox.attackers import hammering
from sandbox.wsgi import ADDRESS, Cloud


@pytest.fixture(scope="module")
def cloud(module_box: Sandbox) -> Cloud:
    return Cloud(module_box)


def seconds_to_ask(port: int) -> float:
    """Return how long another host's request takes at Nova's server."""
    begun = time.monotonic()
    client = http.client.HTTPConnection(ADDRESS, port, timeout=60)
    with contextlib.closing(client):
        client.request("GET", "/", headers={"Connection": "close"})
        assert client.getresponse().read() == b""
    return time.monotonic() - begun


def test_idle_instances_hold_none_of_novas_processes(cloud: Cloud):
    """It has two, and three instances keep their connections."""
    with cloud.nova("uwsgi") as server, contextlib.ExitStack() as links:
        took = []
        for _ in range(3):
            for one in cloud.instances:
                link = links.enter_context(one.connect(timeout=60))
                link.sendall(b"GET /latest/x HTTP/1.1\r\nHost: m\r\n\r\n")
                assert link.recv(65536).startswith(b"HTTP/1.1 200 ")
            took.append(seconds_to_ask(server.port))
    # With both processes held, it takes as long as they are.
    assert statistics.median(took) < 10


def test_busy_instances_are_all_served_by_two_processes(cloud: Cloud):
    """Each takes 5 ms, so all 160 take 0.4 s; with kept connections 27."""

    def longest_s(pool: ThreadPoolExecutor) -> float:
        asked = [
            pool.submit(cloud.instances[number % 3].fetch, timeout=60)
            for number in range(160)
        ]
        answers = [one.result() for one in asked]
        assert {answer.status for answer in answers} == {200}
        return max(answer.seconds for answer in answers)

    with (
        cloud.nova("uwsgi", delay_s=0.005),
        ThreadPoolExecutor(16) as pool,
    ):
        # A machine that is busy with something else may stand still once.
        assert any(longest_s(pool) < 15 for _ in range(3))


def test_greedy_instance_leaves_novas_processes_to_others(cloud: Cloud):
    """Its requests come at full speed, so they share connections."""
    with (
        cloud.nova("uwsgi") as server,
        hammering(cloud.instances[0], 16),
    ):
        seen: list[object] = []

        def is_fast() -> bool:
            seen.extend(server.requests())
            return len(seen) > 1000

        wait_for(is_fast, timeout_s=60, what="requests at full speed")
        took = [seconds_to_ask(server.port) for _ in range(5)]
    # With kept connections the first one waits until the load ends.
    assert statistics.median(took) < 10
