"""Which processes count as a haproxy that listens."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from ovn_metadata.privsep import kernel, listeners


@pytest.fixture(autouse=True)
def _worker(monkeypatch) -> None:
    """Have this process be the only worker of any master."""
    monkeypatch.setattr(listeners, "_workers", lambda _: [os.getpid()])


@pytest.fixture
def unix(tmp_path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        yield made


def test_socket_counts_once_it_listens(unix):
    assert not listeners.listens(1, tcp=False)
    unix.listen()
    assert listeners.listens(1, tcp=False)
    assert not listeners.listens(1, tcp=True)
    unix.close()
    assert not listeners.listens(1, tcp=False)


def test_standard_input_does_not_count(unix):
    """The gateway is started with a socket there that listens already."""
    unix.listen()
    was = os.dup(0)
    os.dup2(unix.fileno(), 0)
    unix.close()
    try:
        assert not listeners.listens(1, tcp=False)
    finally:
        os.dup2(was, 0)
        os.close(was)


def test_process_that_ended_does_not_listen(monkeypatch):
    monkeypatch.setattr(listeners, "_workers", lambda _: [2**22 + 1])
    assert not listeners.listens(1, tcp=True)
    monkeypatch.undo()
    assert not listeners.listens(2**22 + 1, tcp=True)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_what_can_not_be_looked_at_is_believed(monkeypatch, number, unix):
    def refused(_pidfd: int, _number: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(kernel, "borrow_descriptor", refused)
    assert listeners.listens(1, tcp=True)


@pytest.mark.parametrize("name", [b"\0a\nx y", b"\0\xff", b"\0 " + b"\n" * 50])
def test_names_of_others_sockets_are_none_of_its_business(unix, name):
    """/proc/net/unix has them as they are."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(name)
        assert not listeners.listens(1, tcp=False)
        unix.listen()
        assert listeners.listens(1, tcp=False)
