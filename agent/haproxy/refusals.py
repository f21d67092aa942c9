"""Requests that the gateway refuses, and what it passes on of the others.

haproxy and a WSGI server must see the same requests in the same bytes.
Otherwise bytes of one instance get into the request or the answer of another.
These rules accept only what every server reads in the same way. They are in
the gateway: an instance that breaks out of a network's haproxy still has to
pass it.
"""

from . import answers

# A request's id, in its answer, in both haproxies' logs and at Nova; and W3C's
# header with the same digits.
REQUEST_ID = "X-OpenStack-Request-ID"
TRACE = "traceparent"
# haproxy 2.6 passes these on, and some servers end a line at some of them. A
# pattern that begins with a single range of characters costs the least.
_CONTROL = r"req.hdrs -m reg '[^ -~](?<![\t\r\n\x80-\xff])'"
# The origin form of any target: visible ASCII, no fragment.
_ORIGIN = r"pathq -m reg '^/[\x21\x22\x24-\x7e]*$'"
_BODY = "{ var(txn.length) -m found }"
_DIGITS = "'^[0-9]{1,10}$'"
_ENCODED = "req.fhdr(transfer-encoding) -m found"
_MALFORMED = "Malformed request."

# Status, reason, condition. CONNECT would open a tunnel to Nova; TRACE would
# show an instance its signature. Some servers take trailers for headers, and
# servers differ in which spellings of "chunked" they accept. haproxy 2.6 takes
# a length of 2^64 for 0.
_REFUSED = (
    (405, "No such method.", "{ method CONNECT TRACE }"),
    (400, _MALFORMED, f"!{{ {_ORIGIN} }}"),
    (400, _MALFORMED, f"{{ {_CONTROL} }}"),
    (400, _MALFORMED, "!{ req.ver 1.0 1.1 }"),
    (411, "Send Content-Length.", f"{{ {_ENCODED} }}"),
    (400, _MALFORMED, f"{_BODY} {{ req.fhdr_cnt(content-length) gt 1 }}"),
    (400, _MALFORMED, f"{_BODY} !{{ var(txn.length) -m reg {_DIGITS} }}"),
)

# Nova reads the first four, and no other: Neutron's agent sends these alone.
# HTTP needs the next one; the last two are of our own making. haproxy has no
# rule that removes all headers except some, so the pattern matches all others.
_KEPT = (
    "x-forwarded-for",
    "x-instance-id",
    "x-instance-id-signature",
    "x-tenant-id",
    "content-length",
    REQUEST_ID.lower(),
    TRACE,
)
_OTHERS = f"'^(?!{'|'.join(f'{name}$' for name in _KEPT)})'"

# The condition for a request after which the connection may be shared. Some
# servers leave a body unread. They would read it as the next request on the
# connection, which may be another instance's.
PLAIN = f"{{ method GET }} !{_BODY}"


def rules(host: str) -> list[str]:
    """Return the gateway's rules; Nova gets HOST as the header Host.

    Otherwise an instance could reach another virtual host of Nova's server.
    The target's host is removed first: haproxy answers 500 where it can't
    write the new host into the target.
    """
    return [
        "http-request set-var(txn.length) req.fhdr(content-length)",
        *(
            answers.refuse(status, reason, f"if {condition}")
            for status, reason, condition in _REFUSED
        ),
        "http-request set-uri %[pathq] unless { url -m beg / }",
        f"http-request del-header {_OTHERS} -m reg",
        f"http-request add-header Host {host}",
    ]
