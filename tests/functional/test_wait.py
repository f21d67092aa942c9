"""`agent-status --wait` ends as soon as what it names is served."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovn_metadata.agent.commands.client import (
    ABSENT,
    NO_ANSWER,
    NOT_READY,
    OK,
)
from sandbox import Sandbox, holds, wait_for
from sandbox.agent import SPARE, Agent
from sandbox.case import Case, is_served
from sandbox.sockets import STATUS_SOCKET

_CONNECTED = "03"  # /proc/net/unix
FREE_PORT = 6699  # nobody listens there in a sandbox
WAITS_S = 300  # the usual minute may not do for several starts of the agent
TRIES = 3
# Of a request that has to be answered at once, on a busy machine.
PATIENCE_S = 30.0


class Wait:
    """`agent-status --wait` with ARGS, running."""

    def __init__(self, *args: str) -> None:
        command = Path(sys.prefix, "bin", "agent-status")
        if "--timeout" not in args:
            args += ("--timeout", str(WAITS_S))
        self._process = subprocess.Popen(
            (command, *Agent.config_arguments(), "--wait", *args),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def runs(self) -> bool:
        """Whether it still waits."""
        return self._process.poll() is None

    def result(self, timeout_s: float = WAITS_S + 60) -> tuple[int, str]:
        """Return its exit code and its one line."""
        out, err = self._process.communicate(timeout=timeout_s)
        (line,) = (out + err).splitlines()
        return self._process.returncode, line

    def close(self) -> None:
        """End it, if it still waits."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def waiting(*args: str) -> Iterator[Wait]:
    """Start to wait."""
    with contextlib.closing(Wait(*args)) as made:
        yield made


def wait_asked(count: int = 1) -> None:
    """Wait until COUNT clients are connected to the agent."""

    def connected() -> bool:
        rows = [line.split() for line in open("/proc/net/unix")]  # noqa: SIM115
        ours = [row for row in rows if row[-1] == str(STATUS_SOCKET)]
        return sum(row[5] == _CONNECTED for row in ours) == count

    wait_for(connected, timeout_s=60, what="question to the agent")


def test_ctrl_c_ends_it_without_a_word(tmp_path: Path):
    command, place = Path(sys.prefix, "bin", "agent-status"), tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(place))
        agent.listen()
        agent.settimeout(PATIENCE_S)
        process = subprocess.Popen(
            (command, "--socket", place, "--wait"), stderr=subprocess.PIPE
        )
        with agent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")


def test_it_ends_within_a_second_of_the_first_answer(box: Sandbox, case: Case):
    """Each was started before the port was plugged.

    On a busy machine, once of some times.
    """
    assert holds(lambda: delay_s(case) < 3)
    with waiting() as everything:
        assert everything.result() == (OK, "every network is served")


def delay_s(case: Case) -> float:
    """Return how long after a new network's first answer both waits end."""
    port = case.box.neutron.create_port(case.network(), name="first")
    with (
        waiting("--instance", port.device_id) as instance,
        waiting("--network", port.network.id) as network,
    ):
        wait_asked(2)
        (plugged,) = case.box.plug([port], wait=False)
        wait_for(
            lambda: is_served(plugged, timeout_s=0.5),
            timeout_s=60,
            what="first answer",
        )
        answered_at = time.monotonic()
        assert instance.result() == (
            OK,
            f"instance {port.device_id} is served",
        )
        assert network.result() == (
            OK,
            f"network {port.network.id} is served",
        )
        return time.monotonic() - answered_at


def test_another_instance_of_a_network_is_waited_for(box: Sandbox, case: Case):
    """It is not enough that the network is served."""
    network = case.network()
    case.instance(network)
    port = box.neutron.create_port(network, name="second")
    with waiting("--instance", port.device_id) as wait:
        wait_asked()
        with waiting("--network", network.id) as known:
            assert known.result()[0] == OK
        assert wait.runs
        (plugged,) = box.plug([port])
        assert wait.result()[0] == OK
        assert is_served(plugged, timeout_s=PATIENCE_S)  # and not only soon
        box.unplug([plugged])

        def absent() -> bool:
            with waiting(
                "--instance", port.device_id, "--timeout", "0"
            ) as again:
                return again.result()[0] == ABSENT

        wait_for(absent, timeout_s=60, what="an instance that is gone")


def test_what_is_not_here_is_waited_for_in_vain(box: Sandbox):
    """For as long as was allowed, and with a code of its own.

    An agent that needs a second more for its answer does not answer: then
    once more.
    """
    unknown = str(uuid.uuid4())
    for _ in range(TRIES):
        began = time.monotonic()
        with waiting("--network", unknown, "--timeout", "1.5") as wait:
            said = wait.result()
        took_s = time.monotonic() - began
        if said[0] == ABSENT and took_s < 10:
            break
    assert said == (
        ABSENT,
        f"network {unknown} is not served after 1.5 s: the agent is ready "
        f"and has no such port on this host",
    )
    assert 1.5 <= took_s < 10


def test_the_agent_comes_later_and_again(own_box: Sandbox):
    """Stopped, killed: whoever waits is answered by the next one."""
    agent = own_box.agent
    agent.configure()
    port = own_box.neutron.create_port(own_box.neutron.create_network("n1"))
    with waiting("--timeout", "0.3") as wait:
        code, line = wait.result()
        assert code == NO_ANSWER
        assert "the agent does not answer: " in line
    with waiting() as everything, waiting("--network", port.network.id) as one:
        agent.start()
        assert everything.result() == (OK, "every network is served")
        wait_asked()
        agent.kill9()
        agent.start()
        wait_asked()
        agent.stop()
        own_box.plug([port])
        assert one.runs
        agent.start()
        assert one.result()[0] == OK


def test_an_instance_is_served_before_its_port_is_plugged(own_box: Sandbox):
    """OVN knows which chassis is requested for it, and that is enough."""
    own_box.agent.configure(SPARE)
    own_box.agent.start()
    network = own_box.neutron.create_network("n1")
    port = own_box.neutron.create_port(network)
    with waiting("--instance", port.device_id) as wait:
        assert wait.result() == (OK, f"instance {port.device_id} is served")
    (plugged,) = own_box.plug([port])
    assert is_served(plugged, timeout_s=PATIENCE_S)


@pytest.mark.parametrize(
    "what", [(), ("--instance", "0b6a6c1e-6d1d-4c0c-a6ab-d1e5b5f8c1c5")]
)
def test_an_agent_without_its_database_is_not_ready(own_box: Sandbox, what):
    """And the line says what it waits for."""
    remote = f"tcp:127.0.0.1:{FREE_PORT}"
    own_box.agent.configure({("ovn", "ovn_sb_connection"): remote})
    own_box.agent.start()

    def named() -> bool:
        with waiting("--timeout", "1", *what) as wait:
            code, line = wait.result()
        return code == NOT_READY and remote in line

    wait_for(named, timeout_s=60, what="the database in its line")
