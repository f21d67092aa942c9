"""What supervisord's extension asks of the system when it is loaded."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from supervisor import events
from supervisor.loggers import LevelsByName, getLogger
from supervisor.options import ServerOptions, UnhosedConfigParser
from supervisor.states import ProcessStates, SupervisorStates
from supervisor.xmlrpc import Faults, RPCError, traverse

from ovn_metadata.privsep import names
from ovn_metadata.privsep.fleet import stale
from ovn_metadata.privsep.supervisor import extension, listeners
from ovn_metadata.privsep.supervisor.held import HeldSockets

_FILES = resource.RLIMIT_NOFILE
NAME = names.program_name(names.GATEWAY)


@pytest.fixture
def hard() -> Iterator[int]:
    """Have few descriptors; give how many there may be."""
    before = resource.getrlimit(_FILES)
    resource.setrlimit(_FILES, (1024, before[1]))
    yield before[1]
    resource.setrlimit(_FILES, before)


def test_supervisord_may_open_as_much_as_its_unit_lets_it(hard):
    """Five descriptors for each network; the agent starts it with few."""
    extension._allow_descriptors()
    wanted = 65535 if hard == resource.RLIM_INFINITY else min(hard, 65535)
    assert resource.getrlimit(_FILES) == (wanted, hard)


def test_what_it_may_open_is_not_made_less(hard):
    resource.setrlimit(_FILES, (hard, hard))
    extension._allow_descriptors()
    assert resource.getrlimit(_FILES) == (hard, hard)


def test_states_of_hundreds_of_programs_are_a_short_answer():
    """Its supervisord sends 4 kB, looks at all programs, and so on."""
    groups = {}
    for number in range(200):
        name = names.program_name(str(uuid.UUID(int=number)))
        process = SimpleNamespace(
            config=SimpleNamespace(name=name),
            get_state=lambda: ProcessStates.RUNNING,
            pid=4_000_000,
            laststart=1_800_000_000.7,
        )
        groups[name] = SimpleNamespace(processes={name: process})
    fleet = object.__new__(extension.FleetInterface)
    fleet._supervisord = SimpleNamespace(process_groups=groups)
    answer = fleet.programs()
    last = names.program_name(str(uuid.UUID(int=199)))
    assert answer.splitlines()[-1] == f"{last} RUNNING 4000000 1800000000"
    assert len(answer) < 200 * 100


PROGRAM = """
[program:haproxy-gateway]
command=/bin/true
redirect_stderr=true
stdout_logfile={}/its.log
"""


@pytest.fixture
def process(tmp_path, monkeypatch) -> Iterator[Any]:
    """Give one of supervisord's, which can't be forked."""
    options = ServerOptions()
    (tmp_path / "logs").mkdir()
    options.loglevel = LevelsByName.CRIT
    options.logger = getLogger(options.loglevel)

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "")

    monkeypatch.setattr(options, "fork", fork)
    parser = UnhosedConfigParser()
    parser.read_string(PROGRAM.format(tmp_path / "logs"))
    (group,) = options.process_groups_from_parser(parser)
    fleet: Any = object.__new__(extension.FleetInterface)
    fleet._supervisord = SimpleNamespace(options=options)
    fleet._held = SimpleNamespace(
        start=lambda _: None, fail=lambda _: None, stop=lambda _: None
    )
    fleet._log = SimpleNamespace(close=lambda _: None)
    fleet._subscribe()
    yield group.process_configs[0].make_process(group)
    events.clear()
    options.logger.close()


@pytest.mark.parametrize("has_log", [True, False])
def test_what_cannot_be_started_leaves_nothing_open(
    process, tmp_path, has_log
):
    """Of a closed descriptor supervisord would read what has its number."""
    if not has_log:
        (tmp_path / "logs").rmdir()
    gc.collect()
    before = {*Path("/proc/self/fd").iterdir()}
    for _ in range(3):
        process.spawn()
        assert process.get_state() == ProcessStates.BACKOFF
        assert process.dispatchers == {}
    gc.collect()
    assert {*Path("/proc/self/fd").iterdir()} == before


def process_in(state: str, pid: int, age_s: float = 0.0) -> SimpleNamespace:
    """Return a process of supervisord's in STATE, started AGE_S ago."""
    return SimpleNamespace(
        get_state=lambda: getattr(ProcessStates, state),
        pid=pid,
        config=SimpleNamespace(name="haproxy-x", command="haproxy"),
        began=time.monotonic() - age_s,
    )


