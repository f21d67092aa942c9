"""What systemd gets to know, and when the watchdog is fed."""

from __future__ import annotations

import os
import socket

import pytest

from ovn_metadata.agent.monitor.notify import Heart, Manager
from ovn_metadata.agent.monitor.status import Status


@pytest.fixture
def manager(tmp_path):
    """Provide the socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end


def told(manager) -> list[str]:
    """Return the lines that MANAGER was sent."""
    lines = []
    while True:
        try:
            lines += manager.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def environment(manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), "PATH": "/bin", **more}


def test_what_names_the_manager_is_not_left_for_children(manager):
    given = environment(manager, WATCHDOG_USEC="20000000", WATCHDOG_PID="1")
    assert Manager(given).watchdog_s == 0  # pid 1's
    assert given == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("usec", "seconds"), [("20000000", 20), ("nonsense", 0), ("", 0)]
)
def test_the_interval_of_the_watchdog(manager, usec, seconds):
    pid = str(os.getpid())
    given = environment(manager, WATCHDOG_USEC=usec, WATCHDOG_PID=pid)
    assert Manager(given).watchdog_s == seconds


@pytest.mark.parametrize(
    "address", ["", "/nowhere/at/all", "@nobody-listens", "/" + "x" * 200]
)
def test_a_manager_that_is_not_there_disturbs_nothing(address):
    Manager({"NOTIFY_SOCKET": address}).send("READY=1")


def test_an_abstract_socket():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0of-test-notify-@")
        Manager({"NOTIFY_SOCKET": "@of-test-notify-@"}).send("READY=1")
        assert end.recv(99) == b"READY=1"


def test_it_is_fed_while_there_is_progress_and_ready_once(manager):
    age_s, status = 0.0, Status("1")
    heart = Heart(Manager(environment(manager)), status)
    status.expect("the service", 10, lambda: age_s)
    heart.poll()
    first = told(manager)
    assert first[0] == "WATCHDOG=1"
    assert first[1].startswith("EXTEND_TIMEOUT_USEC=")
    assert first[2:] == ["STATUS=serves 0 of 0 networks"]

    status.rows(synced=True, problems={})
    for _ in range(2):
        heart.poll()
    assert told(manager) == ["WATCHDOG=1", "READY=1", "WATCHDOG=1"]

    age_s = 11
    heart.poll()
    assert told(manager) == [
        "STATUS=OVNMD-407 the service made no progress for 11 s"
    ]
    age_s = 0
    heart.poll()
    assert told(manager) == ["WATCHDOG=1", "STATUS=serves 0 of 0 networks"]


def test_what_was_not_taken_is_sent_again(manager, monkeypatch):
    """The manager is busy: its queue is full."""
    status = Status("1")
    status.rows(synced=True, problems={})
    heart = Heart(Manager(environment(manager)), status)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "MSG_DONTWAIT", -1)  # no such flags: EINVAL
        heart.poll()
    assert told(manager) == []
    for _ in range(2):
        heart.poll()
    lines = ["WATCHDOG=1", "READY=1", "STATUS=serves 0 of 0 networks"]
    assert told(manager) == [*lines, "WATCHDOG=1"]


def test_a_start_that_hangs_is_not_given_more_time(manager):
    status = Status("1")
    status.expect("the service", 10, lambda: 11)
    heart = Heart(Manager(environment(manager)), status)
    heart.poll()
    assert not [ln for ln in told(manager) if not ln.startswith("STATUS=")]


def test_a_reason_of_two_lines_assigns_nothing_to_the_manager(manager):
    status = Status("1")
    status.note("OVNMD-406", "no such file:\nMAINPID=1")
    Heart(Manager(environment(manager)), status).poll()
    assert told(manager)[2:] == [
        "STATUS=serves 0 of 0 networks; 1 problem: OVNMD-406 no such file: "
        "MAINPID=1"
    ]


def test_a_file_whose_name_is_no_utf_8_does_not_starve_the_watchdog(manager):
    status = Status("1")
    status.note("OVNMD-406", os.fsdecode(b"/etc/x/f\xfcr.conf: bad"))
    Heart(Manager(environment(manager)), status).poll()
    fed, *_, shown = told(manager)
    assert fed == "WATCHDOG=1"
    assert shown.endswith("OVNMD-406 /etc/x/f?r.conf: bad")


def test_parts_that_hang_are_in_order(manager):
    status = Status("1")
    status.expect("b", 10, lambda: 61.4)
    status.expect("a", 5, lambda: 7.0)
    status.expect("c", 5, lambda: 4.0)
    Heart(Manager(environment(manager)), status).poll()
    assert told(manager) == [
        "STATUS=OVNMD-407 a made no progress for 7 s; "
        "b made no progress for 61 s"
    ]
