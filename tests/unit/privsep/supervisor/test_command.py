"""Which settings the fleet starts with."""

from __future__ import annotations

import sys

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
