"""Which processes count as a haproxy that listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from ovn_metadata.privsep import listening


@pytest.fixture(autouse=True)
def _worker(monkeypatch) -> None:
    """Have this process be the only worker of any master."""
    monkeypatch.setattr(listening, "_children", lambda _: [os.getpid()])


@pytest.fixture
def unix(tmp_path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        yield made


def test_socket_counts_once_it_listens(unix):
    assert not listening.listens(1, tcp=False)
    unix.listen()
    assert listening.listens(1, tcp=False)
    assert not listening.listens(1, tcp=True)
    unix.close()
    assert not listening.listens(1, tcp=False)


def test_standard_input_does_not_count(unix):
    """The gateway is started with a socket there that listens already."""
    unix.listen()
    was = os.dup(0)
    os.dup2(unix.fileno(), 0)
    unix.close()
    try:
        assert not listening.listens(1, tcp=False)
    finally:
        os.dup2(was, 0)
        os.close(was)


def test_process_that_ended_does_not_listen(monkeypatch):
    monkeypatch.setattr(listening, "_children", lambda _: [2**22 + 1])
    assert not listening.listens(1, tcp=True)
    monkeypatch.undo()
    assert not listening.listens(2**22 + 1, tcp=True)


def test_what_may_not_be_looked_at_is_believed(monkeypatch):
    def refused(_: int) -> list[int]:
        raise PermissionError

    monkeypatch.setattr(listening, "_children", refused)
    assert listening.listens(1, tcp=True)
