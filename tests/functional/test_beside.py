"""neutron-ovn-agent on the same host, for something else than metadata.

The real one, with the extension for the QoS of offloaded ports. Neutron's own
classes tell what its agents API shows of both.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandbox
from sandbox import Sandbox, ovn, peer, wait_for
from sandbox.controller import registration

CONTROLLER = "ovn-controller"
OURS, THEIRS = "neutron-ovn-metadata-agent", "neutron-ovn-agent"
# Neutron shows all alive for this long after ovn-controller's heartbeat.
ALIVE_S = 1
# Heartbeats are spread over a third of it, but at least 3 s.
DOWN = ("DEFAULT", "agent_down_time")
DOWN_S = 9


class AgentsApi:
    """What a neutron-server that has just started knows."""

    def __init__(self, prefix: Path) -> None:
        script = Path(sandbox.__file__).with_name("agents_api.py")
        self._process = subprocess.Popen(
            (
                *(str(prefix / "bin" / "python"), "-I", str(script)),
                *(ovn.NB_REMOTE, ovn.SB_REMOTE),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.alive()

    def alive(self) -> list[dict[str, bool]]:
        """Return which agents it lists, and which it finds in the rows.

        Each with whether it is alive.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: list[dict[str, bool]] = json.loads(
            self._process.stdout.readline()
        )
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def box(host) -> Sandbox:
    """Provide a sandbox whose agents' heartbeats come soon."""
    if not peer.is_installed(peer.default_prefix()):
        pytest.skip(f"no Neutron in {peer.default_prefix()}: make peer")
    return host.sandbox({DOWN: str(DOWN_S)})


@pytest.fixture
def theirs(box: Sandbox) -> Iterator[peer.NeutronAgent]:
    """Provide neutron-ovn-agent, not started."""
    options = {DOWN: str(DOWN_S)}
    agent = peer.NeutronAgent(
        box.folder, box.ovn, box.nova, options=options, extensions="qos_hwol"
    )
    with contextlib.ExitStack() as stack:
        stack.callback(agent.stop)
        stack.callback(box.agent.stop)
        yield agent


@contextlib.contextmanager
def api() -> Iterator[AgentsApi]:
    """Provide a neutron-server that starts now."""
    with contextlib.closing(AgentsApi(peer.default_prefix())) as made:
        yield made


def wait_alive(
    box: Sandbox, made: AgentsApi, listed: str, rows: set[str]
) -> None:
    """Wait until MADE finds ROWS and lists LISTED, all alive.

    nb_cfg has moved on: one that does not follow it is dead. It moves on
    again later, since Neutron's agent may miss one that comes as it starts.
    """

    def move_on() -> float:
        for _ in "12":
            box.ovn.sync()
        return time.monotonic()

    moved = move_on()
    wanted = dict.fromkeys({CONTROLLER, *rows}, True)
    seen: list[dict[str, bool]] = []

    def so() -> bool:
        nonlocal moved
        if time.monotonic() > moved + 2 * DOWN_S:
            moved = move_on()
        seen[:] = made.alive()
        is_listed = seen[0].get(listed) and seen[0].get(CONTROLLER)
        is_due = time.monotonic() > moved + ALIVE_S
        return bool(is_listed) and seen[1] == wanted and is_due

    try:
        wait_for(so, timeout_s=90, interval_s=0.2, what="agents")
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {seen} {registration(box)}") from None


@pytest.mark.parametrize("first", [OURS, THEIRS])
def test_both_are_alive(box, theirs: peer.NeutronAgent, first):
    """In either order of their starts; then each is started again.

    Of the two, Neutron 27 and newer list neutron-ovn-agent only.
    """
    agents = {OURS: box.agent, THEIRS: theirs}
    second = THEIRS if first == OURS else OURS
    with api() as made:
        agents[first].start()
        agents[first].wait_ready()
        wait_alive(box, made, first, {first})
        for name in (second, THEIRS, OURS):
            agents[name].stop()
            agents[name].start()
            agents[name].wait_ready()
            wait_alive(box, made, THEIRS, {OURS, THEIRS})
