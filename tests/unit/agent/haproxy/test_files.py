"""haproxy's files: replaced at once, readable by the fleet alone."""

from __future__ import annotations

import os
import stat

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy import files


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
