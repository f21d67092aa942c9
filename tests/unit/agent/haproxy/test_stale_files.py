"""Files are ours by their names; PID files by their owner as well."""

from __future__ import annotations

import os

import pytest

from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.stale_files import (
    haproxy_files,
    network_folders,
    network_of_file,
    remove_old,
)

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


@pytest.fixture
def places(tmp_path):
    made = Places(tmp_path / "run", tmp_path, tmp_path / "pids")
    for network in (NETWORK, "gateway"):
        made.read_folder(network).mkdir(parents=True)
        made.work_folder(network).mkdir(parents=True)
    made.config_folder.mkdir()
    made.socket_folder.mkdir()
    made.pids_folder.mkdir()
    return made


def found(places, uids=None):
    uids = [os.geteuid()] if uids is None else uids
    return {path.name: of for of, path in haproxy_files(places, uids)}


def test_no_folders_no_files(tmp_path):
    folder = tmp_path / "none"
    assert found(Places(folder, folder, folder)) == {}


def test_all_of_a_network_and_the_gateway(places):
    ours = {
        f"{NETWORK}.conf": NETWORK,
        f"{NETWORK}.new": NETWORK,
        f".{NETWORK}.map.tmp": NETWORK,
        "gateway.conf": "gateway",
    }
    for name in (*ours, "notes.conf", "agent.lock", f"{NETWORK}.txt"):
        (places.config_folder / name).touch()
    # Those in a haproxy's own folder go with it.
    places.map(NETWORK).touch()
    assert found(places) == ours


def test_folders_of_a_network_and_the_gateway(places):
    read, work = places.network_parents
    (read / "4C3E1F64-f4d0-4eb0-a542-a05e03a1141f").mkdir()
    (work / "0c3e1f64-f4d0-4eb0-a542-a05e03a1141f").symlink_to(work)
    assert sorted(network_folders(places)) == [
        (NETWORK, places.read_folder(NETWORK)),
        (NETWORK, places.work_folder(NETWORK)),
        ("gateway", places.read_folder("gateway")),
        ("gateway", places.work_folder("gateway")),
    ]


def test_what_neutron_had_below_state_path_goes(places):
    old = places.old_folder
    old.mkdir()
    for name in (f"{NETWORK}.conf", f"{NETWORK}.sock", "notes"):
        (old / name).touch()
    assert found(places).keys() == {f"{NETWORK}.conf", f"{NETWORK}.sock"}
    remove_old(places, NETWORK)
    assert [path.name for path in old.iterdir()] == ["notes"]
    (old / "notes").unlink()
    remove_old(places, NETWORK)
    assert not old.exists()


def test_pid_file_of_another_user_is_another_agents(places):
    places.pid_link(NETWORK).touch()
    (places.pids_folder / f"{NETWORK}.pid.radvd").touch()
    (places.pids_folder / f"{NETWORK}.conf").touch()
    assert found(places) == {f"{NETWORK}.pid.haproxy": NETWORK}
    assert found(places, uids=[os.geteuid() + 1]) == {}


@pytest.mark.parametrize(
    "name",
    [
        f"{NETWORK}.conf",
        f"{NETWORK}.map",
        f"{NETWORK}.new",
        f"{NETWORK}.sock",
        f"{NETWORK}.pid.haproxy",
        f".{NETWORK}.conf.tmp",
        f".{NETWORK}.new.tmp",
        f"{NETWORK}.sock.4711.tmp",
        f"{NETWORK}.sock.4711.bak",
    ],
)
def test_file_of_a_network(name):
    assert network_of_file(name) == NETWORK
    gateways = name.replace(NETWORK, "gateway")
    assert network_of_file(gateways) == "gateway"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(NETWORK, id="no suffix"),
        pytest.param("gateway", id="no suffix of the gateway"),
        pytest.param(f"{NETWORK}.pid", id="an old PID file"),
        pytest.param(f"{NETWORK}.pid.radvd", id="radvd's"),
        pytest.param(f"{NETWORK}.conf.bak", id="an operator's copy"),
        pytest.param(f"{NETWORK[:-1]}.conf", id="too short"),
        pytest.param(f"{NETWORK}.conf\n", id="a newline"),
        pytest.param("notes.conf", id="another name"),
    ],
)
def test_not_a_file_of_ours(name):
    assert network_of_file(name) is None
