"""A network's map, while its haproxy ends or can't be asked."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy import runtime
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.runtime import Stats
from ovn_metadata.agent.reconcile.maps import Maps

NETWORK = "11111111-1111-4111-8111-111111111111"


def test_rights_are_taken_from_the_file_if_haproxy_ends(tmp_path: Path):
    """It gives no answer; the next one reads the file."""
    places = Places(tmp_path, state_path=tmp_path, pids_folder=tmp_path)
    file, path = places.map(NETWORK), tmp_path / "stats.sock"
    file.parent.mkdir(parents=True)
    file.write_text("10.0.0.5 old|p|s\n10.0.0.6 kept|p|s\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def end() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)

        thread = threading.Thread(target=end)
        thread.start()
        maps = Maps(places, lambda _: Stats(path, os.geteuid()))
        taken = maps.revoke(NETWORK, lambda: {"10.0.0.6": "kept|p|s"})
        thread.join()
    assert taken == ("10.0.0.5",)
    assert file.read_text() == "10.0.0.6 kept|p|s\n"


def test_a_haproxy_that_hangs_leaves_no_right_that_is_gone_in_the_file(
    tmp_path: Path, monkeypatch
):
    """It may be killed at any moment, and the next one reads the file."""

    def hang(*_):
        raise TimeoutError("timed out")

    monkeypatch.setattr(runtime, "read_map", hang)
    places = Places(tmp_path, state_path=tmp_path, pids_folder=tmp_path)
    file = places.map(NETWORK)
    file.parent.mkdir(parents=True)
    file.write_text("10.0.0.5 old|p|s\n10.0.0.6 kept|p|s\n")
    maps = Maps(places, lambda _: Stats(tmp_path, os.geteuid()))
    rights = {"10.0.0.5": "new|p|s", "10.0.0.6": "kept|p|s"}
    for _ in range(2):
        with pytest.raises(TimeoutError):
            maps.revoke(NETWORK, rights.copy)
        assert file.read_text() == "10.0.0.6 kept|p|s\n"


def test_a_haproxy_that_can_not_be_asked_is_replaced_only_for_its_rights(
    tmp_path: Path, monkeypatch
):
    """HaproxyError has it replaced; the file has what it started with."""

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(runtime, "read_map", refuse)
    places = Places(tmp_path, state_path=tmp_path, pids_folder=tmp_path)
    places.map(NETWORK).parent.mkdir(parents=True)
    places.map(NETWORK).write_text("10.0.0.5 one|p|s\n")
    maps = Maps(places, lambda _: Stats(tmp_path, os.geteuid()))
    assert maps.revoke(NETWORK, lambda: {"10.0.0.5": "one|p|s"}) == ()
    more = {"10.0.0.5": "one|p|s", "10.0.0.6": "two|p|s"}
    for rights in (dict[str, str], more.copy):
        with pytest.raises(HaproxyError, match="Permission denied"):
            maps.revoke(NETWORK, rights)
