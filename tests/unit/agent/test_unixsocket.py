"""Whether a process listens is found out from the socket file itself."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovn_metadata.agent import unixsocket
from ovn_metadata.privsep import kernel

NOBODY = 65534


@pytest.fixture
def path() -> Iterator[Path]:
    """Return a path for a socket, in a folder that others can enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "metadata proxy")


@pytest.fixture(params=["may connect", "may not connect"])
def client(request) -> Iterator[None]:
    """Make the test a client that may connect to sockets here, or may not."""
    if request.param == "may connect":
        yield
        return
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def as_root() -> Iterator[None]:
    before = os.geteuid()
    if before == NOBODY:
        os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.usefixtures("client")
def test_a_socket_is_listened_on_while_it_listens(path):
    assert not unixsocket.is_listening(path)
    with socket.socket(socket.AF_UNIX) as server:
        with as_root():
            server.bind(str(path))
            path.chmod(0o644)
        assert not unixsocket.is_listening(path)
        server.listen()
        assert unixsocket.is_listening(path)
    assert path.exists()
    assert not unixsocket.is_listening(path)


@pytest.mark.usefixtures("client")
def test_a_socket_that_had_the_name_before_does_not_count(path):
    """Nor does one that has the name in another mount namespace."""
    with (
        socket.socket(socket.AF_UNIX) as stranger,
        socket.socket(socket.AF_UNIX) as dead,
    ):
        with as_root():
            stranger.bind(str(path))
            path.rename(path.with_name("elsewhere"))
            dead.bind(str(path))
            path.chmod(0o644)
        stranger.listen()
        dead.close()
        assert not unixsocket.is_listening(path)


def test_a_full_queue_is_one_that_is_listened_on(path):
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as waiting,
    ):
        server.bind(str(path))
        server.listen(0)
        waiting.connect(str(path))
        assert unixsocket.is_listening(path)


def test_a_link_is_not_a_socket(path):
    """Our own link leads to the gateway's socket."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        link = path.with_name("link")
        link.symlink_to(path)
        assert not unixsocket.is_listening(link)


def accept(server: socket.socket, count: int) -> None:
    for _ in range(count):
        server.accept()[0].close()


def connect(client: socket.socket, path: Path) -> None:
    with kernel.closing(os.open(path, os.O_PATH)) as found:
        unixsocket._connect(client, found)


def test_a_client_waits_while_the_queue_is_full(path):
    """Many probes at once: none of them fails."""
    with contextlib.ExitStack() as stack:
        server, *clients = (
            stack.enter_context(socket.socket(socket.AF_UNIX))
            for _ in range(4)
        )
        server.bind(str(path))
        server.listen(0)
        accepting = threading.Timer(0.2, accept, (server, len(clients)))
        accepting.start()
        for client in clients:
            client.settimeout(20)
            connect(client, path)
            assert client.gettimeout() == 20
        accepting.join()


def test_a_client_waits_no_longer_than_its_timeout(path):
    with contextlib.ExitStack() as stack:
        server, first, second = (
            stack.enter_context(socket.socket(socket.AF_UNIX))
            for _ in range(3)
        )
        server.bind(str(path))
        server.listen(0)
        connect(first, path)
        second.settimeout(0.1)
        with pytest.raises(TimeoutError, match="too many clients"):
            connect(second, path)
