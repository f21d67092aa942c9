"""The service user gets what an agent as root has left, and no more."""

from __future__ import annotations

import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oslo_privsep import capabilities

from ovn_metadata.agent.errors import StartError
from ovn_metadata.agent.startup import ownership

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chown needs root")

USER = pwd.struct_passwd(("svc", "x", 4711, 4712, "", "/", "/bin/false"))


def owners(folder: Path) -> dict[str, int]:
    """Return the owners of FOLDER and all below it."""
    found = {".": folder.stat().st_uid}
    for path in folder.rglob("*"):
        found[str(path.relative_to(folder))] = path.lstat().st_uid
    return found


def hand_over(folder: Path, *, make: bool = True) -> dict[str, int]:
    ownership.hand_over_state_path(folder, USER, make=make)
    return owners(folder)


def test_a_state_path_that_is_not_there_is_made_if_asked_for(tmp_path):
    folder = tmp_path / "a" / "state"
    ownership.hand_over_state_path(folder, USER, make=False)
    assert not folder.exists()
    assert hand_over(folder) == {".": 4711}


def test_what_an_agent_as_root_left_is_handed_over(tmp_path):
    for name in ("ovn-metadata-proxy/own", "external/pids", "lock"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ovn-metadata-proxy/x.conf").write_text("")
    # Files stay: an owner of the folder can replace them.
    assert hand_over(tmp_path) == {
        ".": 4711,
        "ovn-metadata-proxy": 4711,
        "ovn-metadata-proxy/own": 0,
        "ovn-metadata-proxy/x.conf": 0,
        "external": 4711,
        "external/pids": 4711,
        "lock": 0,
    }


def test_a_folder_of_another_user_stays_theirs(tmp_path):
    (tmp_path / "external").mkdir()
    os.chown(tmp_path / "external", 815, 815)
    os.chown(tmp_path, 816, 816)
    assert hand_over(tmp_path) == {".": 816, "external": 815}


@pytest.mark.parametrize("closed", [".", "ovn-metadata-proxy"])
def test_root_may_lack_the_right_to_enter_a_folder(tmp_path, closed):
    """A second start in a container without CAP_DAC_READ_SEARCH."""
    (tmp_path / "external").mkdir()
    (tmp_path / "ovn-metadata-proxy").mkdir()
    for name in (closed, "ovn-metadata-proxy"):
        os.chown(tmp_path / name, USER.pw_uid, USER.pw_gid)
        (tmp_path / name).chmod(0o710)

    def with_chown_only() -> None:
        kept = [capabilities.CAP_CHOWN]
        capabilities.drop_all_caps_except(kept, kept, [])
        ownership.hand_over_state_path(tmp_path, USER, make=True)

    with ThreadPoolExecutor(1) as thread:  # each has its capabilities
        thread.submit(with_chown_only).result()
    there = owners(tmp_path)
    assert there["ovn-metadata-proxy"] == 4711
    assert there["external"] == (0 if closed == "." else 4711)


def test_a_folder_with_other_things_only_is_left_as_it_is(tmp_path):
    """For example /var/lib, configured by mistake."""
    (tmp_path / "dpkg").mkdir()
    assert hand_over(tmp_path) == {".": 0, "dpkg": 0}


@pytest.mark.parametrize("name", ["external", "ovn-metadata-proxy"])
def test_no_link_is_followed(tmp_path, name):
    precious = tmp_path / "precious"
    (precious / "pids").mkdir(parents=True)
    state = tmp_path / "state"
    state.mkdir()
    (state / name).symlink_to(precious)
    ownership.hand_over_state_path(state, USER, make=True)
    assert owners(precious) == {".": 0, "pids": 0}


@pytest.mark.parametrize("where", ["state", "state/external", "by/root"])
@pytest.mark.parametrize("made_by", [0, USER.pw_uid])
def test_a_link_there_is_followed_where_only_root_can_make_one(
    tmp_path, where, made_by
):
    """Else the service user could get any empty folder owned by root."""
    precious, place = tmp_path / "precious", tmp_path / "place"
    (precious / "external").mkdir(parents=True)
    place.mkdir()
    os.chown(place, made_by, made_by)
    (place / "state").symlink_to(precious)
    (tmp_path / "by").mkdir()  # a link made by root that leads to that one
    (tmp_path / "by/root").symlink_to("../place/state")
    base = tmp_path if where.startswith("by") else place
    ownership.hand_over_state_path(base / where, USER, make=True)
    found = owners(precious)
    if made_by == 0:
        assert found["." if where != "state/external" else "external"] == 4711
    else:
        assert found == {".": 0, "external": 0}


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StartError, match="state_path"):
        ownership.hand_over_state_path(tmp_path / "a", USER, make=True)


def test_a_file_in_its_place_is_reported(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(StartError, match="state_path"):
        ownership.hand_over_state_path(tmp_path / "state", USER, make=True)


def test_a_log_behind_a_link_of_the_users_is_not(tmp_path):
    home, precious = tmp_path / "home", tmp_path / "precious"
    home.mkdir()
    precious.mkdir()
    os.chown(home, USER.pw_uid, USER.pw_gid)
    (home / "log").symlink_to(precious)
    (precious / "agent.log").write_text("")
    ownership.hand_over_log(home / "log" / "agent.log", USER)
    assert (precious / "agent.log").stat().st_uid == 0


def test_a_log_owned_by_root_is_handed_over(tmp_path):
    log = tmp_path / "agent.log"
    ownership.hand_over_log(log, USER)
    assert not log.exists()
    log.write_text("")
    ownership.hand_over_log(log, USER)
    assert log.stat().st_uid == 4711
    os.chown(log, 815, -1)
    ownership.hand_over_log(log, USER)
    assert log.stat().st_uid == 815


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path, link):
    precious = tmp_path / "precious"
    precious.write_text("")
    link(precious, tmp_path / "agent.log")
    ownership.hand_over_log(tmp_path / "agent.log", USER)
    assert precious.stat().st_uid == 0
