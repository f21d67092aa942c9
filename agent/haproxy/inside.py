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
# The value of the header that makes the gateway answer.
_ALIVE = "alive"
CONDITION = "{ var(sess.inside) -m found }"
SILENT = f"http-request set-log-level silent if {CONDITION}"


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


def alive_rule(header: str) -> str:
    """Return a network's rule that makes the gateway answer, by HEADER."""
    condition = f"if {CONDITION} {{ path {ALIVE_PATH} }}"
    return f"http-request set-header {header} {_ALIVE} {condition}"


def gateway_rule(value: str) -> str:
    """Return the gateway's rule; VALUE is that of the header."""
    answer = 'status 200 content-type text/plain string "ok\\n"'
    return f"http-request return {answer} if {{ {value} -m str {_ALIVE} }}"
