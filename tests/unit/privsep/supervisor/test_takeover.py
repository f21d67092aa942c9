"""When a predecessor is told to go, and what a gateway that fails leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from supervisor.poller import PollPoller
from supervisor.states import ProcessStates

from ovn_metadata.privsep import names
from ovn_metadata.privsep.fleet import stale
from ovn_metadata.privsep.places import Places
from ovn_metadata.privsep.supervisor import listeners, takeover
from ovn_metadata.privsep.supervisor.held import HeldSockets
from ovn_metadata.privsep.supervisor.takeover import Takeover

FOLDER = "/state/ovn-metadata-proxy"
CONFIG = f"{FOLDER}/gateway.conf"
COMMAND = f"setpriv --reuid=1 --groups=0 /usr/sbin/haproxy -db -f {CONFIG}"


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
    monkeypatch.setattr(listeners, "serves", lambda one: one.pid in pids)
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
    assert taking.sweep(FOLDER) == [names.GATEWAY]
    assert taking.end(names.GATEWAY, stale.END) == 1
    assert sent == [stale.END]


def test_one_that_does_not_go_is_ended(taking, sent, up, monkeypatch):
    up.add(1)
    times = iter(sorted([0.0, 61.0, 71.0] * 3))
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(takeover, "time", clock)
    for _ in range(3):
        taking.go_on()
    assert sent == [stale.FINISH, stale.END, signal.SIGKILL]


def test_one_that_hangs_is_killed_however_often_it_is_found(
    taking, old, sent, monkeypatch
):
    """Each pass of the agent finds it, and ends it again."""
    now = 1000.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(takeover, "time", clock)
    taking._supervisord.process_groups.clear()
    for _ in range(4):
        taking.end(names.GATEWAY, stale.END)
        now += 5.0
        taking.go_on()
    assert sent[-1] == signal.SIGKILL


def test_one_that_gets_no_signal_is_tried_again_until_it_ends(
    taking, old, up, monkeypatch
):
    """It may be somebody else's by now, or no descriptor is left."""
    tries = []

    def send(_one: stale.Stale, number: int, *_: object) -> bool:
        tries.append(number)
        return False

    up.add(1)
    monkeypatch.setattr(stale.Stale, "send", send)
    for _ in range(2):
        taking.go_on()
    assert tries == [stale.FINISH] * 2
    assert taking._stale == [old]
    monkeypatch.setattr(psutil.Process, "is_running", lambda _: False)
    taking.go_on()
    assert taking._stale == []


def test_one_that_ended_early_is_kept_for_the_pid_file(
    taking, process, up, sent, run_dir, monkeypatch
):
    """Its successor starts; the file names that when it serves."""
    monkeypatch.setattr(psutil.Process, "is_running", lambda _: False)
    taking.go_on()
    monkeypatch.setattr(stale, "scan", lambda *_: [])
    taking.sweep(FOLDER)
    assert len(taking._stale) == 1
    up.add(1)
    taking.go_on()
    assert (run_dir / "work" / "gateway.pid").read_text() == "1\n"
    assert taking._stale == []


def test_one_that_ended_is_forgotten_without_a_successor(
    taking, process, up, monkeypatch
):
    process.pid = 0
    monkeypatch.setattr(psutil.Process, "is_running", lambda _: False)
    taking.go_on()
    assert taking._stale == []


def test_one_that_cannot_be_looked_at_is_kept(taking, old, up, monkeypatch):
    """As without a free descriptor."""

    def fail(_: psutil.Process) -> bool:
        raise OSError(24, "Too many open files")

    up.add(1)
    monkeypatch.setattr(stale.Stale, "send", lambda *_: False)
    monkeypatch.setattr(psutil.Process, "is_running", fail)
    with pytest.raises(OSError, match="open files"):
        taking.go_on()
    assert taking._stale == [old]


def test_nothing_is_due_while_the_successor_does_not_run(taking, process):
    process.pid = 0
    assert not taking.is_due


def test_one_that_was_replaced_is_ours_whatever_it_says(taking, old):
    """Its command line can be overwritten; no scan finds it then."""
    child = stale.Stale(psutil.Process(), names.GATEWAY, CONFIG, is_child=True)
    assert child.is_ours(())
    taking._stale = [child]
    old.process = psutil.Process(1)
    taking.sweep(FOLDER)
    assert taking._stale == [old, child]


def test_what_is_replaced_leaves_no_number_to_poll(taking, process):
    """They are used again before the next poll finds them closed."""
    reader, writer = os.pipe()
    os.close(writer)
    options = taking._supervisord.options
    options.poller, options.pidhistory = PollPoller(None), {}
    options.poller.register_readable(reader)
    options.close_parent_pipes = lambda _: os.close(reader)
    process.pid, process.pipes = os.getpid(), {}
    process.dispatchers = {reader: None, reader + 1: None}
    taking.adopt(process, kill=False)
    again = os.pipe()
    try:
        assert again[0] == reader
        assert options.poller.poll(0) == ([], [])
        assert options.poller.readables == set()
    finally:
        for number in again:
            os.close(number)


