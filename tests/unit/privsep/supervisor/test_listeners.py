"""Which sockets haproxy may be given, and which have come up."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ovn_metadata.privsep.supervisor import listeners
from ovn_metadata.privsep.supervisor.listeners import UnixListener

HERE = os.getpid()


def has_come_up(pid: int) -> bool:
    return listeners.serves(SimpleNamespace(pid=pid))


@pytest.fixture
def unix(tmp_path: Path, monkeypatch) -> UnixListener:
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return UnixListener(tmp_path / "gateway.sock", 0)


# ------------------------------------------------------- made and checked
# A network's are in functional/test_listeners.py.


def test_without_a_descriptor_nothing_is_said_of_a_network():
    """No veth would be found, and a haproxy that is well be replaced."""
    os.close(free := os.dup(0))  # the lowest number that is free
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            listeners.of_network("n", 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_made_fits_until_it_is_shut_down(unix):
    """As a gateway that was broken into may do to what it shares."""
    with unix.make() as made:
        unix.adopt(made)
        assert unix.fits(made)
        made.shutdown(socket.SHUT_RDWR)
        assert not unix.fits(made)


def test_it_fits_no_more_when_its_name_is_gone(unix):
    with unix.make() as made:
        unix.path.unlink()
        assert not unix.fits(made)


def test_it_fits_no_more_when_its_clients_may_not_connect(unix):
    with unix.make() as made:
        unix.path.chmod(0o600)
        assert not unix.fits(made)


def test_one_with_another_name_does_not_fit(unix, tmp_path):
    other = UnixListener(tmp_path / "other", 0)
    with unix.make(), other.make() as made:
        assert not unix.fits(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="setuid needs root")
def test_another_users_socket_does_not_fit(unix):
    """Its path is the same in a mount namespace of that user."""
    with unix.make() as made:
        assert unix.fits(made)
        os.seteuid(4711)
        try:
            made.listen()  # it is that user's from now on
        finally:
            os.seteuid(0)
        assert not unix.fits(made)


def test_an_earlier_ones_name_is_replaced_at_once(unix):
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.bind(str(unix.path))
        with unix.make() as made:
            assert unix.fits(made)
            assert [*unix.path.parent.iterdir()] == [unix.path]


# ------------------------------------------------------------------- seen
# What is lent is in functional/test_listeners.py.


@pytest.fixture
def stats(tmp_path, monkeypatch) -> Iterator[socket.socket]:
    """Give a socket as haproxy makes it: in its folder, by a name for now."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"stats.sock.{HERE}.tmp")
        yield made


def test_a_haproxy_has_come_up_once_its_own_socket_listens(stats):
    assert not has_come_up(HERE)
    stats.listen()
    assert has_come_up(HERE)
    stats.close()
    assert not has_come_up(HERE)


def test_what_it_was_given_does_not_count(unix):
    """The gateway is started with a socket that listens already."""
    with unix.make():
        assert not has_come_up(HERE)


def test_its_predecessors_does_not_count(stats):
    """It is in the same namespace, and still serves."""
    stats.listen()
    assert not has_come_up(os.getppid())


def test_process_that_ended_has_nothing():
    assert not has_come_up(2**22 + 1)


@pytest.mark.parametrize("name", [b"\0a\nx y", b"\0\xff", b"\0 " + b"\n" * 50])
def test_names_of_others_sockets_are_none_of_its_business(stats, name):
    """/proc/net/unix has them as they are."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(name)
        assert not has_come_up(HERE)
        stats.listen()
        assert has_come_up(HERE)
