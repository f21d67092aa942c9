"""What the streams hand to the library: whole characters."""

from __future__ import annotations

import errno
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ovs import jsonrpc
from ovs.stream import Stream

from ovn_metadata.agent.ovsdb import streams  # noqa: F401 # registers them

KINDS = ("tcp", "ssl", "unix")
# A network's name is its project's choice.
MESSAGE = '{"id":null,"method":"update3","params":["réseau 网络 🛰"]}'


class Parts:
    """A socket from which PARTS arrive, with nothing in between."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def recv(self, _size: int) -> bytes:
        if not self._parts:
            return b""
        part = self._parts.pop(0)
        if not part:
            raise BlockingIOError(errno.EAGAIN, "nothing yet")
        return part

    def shutdown(self, _how: int) -> None:
        pass

    def close(self) -> None:
        pass


def connection(kind: str, parts: list[bytes]) -> jsonrpc.Connection:
    """Return the library's connection, to which PARTS come one by one."""
    made = Stream._find_method(f"{kind}:x")
    stream = made(Parts(parts), kind, 0)
    stream._secured = True  # of TLS
    return jsonrpc.Connection(stream)


def received(link: jsonrpc.Connection) -> list[object]:
    """Return the parameters of all messages until the connection ends."""
    found: list[object] = []
    while not link.get_status():
        _, message = link.recv()
        if message is not None:
            found.append(message.params)
    assert link.get_status() == jsonrpc.EOF
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.lists(st.integers(1, 2 * len(MESSAGE.encode()))))
def test_a_message_may_arrive_in_any_parts(kind, cuts):
    data = 2 * MESSAGE.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts: list[bytes] = []
    for begin, end in itertools.pairwise(places):
        parts += [data[begin:end], b""]
    assert received(connection(kind, parts)) == 2 * [["réseau 网络 🛰"]]


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_text_end_the_connection(kind):
    link = connection(kind, [b'{"id":null,"method":"\xff', b""])
    assert link.recv() == (errno.EILSEQ, None)
