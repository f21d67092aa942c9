"""Thousands of random requests to three different servers.

The strict one accepts no doubtful byte; gunicorn, and uvicorn with httptools,
are real. `make lottery` sends 100,000. A failure names the seed and the batch.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovn_metadata.agent.haproxy.limits import AGENT, NOBODY
from sandbox import Instance, Sandbox, attempts, request_lottery
from sandbox.strict import IDENTITY, read_strictly
from sandbox.wsgi import Cloud

AGENTS = (AGENT, NOBODY)  # its own requests
REQUESTS = int(os.environ.get("LOTTERY_REQUESTS", "9000"))
SEED = int(os.environ.get("LOTTERY_SEED", "12"))
SERVERS = ("strict", "gunicorn", "uvicorn")
BATCH = 500  # requests between two looks at what the server got
HONEST = "/honest/instance-id"
IDS = {"traceparent", "x-openstack-request-id"}  # our haproxies make them
HEADERS = {*IDENTITY, *IDS, "connection", "content-length", "host"}

Claims = list[tuple[str, str]]


@pytest.fixture(scope="module")
def cloud(module_box: Sandbox) -> Cloud:
    return Cloud(module_box)


class Attack:
    """Two instances that attack a third one and know everything of it."""

    def __init__(self, cloud: Cloud) -> None:
        *self._attackers, self._honest = cloud.instances
        port = self._honest.port
        self._victim = attempts.Victim(
            instance_id=self._honest.instance_id,
            project_id=port.project_id,
            network=port.network.id,
            address=str(port.ip4),
            signature=cloud.box.nova.signature(self._honest.instance_id),
        )
        self._claims = [
            sorted(
                {
                    "x-forwarded-for": str(one.port.ip4),
                    "x-instance-id": one.instance_id,
                    "x-instance-id-signature": cloud.box.nova.signature(
                        one.instance_id
                    ),
                    "x-tenant-id": one.port.project_id,
                }.items()
            )
            for one in cloud.instances
        ]

    def send(self, templates: list[bytes]) -> int:
        """Send TEMPLATES while the third one asks; return how often it did."""
        with ThreadPoolExecutor(len(self._attackers)) as pool:
            sent = [
                pool.submit(self._send_all, one, templates[number::2])
                for number, one in enumerate(self._attackers)
            ]
            asked = 0
            while not asked or not all(one.done() for one in sent):
                asked += 1
                answer = self._honest.fetch(HONEST, timeout=60)
                said = answer.status, answer.text
                assert said == (200, self._honest.instance_id)
        assert all(one.result() is None for one in sent)
        return asked

    def check(self, target: str, claims: Claims) -> None:
        """Check that CLAIMS are of an instance that asked for TARGET."""
        *attackers, honest = self._claims
        assert claims in ([honest] if target == HONEST else attackers)

    def _send_all(self, sender: Instance, templates: list[bytes]) -> None:
        for template in templates:
            data = attempts.fill(template, self._victim)
            # Nothing may take long, whatever is sent.
            said = attempts.send(sender, data)
            assert self._victim.instance_id.encode() not in said, data
            assert b"HTTP/1.1 5" not in said, data


@contextlib.contextmanager
def strict_server(cloud: Cloud, attack: Attack) -> Iterator[None]:
    """Have Nova's stand-in record what comes; check it at the end."""
    nova = cloud.box.nova
    nova.record()
    yield
    host = f"{nova.address}:{nova.port}"
    messages = [
        message
        for stream in nova.recorded()
        for message in read_strictly(stream, host)
    ]
    for message in messages:
        attack.check(message.line.split()[1].decode(), message.claims())
    assert len(messages) > 50


@pytest.mark.parametrize("name", SERVERS)
def test_no_random_request_is_anothers(cloud: Cloud, name: str):
    """Nor has it another Host, or a header that Nova does not read."""
    lottery = random.Random(SEED)
    count = REQUESTS // len(SERVERS)
    attack = Attack(cloud)
    with cloud.nova(name) as server:
        while count > 0:
            size = min(BATCH, count)
            count -= size
            templates = [request_lottery.draw(lottery) for _ in range(size)]
            where = f"seed {SEED}, the batch before the last {count}"
            if server is None:
                with strict_server(cloud, attack):
                    attack.send(templates)
                continue
            server.requests()
            asked = attack.send(templates)
            seen = [
                one
                for one in server.requests()
                if dict(one[1]).get("x-instance-id") not in AGENTS
            ]
            targets = [target for target, _, _ in seen]
            assert targets.count(HONEST) == asked, where
            assert len(seen) - asked > 50, where
            for target, headers, _ in seen:
                assert target.startswith("/"), where
                assert {key for key, _ in headers} <= HEADERS, where
                assert dict(headers)["host"] == server.host, where
                claims = [pair for pair in headers if pair[0] in IDENTITY]
                attack.check(target, sorted(claims))
