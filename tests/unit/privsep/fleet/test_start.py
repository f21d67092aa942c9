"""Which folder the fleet takes for its own; who waits for its start."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from ovn_metadata.privsep import kernel
from ovn_metadata.privsep.errors import SettingsError
from ovn_metadata.privsep.fleet import program, start
from ovn_metadata.privsep.settings import FleetSettings


def settings(run_dir: Path) -> FleetSettings:
    return FleetSettings("/h", "nobody", 1, 1, run_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes folders of root's")
@pytest.mark.parametrize("left", ["agent.lock", "supervisord.sock"])
def test_a_folder_with_files_of_ours_alone_is_taken(tmp_path, left):
    """An agent was started while ovn-metadata-cleanup removed the rest."""
    (tmp_path / left).touch()
    start.ensure_folders(settings(tmp_path))
    assert settings(tmp_path).places.programs.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes folders of root's")
def test_folders_that_were_removed_are_made_while_supervisord_runs(tmp_path):
    for left in ("supervisord.sock", "supervisord.conf", "gateway.sock"):
        (tmp_path / left).touch()
    start.ensure_folders(settings(tmp_path))
    assert settings(tmp_path).places.programs.is_dir()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "agent.lock").touch()
    (tmp_path / "sshd.pid").touch()
    with pytest.raises(SettingsError, match=r"sshd\.pid"):
        start.ensure_folders(settings(tmp_path))
    assert not settings(tmp_path).places.programs.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes folders of root's")
@pytest.mark.parametrize(
    "garbage", [b"garbage", b"[program:x", b"\xff", b"command=x\n[program:x]"]
)
def test_garbage_keeps_supervisord_from_no_start(tmp_path, caplog, garbage):
    fleet = settings(tmp_path)
    start.write_configuration(fleet)
    good, bad = fleet.places.program("gateway"), fleet.places.program("x")
    good.write_text(program.render_program("gateway", fleet))
    bad.write_bytes(garbage)
    start.write_configuration(fleet)
    assert [*fleet.places.programs.iterdir()] == [good]
    assert f"{bad} is no program, removed" in caplog.text
    # It exits if it can't read its files.
    ServerOptions().realize(["-c", str(fleet.places.supervisord_conf)])


@pytest.mark.skipif(os.geteuid() != 0, reason="makes folders of root's")
def test_calls_for_a_supervisord_that_takes_long_to_start_end(
    tmp_path, monkeypatch
):
    """The agent gives each up and calls again: they would take all threads."""
    fleet, ended = settings(tmp_path), threading.Semaphore(0)
    answers = iter([False, False])
    monkeypatch.setattr(start, "_answers", lambda _: next(answers, True))
    monkeypatch.setattr(kernel, "has_no_new_privileges", lambda: False)
    monkeypatch.setattr(start, "CALL_TIMEOUT_S", 0.05)

    def call() -> None:
        try:
            start.ensure_supervisord(fleet)
        finally:
            ended.release()

    start.write_configuration(fleet)
    with open(fleet.places.start_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one is started
        first = threading.Thread(target=call)
        first.start()
        try:
            assert not ended.acquire(timeout=0.2)
            with pytest.raises(TimeoutError):
                call()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            first.join(10)
    assert not first.is_alive()
