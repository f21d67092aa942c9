"""A peer that sends a byte at a time takes no thread of the daemon for long.

The daemon has four; a haproxy that was broken into must not have them all.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovn_metadata.privsep import vswitch
from ovn_metadata.privsep.errors import AskError
from ovn_metadata.privsep.namespace import ask

LIMIT_S = 0.3


def dribble(connection: socket.socket) -> None:
    """Send a byte much more often than the shortest wait of the reader."""
    with contextlib.suppress(OSError), connection:
        while True:
            connection.sendall(b"x")
            time.sleep(0.0002)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    threading.Thread(target=dribble, args=(theirs,), daemon=True).start()
    with ours:
        yield ours


def test_a_haproxy(peer):
    began = time.monotonic()
    with pytest.raises(AskError, match="in time"):
        ask._read(peer, LIMIT_S)
    assert time.monotonic() - began < LIMIT_S + 20  # else for ever


def test_a_daemon_of_open_vswitch(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ovs-vswitchd.ctl"))
        listener.listen()

        def serve() -> None:
            dribble(listener.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            vswitch._call("ovs-vswitchd", "version", [], timeout_s=LIMIT_S)
    assert time.monotonic() - began < LIMIT_S + 20  # else for ever
