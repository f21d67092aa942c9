"""The guard of the unit tests does guard."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(lambda: subprocess.Popen(["true"]), id="subprocess"),
        pytest.param(lambda: os.system("true"), id="os.system"),
        pytest.param(os.fork, id="os.fork"),
        pytest.param(
            lambda: os.posix_spawn("/bin/true", ["true"], {}),
            id="os.posix_spawn",
        ),
    ],
)
def test_no_process_can_be_started(start):
    with pytest.raises(RuntimeError, match="starts a process"):
        start()


def test_no_network_can_be_reached():
    with (
        socket.socket(socket.AF_INET) as client,
        pytest.raises(RuntimeError, match="reaches for a network"),
    ):
        client.connect(("127.0.0.1", 9))


def test_unix_sockets_work(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
