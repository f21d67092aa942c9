"""Signals that nobody should send end nothing; SIGUSR2 gets a report."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox import Instance, Sandbox, wait_for
from sandbox.agent import Mark
from sandbox.case import Case, wait_served
from sandbox.hoststate import haproxies
from sandbox.nova import SECRET
from sandbox.processes import processes, send_signal
from sandbox.sockets import network_status

STRAY = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def pids(*kinds: str) -> dict[int, str]:
    return {each.pid: each.kind for each in processes(*kinds)}


def needed(box: Sandbox, instance: Instance) -> set[int]:
    """Return the processes that INSTANCE needs.

    Not those of a network that an earlier test left, which may end at any
    time.
    """
    return {
        *pids("agent", "privsep", "supervisord"),
        *haproxies(box, instance.port.network.id),
        *haproxies(box, "gateway"),
    }


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("agent", STRAY),
        ("privsep", (*STRAY, signal.SIGQUIT)),
        ("supervisord", (*STRAY, signal.SIGHUP)),
    ],
)
def test_a_stray_signal_ends_nothing(
    box: Sandbox, case: Case, kind: str, numbers: tuple[int, ...]
):
    instance = case.instance(case.network("signals"))
    before = needed(box, instance)
    assert pids(kind)
    for number in numbers:
        for pid in pids(kind):
            send_signal(pid, number)
    # A new network needs them all.
    later = case.instance(case.network("later", "10.20.0.0/24"))
    wait_served(instance, later)
    assert before <= needed(box, instance)


@pytest.mark.parametrize(
    ("kind", "function"),
    [("agent", "_serve"), ("privsep", "loop")],
)
def test_a_report_has_the_stacks_of_all_threads(
    box: Sandbox, kind: str, function: str
):
    mark = box.agent.mark()
    (process,) = processes(kind)
    send_signal(process.pid, signal.SIGUSR2)
    wait_for(
        lambda: f"in {function}" in box.agent.log(mark),
        timeout_s=60,
        what=f"the stack of {kind}",
    )
    assert "Thread 0x" in box.agent.log(mark)


# Its threads begin and end while their stacks are printed.
BUSY = """
import threading
from ovn_metadata.privsep.signals import survive

def work():
    while True:
        one = threading.Thread(target=lambda: None)
        one.start()
        one.join()

survive()
print("ready", flush=True)
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
threading.Event().wait()
"""


def test_a_report_of_threads_that_come_and_go_ends_nothing(tmp_path: Path):
    """The interpreter's own reads a stack that changes, and may crash."""
    with (
        tmp_path.joinpath("stacks").open("w+b") as stacks,
        subprocess.Popen(
            (sys.executable, "-c", BUSY),
            stdout=subprocess.PIPE,
            stderr=stacks,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            process.stdout.readline()
            end = time.monotonic() + 5
            while time.monotonic() < end and process.poll() is None:
                process.send_signal(signal.SIGUSR2)
            assert process.poll() is None
        finally:
            process.kill()
        stacks.seek(0)
        assert stacks.read().count(b"in work\n") > 100


def wait_reported(box: Sandbox, mark: Mark, word: str) -> str:
    """Return what was logged since MARK, once a report with WORD ends there.

    One that a test before has asked for may end after MARK, too.
    """

    def reported() -> str:
        said = box.agent.log(mark)
        is_over = re.search(r"report: }$", said.partition(word)[2], re.M)
        return said if is_over else ""

    return wait_for(reported, timeout_s=60, what="the end of the report")


def test_the_agents_report_has_no_secret(box: Sandbox, case: Case):
    """Nor a signature; and it has what one asks for first."""
    instance = case.instance(case.network("reported"))
    network_status(instance.port.network.id)  # it has it a moment later
    mark = box.agent.mark()
    (process,) = processes("agent")
    send_signal(process.pid, signal.SIGUSR2)
    said = wait_reported(box, mark, f'"{instance.port.network.id}": {{')
    for section in ("Package", "Threads", "Processes", "Configuration"):
        assert re.search(rf"report: ====\s+{section}\s+====", said)
    assert re.search(r"report: +metadata.proxy.shared.secret = \*\*\*", said)
    assert SECRET not in said
    assert box.nova.signature(instance.instance_id) not in said
    assert instance.port.network.id in said
    wait_served(instance)


def test_quit_stops_the_agent_as_term_does(own_box: Sandbox):
    own_box.agent.start()
    own_box.agent.wait_ready()
    haproxies = pids("haproxy")
    send_signal(own_box.agent.pid, signal.SIGQUIT)
    own_box.agent._daemon.wait()
    assert "ends; the networks are still served" in own_box.agent.log()
    assert pids("haproxy") == haproxies


def test_the_agent_starts_without_a_stderr():
    """As some init scripts start it: a fault can then not be printed."""
    program = Path(sys.prefix, "bin", "ovn-metadata-agent")
    command = ("sh", "-c", f"exec {program} --help 2>&-")
    assert (
        "usage:"
        in subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        ).stdout
    )
