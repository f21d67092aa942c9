"""Who listens on a path is asked of the kernel, not of the file there."""

from __future__ import annotations

import socket

from ovn_metadata.agent import unixsocket


def test_a_socket_is_listened_to_while_it_listens(tmp_path):
    path = tmp_path / "metadata proxy"
    assert not unixsocket.is_listening(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert not unixsocket.is_listening(path)
        server.listen()
        assert unixsocket.is_listening(path)
        assert not unixsocket.is_listening(tmp_path / "metadata")
    assert path.exists()
    assert not unixsocket.is_listening(path)