@pytest.mark.parametrize(
    ("state", "pid", "serves", "said"),
    [
        pytest.param("RUNNING", 7, True, "", id="in another namespace"),
        pytest.param("STARTING", 7, False, "STARTING", id="not in it yet"),
        pytest.param("RUNNING", 7, False, "STARTING", id="not after 1 s"),
        pytest.param("STOPPING", 7, True, "", id="somebody stops it"),
        pytest.param("BACKOFF", 0, False, "BACKOFF", id="waits for a try"),
        pytest.param("FATAL", 0, False, "", id="supervisord gave up"),
        pytest.param("STOPPED", 0, False, "", id="somebody has stopped it"),
    ],
)
def test_what_has_to_be_started_has_no_state(
    monkeypatch, state, pid, serves, said
):
    monkeypatch.setattr(listeners, "serves", lambda _: serves)
    monkeypatch.setattr(stale, "is_in_namespace", lambda *_: False)
    process = process_in(state, pid)
    group = SimpleNamespace(processes={"x": process})
    fleet = object.__new__(extension.FleetInterface)
    fleet._supervisord = SimpleNamespace(process_groups={"x": group})
    written = SimpleNamespace(process_configs=[process.config])
    monkeypatch.setattr(fleet, "_read", lambda _: written)
    held: Any = SimpleNamespace(
        refused=(), are_in_order=lambda _: True, are_as_tried=lambda _: True
    )
    fleet._held = held
    assert fleet.state("x") == said
    assert fleet.state("unknown") == ""
    # As when its namespace had no veth yet at the last try: once this has
    # been asked, clients come, and those by IPv6 would be refused.
    held.are_in_order = held.are_as_tried = lambda _: False
    assert fleet.state("x") == ""


def test_a_try_without_a_veth_is_not_the_one_that_is_wanted(monkeypatch):
    """It had no socket for IPv6."""
    held: Any = object.__new__(HeldSockets)
    now = listeners.of_network(str(uuid.uuid4()), 7)
    process = SimpleNamespace(wanted=now, config=None)
    monkeypatch.setattr(held, "_wanted", lambda _: contextlib.nullcontext(now))
    assert held.are_as_tried(process)
    v6 = listeners.TcpListener(socket.AF_INET6, ("::1", 80, 0, 3), 7)
    now = [*now, v6]
    assert not held.are_as_tried(process)

    def no_namespace(_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(held, "_wanted", no_namespace)
    assert not held.are_as_tried(process)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (("state", "x"), "_is_in_order"),
        (("start", "x", False), "_read"),
        (("end", "x", "/"), "_drop"),
        (("sweep", "/"), "_takeover"),
    ],
    ids=["state", "start", "end", "sweep"],
)
def test_what_the_system_refuses_has_a_reason(monkeypatch, call, part):
    fleet: Any = object.__new__(extension.FleetInterface)
    group = SimpleNamespace(processes={"x": process_in("RUNNING", 7)})
    options = SimpleNamespace(mood=SupervisorStates.RUNNING)
    fleet._supervisord = SimpleNamespace(
        process_groups={"x": group}, options=options
    )

    def no_descriptor(*_args: object, **_named: object) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    no_descriptor.sweep = no_descriptor  # type: ignore[attr-defined]
    monkeypatch.setattr(fleet, part, no_descriptor, raising=False)
    name, *arguments = call
    with pytest.raises(RPCError, match="Too many open files; raise "):
        # As supervisord finds it: only a method is a call.
        traverse(SimpleNamespace(fleet=fleet), f"fleet.{name}", arguments)


@pytest.mark.parametrize(
    ("state", "age_s", "kernels", "said"),
    [
        pytest.param("STARTING", 0.2, "serves", "RUNNING", id="it is quick"),
        pytest.param("RUNNING", 2.0, "sleeping", "STARTING", id="it is slow"),
        pytest.param("RUNNING", 31, "sleeping", "RUNNING", id="it never will"),
        pytest.param("RUNNING", 31, "stopped", "RUNNING", id="it is stopped"),
        pytest.param("RUNNING", 31, "running", "STARTING", id="a slow host"),
        pytest.param("RUNNING", 31, "disk-sleep", "STARTING", id="slow disk"),
    ],
)
def test_one_runs_when_it_has_come_up(
    monkeypatch, state, age_s, kernels, said
):
    """Not after a second, as for supervisord."""
    monkeypatch.setattr(listeners, "serves", lambda _: kernels == "serves")
    there = SimpleNamespace(status=lambda: kernels)
    monkeypatch.setattr(psutil, "Process", lambda _: there)
    process = process_in(state, 7, age_s)
    assert extension._state(process) == said


def test_nothing_is_started_while_supervisord_ends():
    fleet = object.__new__(extension.FleetInterface)
    options = SimpleNamespace(mood=SupervisorStates.SHUTDOWN)
    fleet._supervisord = SimpleNamespace(options=options)
    with pytest.raises(RPCError) as refused:
        fleet.start("x", kill=False)
    assert refused.value.code == Faults.SHUTDOWN_STATE


def test_what_is_ended_is_known_no_more():
    fleet = object.__new__(extension.FleetInterface)
    process = process_in("RUNNING", 7)
    group = SimpleNamespace(processes={"x": process})
    fleet._supervisord = SimpleNamespace(process_groups={NAME: group})
    done: list[Any] = []
    takeover: Any = SimpleNamespace(
        adopt=lambda one, *, kill: done.append((one, kill)),
        end=lambda _network, _number: 0,
        folders=set(),
    )
    held: Any = SimpleNamespace(close=done.append)
    fleet._takeover, fleet._held = takeover, held
    assert fleet.end(NAME, "/old")
    assert done == [(process, False), names.GATEWAY]
    assert takeover.folders == {"/old"}
    assert not fleet.end(NAME, "/old")
