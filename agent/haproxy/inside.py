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
# The value of the header `unknown.ASKED` that makes the gateway answer it.
ALIVE = "alive"
SOURCE = f"{{ src {names.METADATA_ADDRESS_V4} {names.METADATA_ADDRESS_V6} }}"
CONDITION = "{ var(sess.inside) -m found }"
