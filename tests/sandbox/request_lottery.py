"""Generate random requests that no client would send, from a seed.

Each is one of `attempts.TABLE`, mutated, or a request put together from parts
that servers read differently.
"""

from __future__ import annotations

import random

from . import attempts

_METHODS = (b"GET", b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"DELETE")
_ODD_METHODS = (b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"get", b"G\tET")
_TARGETS = (b"@P@", b"@P@", b"/latest/x?a=b", b"/", b"//m@P@", b"/a%00b")
_ODD_TARGETS = (
    *(b"http://other.internal@P@", b"http://m", b"http://m?@P@", b"*"),
    *(b"file:///x", b"s://]u/:", b"m:80", b"x", b"https://a@b:1@P@", b""),
    *(b"/\x7f", b"/\x80", b"/\xa3", b"/\xff", b"/a#b", b"/a b", b"\\x"),
)
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")
_ODD_VERSIONS = (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"")
_HOSTS = (b"Host: m\r\n", b"Host: other.internal\r\n", b"Host: m:80\r\n")
_ODD_HOSTS = (b"", b"Host: m\r\nHost: n\r\n", b"Host: m,n\r\n", b"Host:\r\n")
_HEADERS = (
    b"Accept: */*",
    b"Connection: keep-alive",
    b"Connection: close, X-Instance-ID",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"Trailer: X-Instance-ID",
    b"Upgrade: h2c",
    b"SCRIPT_NAME: /x",
    b"Proxy: http://@A@:1",
    b"-Forwarded: for=@A@",
    b"True-Client-IP: @A@",
    b"Authorization: Basic YTpi",
    b"Cookie: a=b",
    b"X_Instance_ID: @I@",
    b"HTTP_X_INSTANCE_ID: @I@",
    b"X-Instance-ID: @I@",
    b"X-Metadata-Provider: @I@",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer_Encoding: chunked",
    b"Content-Length: 0",
    b"Content-Length: 4",
    b"Content-Length: @L@",
    b"Content-Length: 0, 18446744073709551616",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: 4294967296",
    b"Content-Length: +4",
    b"Content-Length: 04",
    b"Content_Length: @L@",
)
_BODIES = (
    b"",
    b"abcd",
    b"@R@",
    b"0\r\n\r\n@R@",
    b"0\r\n@F@\r\n",
    b"4\r\nabcd\r\n0\r\n@F@\r\n@R@",
    b"@X@\r\n@R@\r\n0\r\n\r\n",
    b"4;a=b\nabcd\r\n0\r\n\r\n@R@",
)
_LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\0\r\n", b"\x0b\r\n", b"\r\n ")
_PIECES = (b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b"\x7f", b"0")
_TABLE = list(attempts.TABLE.values())


def draw(lottery: random.Random) -> bytes:
    """Return the next template, to be filled by `attempts.fill`."""
    kind = lottery.random()
    if kind < 0.3:
        return _mutated(lottery, lottery.choice(_TABLE))
    if kind < 0.4:
        return _put_together(lottery) + _put_together(lottery)
    if kind < 0.6:
        return _mutated(lottery, _put_together(lottery))
    return _put_together(lottery)


def _put_together(lottery: random.Random) -> bytes:
    def one_of(usual: tuple[bytes, ...], odd: tuple[bytes, ...]) -> bytes:
        return lottery.choice(odd if lottery.random() < 0.15 else usual)

    line = b" ".join(
        (
            one_of(_METHODS, _ODD_METHODS),
            one_of(_TARGETS, _ODD_TARGETS),
            one_of(_VERSIONS, _ODD_VERSIONS),
        )
    )
    headers = lottery.choices(_HEADERS, k=lottery.randrange(5))
    ends = [one_of((b"\r\n",), _LINE_ENDS) for _ in headers]
    lines = b"".join(map(bytes.__add__, headers, ends))
    forged = b"@F@" if lottery.random() < 0.5 else b""
    parts = [one_of(_HOSTS, _ODD_HOSTS), lines, forged]
    lottery.shuffle(parts)
    body = lottery.choice(_BODIES)
    return line + b"\r\n" + b"".join(parts) + b"\r\n" + body


def _mutated(lottery: random.Random, template: bytes) -> bytes:
    """Return TEMPLATE with some bytes put in, taken out, doubled, changed."""
    data = bytearray(template)
    for _ in range(lottery.randrange(1, 4)):
        at = lottery.randrange(len(data) + 1)
        end = min(len(data), at + lottery.choice((1, 1, 2, 8, 40)))
        kind = lottery.randrange(4)
        if kind == 0:
            data[at:at] = lottery.choice(_PIECES)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        else:
            data[at:end] = lottery.randbytes(min(2, end - at))
    return bytes(data)
