"""Root's files and folders, in places where others may have been first."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import stat
from pathlib import Path

import pytest

from ovn_metadata.privsep import names, rootfiles
from ovn_metadata.privsep.errors import SettingsError
from ovn_metadata.privsep.places import Folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of root's")
OURS = os.geteuid()


@pytest.fixture(autouse=True)
def _as_in_the_daemon(monkeypatch):
    """Have the daemon's umask, and ourselves as the agent."""
    monkeypatch.setenv("SUDO_UID", str(OURS))
    before = os.umask(0)
    yield
    os.umask(before)


def make_anothers_folder(path: Path) -> None:
    path.mkdir()
    os.chown(path, 65534, 0)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@as_root
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: p.write_text(""), id="a file"),
        pytest.param(lambda p: p.symlink_to("/tmp"), id="a link to a folder"),
        pytest.param(make_anothers_folder, id="another's folder"),
    ],
)
def test_something_else_in_the_folders_place_is_refused(tmp_path, make):
    make(tmp_path / "fleet")
    with pytest.raises(SettingsError, match="remove it"):
        rootfiles.ensure_private_folder(tmp_path / "fleet")


@as_root
def test_a_private_folder_and_what_leads_to_it_are_roots_alone(tmp_path):
    path = tmp_path / "a" / "b" / "fleet"
    rootfiles.ensure_private_folder(path)
    assert mode_of(path) == 0o700
    assert not mode_of(path.parent) & 0o022
    assert not mode_of(path.parent.parent) & 0o022


@as_root
def test_a_private_folder_that_was_open_is_closed(tmp_path):
    path = tmp_path / "fleet"
    path.mkdir(mode=0o777)
    rootfiles.ensure_private_folder(path)
    assert mode_of(path) == 0o700
    rootfiles.ensure_private_folder(path, mode=0o711)
    assert mode_of(path) == 0o711


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"another", id="another text"),
        pytest.param(b"\xff", id="no text at all"),
    ],
)
def test_a_file_is_written_for_root_alone_and_once(tmp_path, old):
    path = tmp_path / "x.conf"
    if old is not None:
        path.write_bytes(old)
    assert rootfiles.write_if_different(path, "text")
    assert path.read_text() == "text"
    assert mode_of(path) == 0o600
    assert not rootfiles.write_if_different(path, "text")
    assert list(tmp_path.iterdir()) == [path]


def test_a_half_written_file_or_a_link_in_the_way_is_removed(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / ".x.conf.new").symlink_to(target)
    assert rootfiles.write_if_different(tmp_path / "x.conf", "text")
    assert target.read_text() == "precious"


@as_root
@pytest.mark.parametrize("mode", [0o2750, 0o2771])
def test_a_shared_folder_is_made_and_mended(tmp_path, monkeypatch, mode):
    """What is in one of the same group stays."""
    monkeypatch.setenv("SUDO_UID", "4711")
    folder = Folder(tmp_path / "shared", 4712, mode)
    for spoil in (
        lambda: None,
        lambda: folder.path.chmod(0o755),
        lambda: os.chown(folder.path, 4713, -1),
    ):
        rootfiles.ensure_shared_folder(folder)
        (folder.path / "file").touch()
        spoil()
        rootfiles.ensure_shared_folder(folder)
        assert folder.is_made(4711)
        assert (folder.path / "file").exists()


def test_a_folder_that_is_out_of_reach_is_to_be_made(tmp_path, monkeypatch):
    """Somebody has closed the folder above it; the daemon opens it again."""

    def closed(_path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "lstat", closed)
    assert not Folder(tmp_path, 4712, 0o2770).is_made(0)


@as_root
def test_a_shared_folder_of_another_haproxys_is_emptied(tmp_path):
    """Its files the new one could not replace."""
    folder = Folder(tmp_path / "shared", 4712, 0o2770)
    rootfiles.ensure_shared_folder(folder)
    (folder.path / "stats.sock").touch()
    other = dataclasses.replace(folder, gid=4713)
    rootfiles.ensure_shared_folder(other)
    assert other.is_made(OURS)
    assert list(folder.path.iterdir()) == []


def identity(path: Path) -> tuple[int, ...]:
    """Return what of PATH must not change; reading a link has a time."""
    entry = path.lstat()
    return entry.st_ino, entry.st_mode, entry.st_uid, entry.st_gid


@as_root
@pytest.mark.parametrize("make", [Path.touch, lambda p: p.symlink_to("/tmp")])
def test_only_a_folder_is_shared(tmp_path, make):
    path = tmp_path / "shared"
    make(path)
    before = identity(path)
    with pytest.raises(SettingsError, match=str(path)):
        rootfiles.ensure_shared_folder(Folder(path, 4712, 0o2770))
    assert identity(path) == before


