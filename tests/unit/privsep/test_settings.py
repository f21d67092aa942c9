"""Root's settings: who may have written them and what they may say."""

from __future__ import annotations

import os
import pwd
import sys

import pytest

from ovn_metadata.privsep import settings
from ovn_metadata.privsep.errors import SettingsError

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="makes files owned by root"
)


@pytest.fixture
def load(tmp_path):
    """Return a function that loads a file with these options."""

    def write_and_load(**options: str) -> settings.FleetSettings:
        haproxy = tmp_path / "haproxy-3.0"
        haproxy.write_bytes(b"\x7fELF")
        haproxy.chmod(0o755)
        options = {"haproxy": str(haproxy), "user": "nobody", **options}
        lines = [f"{name} = {text}" for name, text in options.items()]
        file = tmp_path / "privileged.conf"
        file.write_text("\n".join(["[fleet]", *lines, ""]))
        return settings.load(file)

    return write_and_load


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"haproxy": "haproxy"}, "absolute", id="no path"),
        pytest.param(
            {"haproxy": "/nonexistent/haproxy"}, "install", id="not there"
        ),
        pytest.param({"haproxy": "/usr"}, "haproxy", id="a folder"),
        pytest.param({"haproxy": "/bin/sh"}, "must contain", id="its name"),
        pytest.param({"user": "root"}, "root", id="the fleet as root"),
        pytest.param({"user": "no-such"}, "useradd", id="no such user"),
        pytest.param({"run_dir": "run"}, "run_dir", id="a relative folder"),
        pytest.param({"run_dir": "/run/../x"}, "run_dir", id="dots in it"),
        pytest.param({"run_dir": "/run/$x"}, "run_dir", id="no such option"),
        pytest.param({"run_dir": "$run_dir"}, "run_dir", id="a loop"),
        pytest.param({"user": "a\0b"}, "useradd", id="NUL in a user"),
        pytest.param({"network_ids": "7"}, "65536", id="one id"),
        pytest.param({"network_ids": "9-7"}, "65536", id="a range backwards"),
        pytest.param(
            {"network_ids": "0-70000"}, "id of root", id="root in it"
        ),
        pytest.param(
            {"network_ids": "60000-700000"},
            "or the gateway",
            id="the gateway in it",
        ),
        pytest.param(
            {"network_ids": "100000-4294967295"},
            "65536",
            id="no id at its end",
        ),
    ],
)
def test_refused_with_file_and_remedy_in_one_line(load, options, reason):
    with pytest.raises(SettingsError, match=reason) as error:
        load(**options)
    assert "\n" not in str(error.value)
    assert "privileged.conf: " in str(error.value)


@pytest.mark.parametrize("run_dir", ["/run/a b", "/run/a%b"])
def test_a_folder_that_an_ini_file_cannot_hold_is_refused(load, run_dir):
    with pytest.raises(SettingsError, match="run_dir"):
        load(run_dir=run_dir)


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        pytest.param(b"#!/bin/sh\n", 0o755, "is a script", id="a wrapper"),
        pytest.param(b"\x7fELF", 0o644, "chmod", id="not executable"),
        pytest.param(b"", 0o644, "chmod", id="empty"),
    ],
)
def test_a_haproxy_that_cannot_be_run(load, tmp_path, content, mode, reason):
    file = tmp_path / "haproxy"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=reason):
        load(haproxy=str(file))


def test_a_link_to_something_else_is_no_haproxy(load, tmp_path):
    """What runs would not be recognised after supervisord was killed."""
    link = tmp_path / "haproxy"
    link.symlink_to(os.path.realpath(sys.executable))
    with pytest.raises(SettingsError, match="must contain haproxy"):
        load(haproxy=str(link))


def test_a_haproxy_that_is_gone_can_be_cleaned_up_after(tmp_path):
    file = tmp_path / "privileged.conf"
    file.write_text("[fleet]\nhaproxy = /nonexistent/haproxy\nuser = nobody")
    loaded = settings.load(file, runnable=False)
    assert loaded.haproxy == "/nonexistent/haproxy"


def test_the_agents_own_user_is_refused_for_the_fleet(load, monkeypatch):
    monkeypatch.setenv("SUDO_UID", str(pwd.getpwnam("nobody").pw_uid))
    with pytest.raises(SettingsError, match="user"):
        load(user="nobody")


def test_a_file_that_is_no_configuration(tmp_path):
    file = tmp_path / "privileged.conf"
    file.write_text("no section\n")
    with pytest.raises(SettingsError, match=str(file)):
        settings.load(file)


