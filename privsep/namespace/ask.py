"""Entrypoint: a request from inside a network's namespace, as an instance."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Mapping

from .. import kernel, names, validate
from ..context import entrypoint
from ..errors import AskError

_MAX_HEAD = 8 * 1024
_MAX_BODY = 4 * 1024 * 1024
# On one host; longer means that packets are lost.
_CONNECT_S = 2
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


@entrypoint(subject=None)
def ask(
    network: str, *, source: str, path: str, timeout_s: int
) -> Mapping[str, object]:
    """Get PATH from the metadata address of NETWORK, as SOURCE would.

    Of the two addresses it is the one of SOURCE's family. A connection from
    that address itself can only be ours, so haproxy expects a PROXY header
    on it, which names SOURCE. The body is counted and not returned: it may
    have an instance's secrets.

    Returns `status`, `head` (status line and headers), `body_bytes`,
    `connect_ms` and `answer_ms` (to the first byte). Raises AskError with the
    reason, InvalidArgumentError.
    """
    network = validate.network(network)
    source = validate.address(source)
    path = validate.url_path(path)
    timeout_s = validate.seconds(timeout_s)
    target = names.metadata_address(source)
    begun = time.monotonic()
    try:
        with _connected(network, target, source) as connection:
            connected = time.monotonic()
            connection.sendall(_request(source, target, path))
            left_s = begun + timeout_s - connected
            head, body, answered = _read(connection, left_s)
    except TimeoutError:
        raise AskError(f"no connection within {_CONNECT_S} s") from None
    except OSError as error:
        raise AskError(error.strerror or str(error)) from None
    found = _STATUS.match(head)
    if found is None:
        raise AskError("the connection is closed without an answer")
    return {
        "status": int(found[1]),
        "head": head.decode("latin-1"),
        "body_bytes": body,
        "connect_ms": round((connected - begun) * 1000, 1),
        "answer_ms": round((answered - connected) * 1000, 1),
    }


@contextlib.contextmanager
def _connected(
    network: str, target: str, source: str
) -> Iterator[socket.socket]:
    """Give a connection from TARGET to TARGET in NETWORK's namespace.

    Raises AskError if answers to SOURCE would have no route.
    """
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    scope: tuple[int, ...] = ()
    namespace = kernel.open_namespace(network)
    # A socket stays in the namespace in which it was made.
    with kernel.closing(namespace), kernel.entered(namespace):
        if family == socket.AF_INET6:
            scope = 0, socket.if_nametoindex(names.inner_veth(network))
        with socket.socket(family, socket.SOCK_DGRAM) as way_back:
            way_back.bind((target, 0, *scope))
            try:  # our own packets go over lo; this sends none
                way_back.connect((source, names.METADATA_PORT, *scope))
            except OSError as error:
                raise AskError(
                    f"no route to answer it: {error.strerror}"
                ) from None
        connection = socket.socket(family, socket.SOCK_STREAM)
    with connection:
        connection.settimeout(_CONNECT_S)
        connection.bind((target, 0, *scope))
        connection.connect((target, names.METADATA_PORT, *scope))
        yield connection


def _request(source: str, target: str, path: str) -> bytes:
    """Return the PROXY header, version 1, and the request."""
    family = "TCP6" if ":" in source else "TCP4"
    port = names.METADATA_PORT  # the client's is of no meaning
    host = f"[{target}]" if ":" in target else target
    lines = (
        f"PROXY {family} {source} {target} {port} {port}",
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: ovn-metadata-agent",
        "Accept: */*",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _read(
    connection: socket.socket, timeout_s: float
) -> tuple[bytes, int, float]:
    """Return the head, the size of the body, and when the answer began."""
    head, body, begun, in_body = b"", 0, 0.0, False
    try:
        for part in kernel.received(connection, timeout_s):
            begun = begun or time.monotonic()
            if in_body:
                body += len(part)
            else:
                head, end, rest = (head + part).partition(b"\r\n\r\n")
                in_body, body = bool(end), len(rest)
            if body >= _MAX_BODY or len(head) > _MAX_HEAD:
                break
    except TimeoutError:
        raise AskError("no answer in time") from None
    return head[:_MAX_HEAD], body, begun