def test_one_is_killed_even_if_it_has_left_its_group(
    taking, process, monkeypatch
):
    """One that was broken into may do that."""
    killed = []

    def no_group(*_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", lambda *one: killed.append(one))
    monkeypatch.setattr(os, "killpg", no_group)
    options = taking._supervisord.options
    options.poller, options.pidhistory = PollPoller(None), {}
    options.close_parent_pipes = lambda _: None
    process.pid, process.pipes, process.dispatchers = os.getpid(), {}, {}
    taking.adopt(process, kill=True)
    assert killed == [(os.getpid(), signal.SIGKILL)]
    assert not any(o.finishing_since is None for o in taking._stale[1:])


# ------------------------------------------------- a gateway that fails


@pytest.fixture
def path(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return tmp_path / "gateway.sock"


@pytest.fixture
def held(path, taking) -> HeldSockets:
    return HeldSockets(path, taking)


def test_what_it_borrows_is_the_same_socket_and_never_blocks(
    held, process, path, monkeypatch
):
    """All haproxies that have it accept from it, and one is the fastest."""
    with listeners.UnixListener(path, 0).make() as theirs:
        # In functional/test_listeners.py a child does this.
        monkeypatch.setattr(listeners, "borrow", lambda *_: theirs.dup())
        monkeypatch.setattr(stale.Stale, "is_placed_by_root", lambda _: True)
        made = path.stat().st_ino
        held.start(SimpleNamespace(process=process))
        assert path.stat().st_ino == made
        assert not os.get_blocking(theirs.fileno())
    assert held.are_in_order(process.config)


def test_another_users_is_asked_for_no_descriptor(held, process, monkeypatch):
    """Those who ask one with a file of FUSE may hang."""
    asked = []

    monkeypatch.setattr(listeners, "borrow", lambda *_: asked.append(1))
    # This process looks like the gateway, but was not started as one.
    held.start(SimpleNamespace(process=process))
    assert asked == []
    held.close(names.GATEWAY)


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


def test_why_there_are_no_sockets_is_kept_with_the_remedy(
    held, process, monkeypatch
):
    def no_descriptor(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(held, "_ensure", no_descriptor)
        with pytest.raises(OSError, match="sockets of gateway"):
            held.start(SimpleNamespace(process=process))
    reason = "Too many open files; raise LimitNOFILE of its unit"
    assert held.refused == {names.GATEWAY: reason}
    held.start(SimpleNamespace(process=process))
    assert held.refused == {}


@dataclasses.dataclass(frozen=True)
class Pretended:
    """Wants sockets of FAMILY; those that are taken can't be made."""

    family: int
    is_taken: bool = dataclasses.field(default=False, compare=False)

    def works(self, _found: socket.socket) -> bool:
        return not self.is_taken

    def make(self) -> socket.socket:
        if self.is_taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return socket.socket(self.family)

    def adopt(self, found: socket.socket) -> None:
        """They are ours."""


SIX, FOUR = socket.AF_INET6, socket.AF_INET


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        pytest.param(FOUR, [], id="the first: haproxy would take the other"),
        pytest.param(SIX, [FOUR], id="the second: IPv4 is served"),
    ],
)
def test_no_socket_gets_the_number_of_another_one(
    held, process, sent, monkeypatch, taken, left
):
    """The haproxy that runs was broken into, and has its address."""
    wanted = [Pretended(FOUR), Pretended(SIX)]
    given = contextlib.nullcontext(wanted)
    monkeypatch.setattr(held, "_wanted", lambda _: given)
    monkeypatch.setattr(held, "_borrow", lambda *_: None)
    held.start(SimpleNamespace(process=process))
    kept = held._held[names.GATEWAY]
    assert [one.family for one in kept] == [FOUR, SIX]
    for number, one in enumerate(wanted):
        wanted[number] = Pretended(one.family, is_taken=one.family == taken)
    with pytest.raises(OSError, match="already in use"):
        held.start(SimpleNamespace(process=process))
    kept = held._held[names.GATEWAY]
    assert [one.family for one in kept] == left
    assert sent == [stale.FINISH]
    wanted[:] = [Pretended(FOUR), Pretended(SIX)]
    held.start(SimpleNamespace(process=process))
    assert [one.family for one in kept] == [FOUR, SIX]
    held.close(names.GATEWAY)


def test_a_name_that_is_not_ours_stays(held, process, path, old):
    """No descriptor was left to make one, and somebody else has it."""
    old.finishing_since = 0.0
    path.touch()
    process.backoff = 2
    held.fail(SimpleNamespace(process=process))
    assert path.exists()
