"""When a haproxy has to read its configuration again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.haproxy import files, runtime
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.render import Rendered
from ovn_metadata.agent.reconcile.haproxies import Haproxies
from ovn_metadata.privsep.settings import FleetSettings

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
RENDERED = Rendered("as rendered", "digest")


class Fleet:
    """The privileged calls, for a haproxy in STATE."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.reloads = 0

    def make_folders(self, _network: str) -> None:
        pass

    def ensure_program(self, _network: str) -> dict[str, str]:
        return {"state": self.state, "complaint": ""}

    def reload_program(self, _network: str) -> None:
        self.reloads += 1


@pytest.mark.parametrize(
    ("state", "running", "reloads"),
    [
        pytest.param("running", "digest", 1, id="it may have read that"),
        pytest.param("running", "", 0, id="it has read it: `serve` reloads"),
        pytest.param("starting", None, 1, id="it may be reading that"),
        pytest.param("started", None, 0, id="it was started after that"),
        pytest.param("failing", None, 0, id="its next start comes after that"),
    ],
)
def test_an_edited_file_is_written_and_read_again(
    tmp_path: Path, monkeypatch, state, running, reloads
):
    """Once: the next visit finds the file as it was left."""
    monkeypatch.setattr(files, "check", lambda *_: None)
    monkeypatch.setattr(runtime, "running_digest", lambda *_: running)
    fleet: Any = Fleet(state)
    places = Places(tmp_path, tmp_path, tmp_path)
    places.config_folder.mkdir()
    settings = FleetSettings("/bin/sh", "nobody", 1, 1, tmp_path)
    haproxies = Haproxies(fleet, places, fleet=settings)
    haproxies.listen(NETWORK, RENDERED, None)
    fleet.reloads = 0
    config = places.config(NETWORK)
    config.write_text("edited")
    for _ in range(2):
        haproxies.listen(NETWORK, RENDERED, None)
        assert config.read_text() == RENDERED.text
        assert fleet.reloads == reloads
