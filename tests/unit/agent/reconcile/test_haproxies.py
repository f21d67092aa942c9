"""When a haproxy has to read its configuration again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.haproxy import files, runtime
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.render import Rendered
from ovn_metadata.agent.reconcile import haproxies as haproxies_module
from ovn_metadata.agent.reconcile.haproxies import Haproxies
from ovn_metadata.privsep import names
from ovn_metadata.privsep.settings import FleetSettings

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
RENDERED = Rendered("as rendered", "digest")


class Fleet:
    """The privileged calls, for a haproxy in STATE."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.reloads = self.renewals = 0

    def make_folders(self, _network: str) -> None:
        pass

    def ensure_program(self, _network: str) -> dict[str, str]:
        return {"state": self.state, "complaint": ""}

    def reload_program(self, _network: str) -> None:
        self.reloads += 1

    def renew_program(self, _network: str) -> dict[str, str]:
        self.renewals += 1
        return {"state": "started", "complaint": ""}


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


@pytest.mark.parametrize(
    ("state", "reloads"),
    [
        pytest.param("running", 1, id="it has read the old file"),
        pytest.param("starting", 0, id="the next one has read the new file"),
    ],
)
def test_a_gateway_that_starts_slowly_is_not_started_again(
    tmp_path: Path, monkeypatch, state, reloads
):
    """The one before answers until then; each visit would start another."""
    answers = iter(["old", "old", "old", "digest"])
    monkeypatch.setattr(runtime, "running_digest", lambda *_: next(answers))
    fleet: Any = Fleet(state)
    places = Places(tmp_path, tmp_path, tmp_path)
    settings = FleetSettings("/bin/sh", "nobody", 1, 1, tmp_path)
    haproxies = Haproxies(fleet, places, fleet=settings)
    program = fleet.ensure_program(names.GATEWAY)
    haproxies.serve(names.GATEWAY, RENDERED, None, program)
    assert fleet.reloads == reloads


@pytest.mark.parametrize(
    ("state", "answers", "renewals"),
    [
        pytest.param("running", [None, "digest"], 0, id="its answer was cut"),
        pytest.param("starting", [None, None, "digest"], 0, id="it ended"),
        pytest.param("running", [None, None, "digest"], 1, id="it is lost"),
    ],
)
def test_a_stats_socket_without_an_answer_is_asked_again(
    tmp_path: Path, monkeypatch, state, answers, renewals
):
    """The next haproxy, which may have begun to serve, would be killed."""
    found = iter(answers)
    monkeypatch.setattr(runtime, "running_digest", lambda *_: next(found))
    fleet: Any = Fleet(state)
    places = Places(tmp_path, tmp_path, tmp_path)
    settings = FleetSettings("/bin/sh", "nobody", 1, 1, tmp_path)
    haproxies = Haproxies(fleet, places, fleet=settings)
    program = {"state": "running", "complaint": ""}
    haproxies.serve(names.GATEWAY, RENDERED, None, program)
    assert fleet.renewals == renewals


def test_one_that_replaces_another_has_no_right_that_is_not_set_up(
    tmp_path: Path, monkeypatch
):
    """An owner that is new has no neighbour entry: the last one gets it."""

    def hang() -> None:
        raise TimeoutError

    monkeypatch.setattr(haproxies_module, "_PAUSES_S", (0.0, 0.0))
    fleet: Any = Fleet("running")
    places = Places(tmp_path, tmp_path, tmp_path)
    file = places.map(NETWORK)
    file.parent.mkdir(parents=True)
    file.write_text("10.0.0.5 last|p|s\n10.0.0.6 same|p|s\n")
    settings = FleetSettings("/bin/sh", "nobody", 1, 1, tmp_path)
    haproxies = Haproxies(fleet, places, fleet=settings)
    rights = {
        "10.0.0.5": "next|p|s",
        "10.0.0.6": "same|p|other secret",
        "10.0.0.7": "new|p|s",
    }
    done = haproxies.ask_or_replace(NETWORK, rights.copy, hang)
    assert (done, fleet.renewals) == (["hang"], 1)
    assert file.read_text() == "10.0.0.6 same|p|other secret\n"
