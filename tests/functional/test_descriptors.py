"""Few file descriptors: fewer connections at a time, and a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, Sandbox, wait_for
from sandbox.case import ready, wait_served
from sandbox.processes import processes

WARNING = re.compile(r"the gateway takes (\d+) connections instead of 8192,")


def limited(number: int, *command: str) -> tuple[str, ...]:
    return ("prlimit", f"--nofile={number}:{number}", *command)


@pytest.fixture(scope="module", params=[1024, 16384])
def few(request, host) -> Iterator[tuple[Sandbox, int]]:
    """Provide a host whose programs may open only so many descriptors."""
    box = host.sandbox()
    daemon = box.agent._daemon
    limit = f"--nofile=1024:{request.param}"  # supervisord raises the first
    daemon.command = ("prlimit", limit, *daemon.command)
    yield ready(box), request.param
    host.clear()


@pytest.fixture(scope="module")
def instance(few) -> Instance:
    box, _ = few
    port = box.neutron.create_port(box.neutron.create_network("n"))
    (instance,) = box.plug([port])
    wait_served(instance)
    return instance


def test_all_is_served_and_the_limit_is_reported(few, instance):
    box, number = few
    said = wait_for(
        lambda: WARNING.search(box.agent.status().stdout),
        timeout_s=60,
        what="the warning in agent-status",
    )
    assert number / 2 - 100 < int(said[1]) < number / 2
    wait_for(
        lambda: box.agent.status().returncode == 5,
        timeout_s=60,
        what="agent-status that tells of a problem, and all is served",
    )
    assert box.agent.log().count("too few file descriptors") == 1


def test_supervisord_uses_what_it_may(few, instance):
    _, number = few
    (supervisord,) = processes("supervisord")
    limits = Path(f"/proc/{supervisord.pid}/limits").read_text()
    (line,) = [each for each in limits.splitlines() if "open files" in each]
    assert line.split()[3:5] == [str(number)] * 2


@pytest.mark.parametrize(
    "program", ["ovn-metadata-agent", "ovn-metadata-fleet"]
)
def test_check_warns(few, program: str):
    box, number = few
    command = [str(Path(sys.prefix) / "bin" / program), "--check"]
    if program == "ovn-metadata-agent":
        command += box.agent.config_arguments()
    for limit, says in ((number, True), (20_000, False)):
        done = subprocess.run(
            limited(limit, *command),
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        word = f"{program}: warning: at most {limit} file descriptors here:"
        assert (word in done.stderr) is says, done.stderr