@as_root
def test_a_shared_folder_goes_with_its_files_and_nothing_else(tmp_path):
    """A haproxy that was broken into may have made more than files."""
    path = tmp_path / "shared"
    assert not rootfiles.remove_shared_folder(path)
    rootfiles.ensure_shared_folder(Folder(path, 4712, 0o2770))
    precious = tmp_path / "precious"
    precious.touch()
    (path / "link").symlink_to(precious)
    (path / "more").mkdir()
    with pytest.raises(SettingsError, match=r"check what is in it.*rm -r"):
        rootfiles.remove_shared_folder(path)
    (path / "more").rmdir()
    assert rootfiles.remove_shared_folder(path)
    assert not path.exists()
    assert precious.exists()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_link_to_socket(path: Path) -> None:
    make_socket(path.with_name("else"))
    path.symlink_to("else")


@as_root
def test_a_socket_of_haproxys_is_shared(tmp_path):
    path = tmp_path / "socket"
    make_socket(path)
    os.chown(path, 4711, 4711)
    rootfiles.share_socket(str(path), uid=4711, gid=4712)
    assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


@pytest.mark.parametrize(
    ("make", "uid"),
    [
        pytest.param(lambda p: None, OURS, id="nothing there"),
        pytest.param(lambda p: p.write_text(""), OURS, id="a file"),
        pytest.param(make_link_to_socket, OURS, id="a link to a socket"),
        pytest.param(make_socket, OURS + 1, id="somebody else's"),
    ],
)
def test_nothing_else_is_given_to_a_group(tmp_path, make, uid):
    path = tmp_path / "socket"
    make(path)
    before = {p: p.lstat().st_gid for p in tmp_path.iterdir()}
    with pytest.raises((SettingsError, OSError), match=str(path)):
        rootfiles.share_socket(str(path), uid=uid, gid=os.getegid() + 1)
    assert {p: p.lstat().st_gid for p in tmp_path.iterdir()} == before


@as_root
def test_the_agents_file_is_its_users_and_nobody_elses(tmp_path, monkeypatch):
    monkeypatch.setenv("SUDO_UID", "4711")
    path = tmp_path / "lock"
    for _ in range(2):
        rootfiles.ensure_agents_file(path)
        assert path.stat().st_uid == 4711
        assert mode_of(path) == 0o600


@pytest.mark.parametrize(("text", "uid"), [(None, 0), ("0", 0), ("990", 990)])
def test_the_caller_is_who_sudo_says(monkeypatch, text, uid):
    monkeypatch.delenv("SUDO_UID")
    if text is not None:
        monkeypatch.setenv("SUDO_UID", text)
    assert rootfiles.caller_uid() == uid


STARTS = f"{names.STARTS}\n"
MUTE = (
    "[ALERT]    (9) : sendmsg()/writev() failed in logger #1: No such file\n"
)
ENDED = (
    "[ALERT]    (7) : Current worker (9) exited with code 143 (Terminated)\n"
)
LIBRARY = "haproxy: error while loading shared libraries: libcrypto.so.3\n"
BIND = "[ALERT]    (8) : Starting frontend GLOBAL: cannot bind UNIX socket\n"
NOTES = "[NOTICE]   (7) : Loading success.\n[WARNING]  (9) : Proxy stopped\n"
FATAL = "[ALERT]    (8) : [haproxy.main()] Some protocols failed to start\n"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param(STARTS + MUTE, "", id="no /dev/log"),
        pytest.param(STARTS + BIND + STARTS + NOTES, "", id="it started"),
        pytest.param(
            STARTS + MUTE + ENDED + STARTS + LIBRARY,
            LIBRARY,
            id="a library is missing",
        ),
        pytest.param(
            STARTS + LIBRARY + STARTS + BIND + FATAL + MUTE,
            "[ALERT]" + BIND.partition(" (8) :")[2],
            id="an address is taken",
        ),
        pytest.param(
            STARTS + LIBRARY + STARTS, LIBRARY, id="it has just started again"
        ),
        pytest.param(
            STARTS + ENDED, "[ALERT]" + ENDED.partition(" (7) :")[2], id="end"
        ),
        pytest.param(BIND, "[ALERT]" + BIND.partition(" (8) :")[2], id="old"),
        pytest.param(STARTS + "a\x1b[31mb\n", "a [31mb", id="an escape"),
        pytest.param(
            f"{STARTS}supervisor: couldn't exec /usr/bin/nsenter: EACCES\n"
            f"supervisor: child process was not spawned\n",
            "supervisor: couldn't exec /usr/bin/nsenter: EACCES",
            id="nothing is executed",
        ),
    ],
)
def test_last_complaint(tmp_path, log, reason):
    file = tmp_path / "log"
    assert rootfiles.last_complaint(file) == ""
    file.write_text(log)
    said = rootfiles.last_complaint(file)
    assert said == re.sub(r"\s*\(9\) :", "", reason).strip()
