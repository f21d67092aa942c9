"""What follows from the kernel's lists; the lists are those of a namespace."""

from __future__ import annotations

import ipaddress

import pytest

from ovn_metadata.privsep.namespace import links

MAIN, LOCAL = 254, 255
INDEX, ANOTHER = 2, 3


class Entry(dict[str, object]):
    """A route as pyroute2 gives it."""

    def get_attr(self, name: str) -> object:
        """Return an attribute; None without it."""
        return self.get(name)


def route(cidr: str, table: int, out: int = INDEX) -> Entry:
    """Return the route to CIDR over the link OUT."""
    to, _, size = cidr.partition("/")
    there = {} if size == "0" else {"RTA_DST": to}
    return Entry(table=table, dst_len=int(size), RTA_OIF=out, **there)


@pytest.mark.parametrize(
    ("cidr", "routes", "is_lost"),
    [
        pytest.param(
            "10.0.0.2/24",
            [route("10.0.0.2/32", LOCAL), route("10.0.0.0/24", MAIN)],
            False,
            id="of a subnet",
        ),
        pytest.param(
            "10.0.0.2/24",
            [route("10.0.0.2/32", LOCAL)],
            True,
            id="main was flushed",
        ),
        pytest.param(
            "10.0.0.2/24",
            [route("10.0.0.0/24", MAIN)],
            True,
            id="local was flushed",
        ),
        pytest.param(
            "10.0.0.2/24",
            [route("10.0.0.2/32", LOCAL), route("10.0.0.0/24", MAIN, ANOTHER)],
            True,
            id="over another link",
        ),
        pytest.param(
            "169.254.169.254/32",
            [route("169.254.169.254/32", LOCAL)],
            False,
            id="alone",
        ),
        pytest.param(
            "0.1.2.3/8",
            [route("0.1.2.3/32", LOCAL)],
            False,
            id="the kernel makes none to 0/8",
        ),
        pytest.param(
            "fe80::a9fe:a9fe/128",
            # Its own is over lo while the link is down.
            [
                route("fe80::a9fe:a9fe/128", LOCAL, ANOTHER),
                route("fe80::a9fe:a9fe/128", MAIN),
            ],
            False,
            id="IPv6, alone",
        ),
        pytest.param("fd00::2/64", [], True, id="IPv6, all were flushed"),
    ],
)
def test_an_address_without_its_routes(cidr, routes, is_lost):
    address = ipaddress.ip_interface(cidr)
    lost = links.unrouted(routes, INDEX, [address])
    assert lost == ({address} if is_lost else set())
