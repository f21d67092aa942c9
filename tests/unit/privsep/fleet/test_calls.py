"""Why a haproxy does not run: supervisord's word, or the haproxy's own."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg

from ovn_metadata.privsep import names
from ovn_metadata.privsep.errors import SettingsError
from ovn_metadata.privsep.fleet import calls, shut_down
from ovn_metadata.privsep.places import Places
from ovn_metadata.privsep.settings import FleetSettings


@pytest.mark.parametrize(
    ("state", "said", "asked", "complaint"),
    [
        pytest.param("BACKOFF", "no fork", 1, "supervisord says: no fork"),
        pytest.param("BACKOFF", "Bad exit code 1", 1, "its log says: no lib"),
        pytest.param("BACKOFF", "", 1, "its log says: no lib"),
        # Hundreds start at once, and are asked for again and again.
        pytest.param("STARTING", "", 0, "its log says: no lib"),
    ],
)
def test_only_one_that_waits_for_a_try_is_asked_for(
    tmp_path, state, said, asked, complaint
):
    log = tmp_path / "gateway.log"
    log.write_text(f"{names.STARTS}\nno lib\n")
    calls_made = []

    def call(method: str, name: str) -> dict[str, str]:
        calls_made.append((method, name))
        return {"spawnerr": said}

    rpc: Any = SimpleNamespace(call=call)
    found = calls._complaint(rpc, "haproxy-gateway", state=state, log=log)
    assert found == complaint
    assert calls_made == asked * [
        ("supervisor.getProcessInfo", "haproxy-gateway")
    ]


def test_a_file_that_could_not_be_renamed_goes_with_its_network(
    tmp_path, monkeypatch
):
    places, network = Places(tmp_path), str(uuid.uuid4())
    pid, log = places.pid(network), places.logs / f"{network}.log.1"
    program = places.program(network)
    other = places.pid(str(uuid.uuid4()))
    new = pid.with_suffix(".new"), program.with_name(f".{program.name}.new")
    for file in (pid, program, *new, log, other):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    rpc = SimpleNamespace(call=lambda *_: True)
    monkeypatch.setattr(
        calls, "read_settings", lambda **_: SimpleNamespace(places=places)
    )
    monkeypatch.setattr(
        calls, "Supervisord", lambda _: contextlib.nullcontext(rpc)
    )
    remove: Any = calls.remove
    assert remove.__wrapped__(network, "/var/lib/neutron")
    left = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert left == [other]


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a file owned by root")
def test_a_refusal_by_the_daemon_names_the_file(monkeypatch):
    """The haproxy may have been removed after the start of the agent."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        file = Path(folder, "root.conf")
        file.write_text("[fleet]\nhaproxy = /usr/sbin/no-haproxy\n")
        conf = cfg.ConfigOpts()
        conf(["--config-file", str(file)], default_config_files=[])
        monkeypatch.setattr(cfg, "CONF", conf)
        calls.read_settings.cache_clear()
        with pytest.raises(SettingsError, match=f"^{file}: haproxy not found"):
            calls.read_settings()


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_end_of_the_fleet_empties_no_folder_of_others(
    tmp_path, monkeypatch, is_ours
):
    """The run_dir may be a wrong one, with which the agent never started."""
    settings = FleetSettings("/h", "nobody", 1, 1, tmp_path / "run")
    file = settings.places.config_folder / "theirs"
    file.parent.mkdir(parents=True)
    file.touch()
    if is_ours:
        settings.places.programs.mkdir()
    monkeypatch.setattr(shut_down, "read_settings", lambda **_: settings)
    monkeypatch.setattr(shut_down, "_haproxies", lambda *_: set())
    monkeypatch.setattr(os, "chown", lambda *_: None)
    end: Any = shut_down.shut_down
    end.__wrapped__(str(tmp_path))
    assert file.exists() is not is_ours
    assert settings.run_dir.exists() is not is_ours
