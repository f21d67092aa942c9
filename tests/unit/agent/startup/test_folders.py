"""The lock that allows one agent, or clean-up, per host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovn_metadata.agent.errors import StartError
from ovn_metadata.agent.startup import folders


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Provide the lock of an agent that has ended, of an old version."""
    path = tmp_path / "agent.lock"
    path.write_text("4194303\n")
    return path


def test_second_one_is_refused(path):
    with folders.claim(path):
        for _ in range(2):
            with pytest.raises(StartError, match="an agent runs here"):
                folders.claim(path)
    folders.claim(path).close()  # free again


def test_a_host_without_the_file_had_no_agent(path):
    path.unlink()
    with pytest.raises(FileNotFoundError):
        folders.claim(path)
    assert not path.exists()
