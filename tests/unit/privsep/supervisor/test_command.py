"""Which settings the fleet starts with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ovn_metadata.privsep import settings
from ovn_metadata.privsep.settings import FleetSettings
from ovn_metadata.privsep.supervisor import command


def test_a_file_that_is_named_and_missing_is_no_default(
    monkeypatch, capsys, tmp_path
):
    """It may have named another run_dir, or other users."""
    file = tmp_path / "privleged.conf"
    monkeypatch.setattr(
        sys, "argv", ["x", "--check", "--config-file", str(file)]
    )
    assert command.main() == 1
    said = f"ovn-metadata-fleet: no {file}; create it (it may be empty)\n"
    assert capsys.readouterr().err == said


@pytest.fixture
def run_dir(monkeypatch, tmp_path) -> Path:
    """Have a run folder to be checked, that is not there yet."""
    made = FleetSettings("/h", "nobody", 1, 1, tmp_path / "fleet")
    monkeypatch.setattr(settings, "existing", lambda _: [])
    monkeypatch.setattr(settings, "load", lambda _: made)
    monkeypatch.setattr(sys, "argv", ["x", "--check"])
    return made.run_dir


def test_a_run_folder_that_another_user_can_move_is_refused(run_dir, capsys):
    """As by the privileged daemon: it decides what root runs."""
    run_dir.parent.chmod(0o777)
    assert command.main() == 1
    said = f"{run_dir.parent} decides what root runs"
    assert said in capsys.readouterr().err
    assert not run_dir.exists()


def test_a_run_folder_with_other_things_is_refused(
    run_dir, monkeypatch, capsys
):
    """It would not start there."""
    monkeypatch.setattr(settings, "check_owner", lambda _: None)
    assert command.main() == 0
    run_dir.mkdir()
    (run_dir / "notes").touch()
    assert command.main() == 1
    assert "holds other things (notes)" in capsys.readouterr().err


def test_who_is_not_root_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command.main() == 1
    said = "ovn-metadata-fleet: run it as root: use sudo\n"
    assert capsys.readouterr().err.endswith(said)
