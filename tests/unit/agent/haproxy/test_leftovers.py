"""Files are ours by their names; PID files by their owner as well."""

from __future__ import annotations

import os

import pytest

from ovn_metadata.agent.haproxy.leftovers import haproxy_files
from ovn_metadata.agent.haproxy.render import Places

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


@pytest.fixture
def places(tmp_path):
    made = Places(
        config_folder=tmp_path / "proxy",
        run_folder=tmp_path / "proxy/run",
        socket_folder=tmp_path / "proxy/socket",
        pids_folder=tmp_path / "pids",
    )
    made.run_folder.mkdir(parents=True)
    made.pids_folder.mkdir()
    return made


def found(places, uids=None):
    uids = [os.geteuid()] if uids is None else uids
    return {path.name: of for of, path in haproxy_files(places, uids)}


def test_no_folders_no_files(tmp_path):
    folder = tmp_path / "none"
    assert found(Places(folder, folder, folder, folder)) == {}


def test_all_of_a_network_and_the_gateway(places):
    ours = {
        f"{NETWORK}.conf": NETWORK,
        f"{NETWORK}.map": NETWORK,
        f".{NETWORK}.map.tmp": NETWORK,
        "gateway.conf": "gateway",
    }
    for name in (*ours, "notes.conf", "agent.lock", f"{NETWORK}.txt"):
        (places.config_folder / name).touch()
    (places.run_folder / f"{NETWORK}.sock").touch()
    (places.run_folder / "gateway").touch()
    assert found(places) == {**ours, f"{NETWORK}.sock": NETWORK}


def test_pid_file_of_another_user_is_another_agents(places):
    places.pid(NETWORK).touch()
    (places.pids_folder / f"{NETWORK}.pid.radvd").touch()
    (places.pids_folder / f"{NETWORK}.conf").touch()
    assert found(places) == {f"{NETWORK}.pid.haproxy": NETWORK}
    assert found(places, uids=[os.geteuid() + 1]) == {}
