"""Rules for requests that the agent sends from inside a network's namespace.

So it learns what an instance would get, through the listener, the map and all
rules. Such a connection comes from the metadata address itself, which no
instance can have: the kernel takes an IPv4 packet from its own address for a
martian, and sends the answer to an IPv6 one to itself. The PROXY header names
the instance in whose place the agent asks. Nothing of it is counted, limited
or logged.
"""

from ...privsep import names

# The gateway answers this path itself, but only from inside.
ALIVE_PATH = "/ovn-metadata/alive"
# No instance can set it: what begins with X- is removed before.
_ALIVE = "X-OVN-Metadata-Alive"
CONDITION = "{ var(sess.inside) -m found }"


def connection_rules() -> list[str]:
    """Return the rules of a network's haproxy that come before all limits."""
    source = (
        f"{{ src {names.METADATA_ADDRESS_V4} {names.METADATA_ADDRESS_V6} }}"
    )
    return [
        f"tcp-request connection set-var(sess.inside) bool(true) if {source}",
        f"tcp-request connection expect-proxy layer4 if {source}",
        f"tcp-request connection accept if {source}",
    ]


def request_rules() -> list[str]:
    """Return the rules of a network's haproxy after the removal of headers."""
    return [
        f"http-request set-log-level silent if {CONDITION}",
        f"http-request set-header {_ALIVE} yes "
        f"if {CONDITION} {{ path {ALIVE_PATH} }}",
    ]


def gateway_rules() -> list[str]:
    """Return the gateway's rules; they come before all that count."""
    alive = "if { var(txn.alive) -m found }"
    return [
        f"http-request set-var(txn.alive) req.hdr({_ALIVE})",
        f"http-request set-log-level silent {alive}",
        f"http-request return status 200 content-type text/plain "
        f'string "ok\\n" {alive}',
    ]
