"""What the polls of supervisord showed."""

from __future__ import annotations

import os
import time

from ovn_metadata.agent.monitor.fleet import Fleet

A, B = "net-a", "net-b"


def program(pid: int, state: str = "RUNNING") -> dict[str, object]:
    return {"state": state, "pid": pid, "start": 1000 + pid}


def test_before_the_first_poll(tmp_path):
    fleet = Fleet(tmp_path / "absent")
    assert fleet.as_dict()["polled"] is None
    assert fleet.of(A)["state"] == "unknown"


def test_restarts_are_counted(tmp_path):
    fleet = Fleet(tmp_path / "absent")
    for pid in (7, 7, 0, 8, 9):
        fleet.note({A: program(pid, "RUNNING" if pid else "BACKOFF")})
    assert fleet.of(A) == {
        "state": "running",
        "pid": 9,
        "since": 1009,
        "restarts": 2,
    }
    fleet.note({B: program(3)})
    assert fleet.of(A)["pid"] == 0


def test_supervisord_is_found_by_its_file(tmp_path):
    file = tmp_path / "supervisord.pid"
    fleet = Fleet(file)
    file.write_text(f"{os.getpid()}\n")
    fleet.note({})
    found = fleet.as_dict()["supervisord"]
    assert (found["pid"], found["state"]) == (os.getpid(), "running")
    assert 0 < found["since"] <= time.time() + 1
    for text in ("", "x\n", "999999999\n"):
        file.write_text(text)
        fleet.note({})
        found = fleet.as_dict()["supervisord"]
        assert (found["pid"], found["state"]) == (0, "running")
