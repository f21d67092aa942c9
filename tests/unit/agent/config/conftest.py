"""A configuration file that is loaded as the agent does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of its own, where nothing is configured."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(options, "OWN_FILE", str(tmp_path / "none.conf"))
    return folder


@pytest.fixture
def file(tmp_path: Path, home: Path) -> Path:
    return tmp_path / "x.ini"


@pytest.fixture
def load(file: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Return a function that loads a configuration of the given text."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def load_text(text: str, *argv: str) -> Settings:
        file.write_text(text)
        named = ["--config-dir", str(empty), "--config-file", str(file)]
        return options.load([*named, *argv])[1]

    return load_text
