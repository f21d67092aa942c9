"""Read what reached Nova byte for byte, and accept no doubtful form."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(_TOKEN + rb" /[\x21\x22\x24-\x7e]* HTTP/1\.[01]")
_FIELD = re.compile(rb"(" + _TOKEN + rb"): ?([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile("[0-9]{1,10}")
# As docs/explanation/data-path.md lists them; haproxy adds `connection`.
IDENTITY = (
    "x-forwarded-for",
    "x-instance-id",
    "x-instance-id-signature",
    "x-tenant-id",
)
# What our haproxies make anew for each request.
MADE = {
    "traceparent": re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-01"),
    "x-openstack-request-id": re.compile(
        "req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    ),
}
_HEADERS = {*IDENTITY, *MADE, "connection", "content-length", "host"}


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A request as it reached Nova."""

    line: bytes
    fields: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return the values of the header NAME."""
        return [value for key, value in self.fields if key == name]

    def is_last(self) -> bool:
        """Tell whether its connection ends after it."""
        kept = self.line.endswith(b"1.1") or self.values("connection") != []
        return not kept or self.values("connection") == ["close"]

    def claims(self) -> list[tuple[str, str]]:
        """Return the headers of identity, sorted."""
        return sorted(pair for pair in self.fields if pair[0] in IDENTITY)


def read_strictly(stream: bytes, host: str) -> Iterator[Message]:
    """Yield the requests in STREAM, in whose form there can be no doubt.

    Each is for HOST, and has nothing that another server may read in another
    way. One with a body is alone in STREAM and may lack the rest of it.
    """
    for number in itertools.count():
        if not stream:
            return
        head, end, stream = stream.partition(b"\r\n\r\n")
        assert end, f"not the end of a head: {head!r}"
        line, *lines = head.split(b"\r\n")
        assert _LINE.fullmatch(line), line
        pairs = [_FIELD.fullmatch(field) for field in lines]
        assert None not in pairs, lines
        fields = [
            (pair[1].decode().lower(), pair[2].decode("latin-1"))
            for pair in pairs
            if pair is not None
        ]
        message = Message(line, fields)
        assert {name for name, _ in fields} <= _HEADERS, fields
        assert message.values("host") == [host], fields
        for name, shape in MADE.items():
            (value,) = message.values(name)
            assert shape.fullmatch(value), fields
        lengths = message.values("content-length")
        if lengths or not line.startswith(b"GET "):
            # Whatever a server makes of the rest, nobody comes behind it.
            assert number == 0, "shares its connection"
            assert message.is_last(), fields
            (length,) = lengths or ["0"]
            assert _LENGTH.fullmatch(length), length
            assert len(stream) <= int(length), stream
            stream = b""
        if message.is_last():
            assert stream == b"", "goes on after its end"
        yield message
