"""What the gateway does not pass on to Nova, or not with other requests.

haproxy and a WSGI server must see the same requests in the same bytes, or
one instance's bytes end up in another one's request or answer. Here haproxy
is held to what every server reads alike. The gateway does it for all: what
breaks out of a network's haproxy comes this way too.
"""

from __future__ import annotations

# haproxy 2.6 passes these on; servers end lines at some of them.
_CONTROL = r"req.hdrs -m reg '[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'"
_ENCODED = "req.fhdr(transfer-encoding) -m found"
_CHUNKED = "req.fhdr(transfer-encoding) -m str chunked"
_MALFORMED = "Malformed request."

# Status, reason, condition. haproxy knows more ways to say `chunked` than
# others do, and sends HTTP/1.0 on as that, which has no chunks. CONNECT
# would open a tunnel to Nova; TRACE would tell an instance its signature.
_REFUSED = (
    (400, _MALFORMED, f"{{ {_CONTROL} }}"),
    (400, _MALFORMED, f"{{ {_ENCODED} }} !{{ {_CHUNKED} }}"),
    (400, _MALFORMED, f"{{ {_ENCODED} }} !{{ req.ver 1.1 }}"),
    (400, _MALFORMED, "!{ req.ver 1.0 1.1 }"),
    (405, "No such method.", "{ method CONNECT TRACE }"),
)

# With these a server in front of Nova may open one, to speak HTTP/2.
_REMOVED = ("connection", "upgrade", "http2-settings")

# Of a request behind which no server can see another one: some leave a body
# unread, others know no trailers, or answer `Expect` once too often. That
# would be the next request of the connection, whoever's it is.
PLAIN = (
    "{ method GET } !{ req.fhdr(content-length) -m found } "
    f"!{{ {_ENCODED} }} !{{ req.fhdr(expect) -m found }}"
)


def rules() -> str:
    """Return the lines of the gateway's frontend that refuse and remove."""
    refused = [
        f"    http-request return status {status} content-type text/plain "
        f'string "{reason}\\n" if {condition}'
        for status, reason, condition in _REFUSED
    ]
    removed = [f"    http-request del-header {name}" for name in _REMOVED]
    return "\n".join((*refused, *removed))
