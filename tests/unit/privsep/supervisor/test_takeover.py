"""When a predecessor is told to go, and what a gateway that fails leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from supervisor.states import ProcessStates

from ovn_metadata.privsep import names
from ovn_metadata.privsep.fleet import stale
from ovn_metadata.privsep.places import Places
from ovn_metadata.privsep.supervisor import listeners, takeover
from ovn_metadata.privsep.supervisor.held import HeldSockets
from ovn_metadata.privsep.supervisor.programs import Program
from ovn_metadata.privsep.supervisor.takeover import Takeover

HAPROXY = "/usr/sbin/haproxy"
FOLDER = "/state/ovn-metadata-proxy"
CONFIG = f"{FOLDER}/gateway.conf"
COMMAND = (
    f"setpriv --reuid=1 --groups=0 --inh-caps=-all {HAPROXY} -db -f {CONFIG}"
)


@pytest.fixture
def process() -> Any:
    """Supervisord's process of the gateway, which runs."""
    return SimpleNamespace(
        pid=1,
        backoff=0,
        delay=7.0,
        get_state=lambda: ProcessStates.RUNNING,
        config=SimpleNamespace(
            name=names.program_name(names.GATEWAY),
            command=COMMAND,
            environment={},
        ),
    )


@pytest.fixture
def old(monkeypatch) -> stale.Stale:
    """Have the gateway of an earlier supervisord there."""
    one = stale.Stale(psutil.Process(), names.GATEWAY, CONFIG)
    monkeypatch.setattr(stale, "scan", lambda *_: [one])
    monkeypatch.setattr(stale.Stale, "is_ours", lambda *_: True)
    return one


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Collect what is sent to predecessors."""
    numbers: list[int] = []

    def send(one: stale.Stale, number: int, *_: object) -> bool:
        numbers.append(number)
        one.signalled = number
        return True

    monkeypatch.setattr(stale.Stale, "send", send)
    return numbers


@pytest.fixture
def up(monkeypatch) -> set[int]:
    """Which of supervisord's haproxies have come up."""
    pids: set[int] = set()
    monkeypatch.setattr(listeners, "has_come_up", lambda pid, **_: pid in pids)
    return pids


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


@pytest.fixture
def taking(old, process, run_dir) -> Takeover:
    group = SimpleNamespace(processes={"gateway": process})
    supervisord: Any = SimpleNamespace(
        process_groups={process.config.name: group},
        options=SimpleNamespace(
            logger=SimpleNamespace(info=lambda *_, **__: None)
        ),
    )
    return Takeover(supervisord, Places(run_dir))


@pytest.mark.parametrize(
    "state", [ProcessStates.STARTING, ProcessStates.RUNNING]
)
def test_the_old_one_goes_when_the_new_one_has_come_up(
    taking, process, sent, up, state, run_dir
):
    """And its PID file names the new one only then."""
    pid_file = run_dir / "work" / "gateway.pid"
    process.get_state = lambda: state
    taking.go_on()
    assert sent == []
    assert taking.is_due
    assert not pid_file.exists()
    up.add(1)
    for _ in range(2):
        taking.go_on()
        assert sent == [stale.FINISH]
        assert not taking.is_due
        assert pid_file.read_text() == "1\n"


def test_nothing_is_due_for_one_that_has_no_successor(taking, sent, up):
    up.add(1)
    taking._supervisord.process_groups.clear()
    taking.go_on()
    assert sent == []
    assert not taking.is_due
    assert taking.sweep([FOLDER], HAPROXY) == [names.GATEWAY]
    assert taking.end(names.GATEWAY, HAPROXY, stale.END) == 1
    assert sent == [stale.END]


def test_one_that_does_not_go_is_ended(taking, sent, up, monkeypatch):
    up.add(1)
    times = iter(sorted([0.0, 61.0, 71.0] * 3))
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(takeover, "time", clock)
    for _ in range(3):
        taking.go_on()
    assert sent == [stale.FINISH, stale.END, signal.SIGKILL]


def test_one_that_is_somebody_elses_by_now_is_forgotten(
    taking, up, monkeypatch
):
    up.add(1)
    monkeypatch.setattr(stale.Stale, "send", lambda *_: False)
    taking.go_on()
    assert taking._stale == []


# ------------------------------------------------- a gateway that fails


@pytest.fixture
def path(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return tmp_path / "gateway.sock"


@pytest.fixture
def held(path, taking) -> HeldSockets:
    return HeldSockets(path, taking)


def test_what_it_borrows_is_the_same_socket_and_never_blocks(
    held, process, path
):
    """All haproxies that have it accept from it, and one is the fastest."""
    with listeners.UnixListener(path, 0).make() as theirs:
        theirs.settimeout(0)
        made = path.stat().st_ino
        held.start(SimpleNamespace(process=process))
        assert path.stat().st_ino == made
        assert not os.get_blocking(theirs.fileno())
    assert held.are_in_order(Program.of(process.config))


def test_its_name_stays_while_the_one_before_serves(held, process, path):
    held.start(SimpleNamespace(process=process))
    for process.backoff in (1, 2, 0):
        held.fail(SimpleNamespace(process=process))
        assert path.exists()


def test_it_is_started_at_once_the_first_time_and_has_no_name_after_that(
    held, process, path, old
):
    old.finishing_since = 0.0
    held.start(SimpleNamespace(process=process))
    made = path.stat().st_ino
    process.backoff = 1
    held.fail(SimpleNamespace(process=process))
    assert process.delay == 0
    held.start(SimpleNamespace(process=process))
    assert path.stat().st_ino == made
    process.backoff, process.delay = 2, 7.0
    held.fail(SimpleNamespace(process=process))
    assert process.delay == 7.0
    assert not path.exists()


def test_a_name_that_is_not_ours_stays(held, process, path, old):
    """No descriptor was left to make one, and somebody else has it."""
    old.finishing_since = 0.0
    path.touch()
    process.backoff = 2
    held.fail(SimpleNamespace(process=process))
    assert path.exists()
