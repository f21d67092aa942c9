"""Requests that the gateway refuses, or sends on a connection of their own.

haproxy and a WSGI server must see the same requests in the same bytes.
Otherwise bytes of one instance get into the request or the answer of another.
These rules accept only what every server reads in the same way. They are in
the gateway: an instance that breaks out of a network's haproxy still has to
pass it.
"""

from __future__ import annotations

# haproxy 2.6 passes these on; some servers end a line at some of them.
_CONTROL = r"req.hdrs -m reg '[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'"
_ENCODED = "req.fhdr(transfer-encoding) -m found"
_CHUNKED = "req.fhdr(transfer-encoding) -m str chunked"
_MALFORMED = "Malformed request."

# Status, reason, condition. haproxy accepts more spellings of `chunked` than
# other servers do, and passes it on in HTTP/1.0, which has no chunks. CONNECT
# would open a tunnel to Nova; TRACE would show an instance its signature.
_REFUSED = (
    (400, _MALFORMED, f"{{ {_CONTROL} }}"),
    (400, _MALFORMED, f"{{ {_ENCODED} }} !{{ {_CHUNKED} }}"),
    (400, _MALFORMED, f"{{ {_ENCODED} }} !{{ req.ver 1.1 }}"),
    (400, _MALFORMED, "!{ req.ver 1.0 1.1 }"),
    (405, "No such method.", "{ method CONNECT TRACE }"),
)

# With these headers a server in front of Nova may switch to HTTP/2.
_REMOVED = ("connection", "upgrade", "http2-settings")

# The condition for a request after which the connection may be shared. Some
# servers leave a body unread, do not know trailers, or answer `Expect` twice.
# They would read the rest as the next request on the connection, which may be
# another instance's.
PLAIN = (
    "{ method GET } !{ req.fhdr(content-length) -m found } "
    f"!{{ {_ENCODED} }} !{{ req.fhdr(expect) -m found }}"
)


def rules() -> str:
    """Return the gateway's rules that refuse requests and remove headers."""
    refused = [
        f"    http-request return status {status} content-type text/plain "
        f'string "{reason}\\n" if {condition}'
        for status, reason, condition in _REFUSED
    ]
    removed = [f"    http-request del-header {name}" for name in _REMOVED]
    return "\n".join((*refused, *removed))
