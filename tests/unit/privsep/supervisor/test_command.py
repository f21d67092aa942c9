"""Which settings the fleet starts with."""

from __future__ import annotations

import sys

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
    said = f"ovn-metadata-fleet: {file} is missing; it may be empty\n"
    assert capsys.readouterr().err == said


def test_a_run_folder_that_another_user_can_move_is_refused(
    monkeypatch, capsys, tmp_path
):
    """As by the privileged daemon: it decides what root runs."""
    made = FleetSettings("/h", "nobody", 1, 1, tmp_path / "fleet")
    monkeypatch.setattr(settings, "existing", lambda _: [])
    monkeypatch.setattr(settings, "load", lambda _: made)
    monkeypatch.setattr(sys, "argv", ["x", "--check"])
    tmp_path.chmod(0o777)
    assert command.main() == 1
    assert f"{tmp_path} decides what root runs" in capsys.readouterr().err
    assert not made.run_dir.exists()
