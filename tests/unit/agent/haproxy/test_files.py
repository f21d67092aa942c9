"""haproxy's files: replaced at once, for the fleet alone; whose they are."""

from __future__ import annotations

import os
import stat

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy import files
from ovn_metadata.agent.haproxy.files import (
    files_in,
    haproxy_files,
    network_folders,
    remove_old,
)
from ovn_metadata.agent.haproxy.places import Places

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.conf"


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"", id="an empty file"),
        pytest.param(b"\xff\xfe", id="a file that is no text"),
        pytest.param(b"another", id="another text"),
    ],
)
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_text_is_replaced(path, old, umask):
    if old is not None:
        path.write_bytes(old)
        path.chmod(0o666)
    before = os.umask(umask)
    try:
        assert files.write(path, "text\n")
    finally:
        os.umask(before)
    assert path.read_text() == "text\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]
    assert not files.write(path, "text\n")
    path.chmod(0o600)  # by somebody who closes what is open, for example
    assert files.write(path, "text\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_failure_leaves_the_old_file(path):
    files.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "\udc80")
    assert path.read_text() == "old"
    assert files.write(path, "new")  # whatever the failure left behind


def test_a_link_in_the_way_is_replaced_and_not_followed(path, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    (tmp_path / f".{path.name}.tmp").symlink_to(target)
    assert files.write(path, "text")
    assert target.read_text() == "precious"
    assert not path.is_symlink()


def refuse(path):
    assert path.read_text() == "new"
    raise HaproxyError("no")


def test_the_same_configuration_is_not_checked_again(path):
    files.write(path, "text")
    assert not files.write(path, "text", check=refuse)


def test_a_refused_configuration_leaves_the_old_one(path):
    files.write(path, "old")
    with pytest.raises(HaproxyError):
        files.write(path, "new", check=refuse)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_an_accepted_configuration_replaces_the_old_one(path):
    files.write(path, "old")
    assert files.write(path, "new", check=lambda _path: None)
    assert path.read_text() == "new"


def test_remove_tells_whether_anything_was_there(path):
    absent = path.with_name("absent")
    assert not files.remove(path, absent)
    path.write_text("x")
    assert files.remove(absent, path)
    assert not path.exists()


def test_remove_goes_on_after_what_it_cannot_remove(path):
    folder = path.with_name("folder")
    folder.mkdir()
    path.write_text("x")
    with pytest.raises(IsADirectoryError, match="folder"):
        files.remove(folder, path)
    assert not path.exists()


def test_file_of_another_group_is_written_anew(tmp_path):
    """Its folder has become another haproxy's; it could not read it."""
    if os.geteuid():
        pytest.skip("gives a folder away")
    path = tmp_path / "a.map"
    assert files.write(path, "text")
    assert not files.write(path, "text")
    os.chown(tmp_path, -1, 4711)
    tmp_path.chmod(0o2750)
    assert files.write(path, "text")
    assert path.stat().st_gid == 4711


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
def test_file_of_a_network(name, tmp_path):
    gateways = name.replace(NETWORK, "gateway")
    for each in (name, gateways):
        (tmp_path / each).touch()
    assert {path.name: of for of, path in files_in(tmp_path)} == {
        name: NETWORK,
        gateways: "gateway",
    }


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
def test_not_a_file_of_ours(name, tmp_path):
    (tmp_path / name).touch()
    assert not [*files_in(tmp_path)]