def test_what_is_no_text_file_is_refused_by_its_name(tmp_path):
    """A container engine makes a folder where a file to mount is missing."""
    folder, binary = tmp_path / "folder", tmp_path / "binary"
    folder.mkdir()
    binary.write_bytes(b"[fleet]\nuser = \xff\n")
    for path, why in ((folder, "Is a directory"), (binary, "not UTF-8 text")):
        with pytest.raises(SettingsError, match=f"{path} can't.*{why}"):
            settings.load(path)


def test_what_is_written_is_taken(load):
    loaded = load(run_dir="/run/x")
    nobody = pwd.getpwnam("nobody")
    assert (loaded.user, loaded.uid, loaded.gid) == (
        "nobody",
        nobody.pw_uid,
        nobody.pw_gid,
    )
    assert loaded.haproxy.endswith("/haproxy-3.0")
    places = loaded.places
    found = (places.socket, places.programs, places.logs)
    assert {str(place.parent) for place in found} == {"/run/x"}


def test_each_network_has_ids_of_its_own(load):
    loaded = load(network_ids="100000-299999")
    assert loaded.common_gid == 100000
    one = loaded.user_of("00000000-f4d0-4eb0-a542-a05e03a1141f")
    other = loaded.user_of("00000001-f4d0-4eb0-a542-a05e03a1141f")
    last = loaded.user_of("ffffffff-f4d0-4eb0-a542-a05e03a1141f")
    assert one == (100001, 100001)
    assert other == (100002, 100002)
    assert last == (100001 + 0xFFFFFFFF % 199999,) * 2
    assert loaded.user_of("gateway") == (loaded.uid, loaded.gid)


@pytest.mark.parametrize("ids", ["", " "])
def test_one_user_for_all_if_that_is_asked_for(load, ids):
    loaded = load(network_ids=ids)
    own = loaded.user_of("4c3e1f64-f4d0-4eb0-a542-a05e03a1141f")
    assert own == loaded.user_of("gateway") == (loaded.uid, loaded.gid)
    assert loaded.common_gid == loaded.gid


def test_one_user_for_all_where_the_ids_do_not_exist(
    load, monkeypatch, tmp_path
):
    """In the user namespace of a container."""
    ids = tmp_path / "uid_map"
    ids.write_text("         0     100000      65536\n")
    monkeypatch.setattr(settings, "_ID_MAPS", (str(ids),))
    assert not load(network_ids="100000-299999").network_ids
    ids.write_text("0 100000 65536\n   65536 1000000    1000000\n")
    assert load(network_ids="100000-299999").network_ids


def test_the_first_fleet_user_that_exists_is_taken(load):
    known = {entry.pw_name for entry in pwd.getpwall()}
    first = next(u for u in settings.DEFAULT_FLEET_USERS if u in known)
    assert load(user="").user == first


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    path = folder / "privileged.conf"
    path.write_text("")
    path.chmod(0o644)
    return path


@as_root
def test_a_file_of_roots_in_folders_of_roots_is_trusted(file):
    settings.check_owner([str(file)])


@as_root
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda f: f.chmod(0o664), id="the group may write"),
        pytest.param(lambda f: f.chmod(0o602), id="others may write"),
        pytest.param(lambda f: os.chown(f, 65534, 0), id="another's file"),
        pytest.param(
            lambda f: f.parent.chmod(0o777), id="its folder is anyone's"
        ),
        pytest.param(
            lambda f: os.chown(f.parent, 65534, 0), id="its folder's another's"
        ),
        pytest.param(
            lambda f: (f.parent.chmod(0o1777), f.chmod(0o666)),
            id="sticky is for the folder alone",
        ),
    ],
)
def test_a_file_that_others_could_have_written_is_refused(file, spoil):
    spoil(file)
    with pytest.raises(SettingsError, match="chown root:root"):
        settings.check_owner([str(file)])


@as_root
@pytest.mark.parametrize("name", ["theirs/link", "ours", "folder/link"])
def test_a_link_that_another_can_turn_is_refused(file, tmp_path, name):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "link").symlink_to(file)
    os.chown(theirs, 65534, 65534)
    (tmp_path / "ours").symlink_to("theirs/link")
    (tmp_path / "folder").symlink_to("theirs")
    with pytest.raises(SettingsError):
        settings.check_owner([str(tmp_path / name)])


@as_root
def test_a_link_of_roots_through_links_of_roots_is_trusted(file, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("../etc/privileged.conf")
    (tmp_path / "folder").symlink_to("in")
    (tmp_path / "first").symlink_to("folder/link")
    settings.check_owner([tmp_path / "first"])
