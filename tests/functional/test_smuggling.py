"""Nobody is taken for another instance, whatever bytes they send.

What reaches Nova is looked at byte for byte: the stand-in, or a WSGI server,
may forgive what another one takes for a second request.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Instance, Nova, Sandbox, attempts
from sandbox import nova as stand_in
from sandbox.case import Case
from sandbox.strict import read_strictly

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")
# As Neutron's agent sends it.
HOST = f"{stand_in.ADDRESS}:{stand_in.PORT}"


class Cloud:
    """Who attacks, and whom: on its own network and on another one."""

    def __init__(self, case: Case) -> None:
        self.box = case.box
        neutron = case.box.neutron
        near, far = (case.network(name, *SUBNETS) for name in ("near", "far"))
        ports = [
            neutron.create_port(
                network, name=name, project_id=project * 32, addresses=[*what]
            )
            for network, name, project, what in (
                (near, "attacker", "a", ("10.10.0.10", SUBNETS[1])),
                (near, "near", "b", ("10.10.0.11", SUBNETS[1])),
                (far, "far", "c", ("10.10.0.10", SUBNETS[1])),
            )
        ]
        self.attacker, self.near, self.far = case.plug(ports)
        for victim in (self.near, self.far):
            self.box.nova.register(
                victim.instance_id,
                victim.port.project_id,
                user_data=secret_of(victim),
            )

    def victim(self, instance: Instance, *, ipv6: bool) -> attempts.Victim:
        """Return what is known of INSTANCE."""
        return attempts.Victim(
            instance_id=instance.instance_id,
            project_id=instance.port.project_id,
            network=instance.port.network.id,
            address=address_of(instance, ipv6=ipv6),
            signature=self.box.nova.signature(instance.instance_id),
        )

    def identity(
        self, instance: Instance, *, ipv6: bool
    ) -> list[tuple[str, str]]:
        """Return what Nova has to see of INSTANCE, and no more."""
        nova, port = self.box.nova, instance.port
        return [
            ("x-forwarded-for", address_of(instance, ipv6=ipv6)),
            ("x-instance-id", instance.instance_id),
            (
                "x-instance-id-signature",
                nova.signature(instance.instance_id),
            ),
            ("x-tenant-id", port.project_id),
        ]


def address_of(instance: Instance, *, ipv6: bool) -> str:
    return str(instance.port.link_local if ipv6 else instance.port.ip4)


def secret_of(instance: Instance) -> bytes:
    return b"only for " + instance.port.name.encode()


@pytest.fixture(scope="module")
def cloud(module_case: Case) -> Cloud:
    return Cloud(module_case)


@pytest.fixture
def nova(box: Sandbox) -> Iterator[Nova]:
    """Nova's stand-in, as it was once the test is over."""
    yield box.nova
    box.nova.set_status(0)
    box.nova.leave_bodies(leaves=False)


@pytest.mark.parametrize("where", ["near", "far"])
@pytest.mark.parametrize("name", attempts.TABLE)
def test_attempt_is_the_attackers_own_request_or_none(cloud, name, where):
    """By IPv4 against a neighbour, by IPv6 against another network."""
    ipv6 = where == "far"
    victim = getattr(cloud, where)
    data = attempts.fill(attempts.TABLE[name], cloud.victim(victim, ipv6=ipv6))
    nova = cloud.box.nova
    nova.record()
    said = attempts.send(cloud.attacker, data, ipv6=ipv6)
    streams = nova.recorded()
    assert secret_of(victim) not in said
    wanted = cloud.identity(cloud.attacker, ipv6=ipv6)
    for stream in streams:
        for message in read_strictly(stream, HOST):
            assert message.claims() == wanted, message
    assert victim.fetch(str(attempts.USER_DATA, "ascii")).body == secret_of(
        victim
    )


def test_honest_request_is_seen_as_it_is(cloud: Cloud):
    """What the others look at can be looked at."""
    cloud.box.nova.record()
    data = attempts.fill(b"@R@", cloud.victim(cloud.near, ipv6=False))
    said = attempts.send(cloud.near, data, ipv6=False)
    (stream,) = cloud.box.nova.recorded()
    (message,) = read_strictly(stream, HOST)
    assert message.claims() == cloud.identity(cloud.near, ipv6=False)
    assert said.endswith(b"\r\n\r\n" + secret_of(cloud.near))


@pytest.mark.parametrize("status", [101, 200])
@pytest.mark.parametrize(
    "name", [n for n in attempts.TABLE if n.startswith(("tunnel", "upgrade"))]
)
def test_no_tunnel_to_a_server_that_would_open_one(cloud, nova, name, status):
    """A server in front of Nova may say yes to what Nova does not know."""
    victim = cloud.victim(cloud.near, ipv6=False)
    nova.set_status(status)
    nova.record()
    attempts.send(cloud.attacker, attempts.fill(attempts.TABLE[name], victim))
    streams = nova.recorded()
    wanted = cloud.identity(cloud.attacker, ipv6=False)
    for stream in streams:
        for message in read_strictly(stream, HOST):
            assert message.claims() == wanted, message


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"POST /latest/x", id="POST"),
        pytest.param(b"GET /latest/x", id="GET"),
        pytest.param(b"HEAD /latest/x", id="HEAD"),
    ],
)
def test_request_in_a_body_that_is_left_unread_reaches_nobody(
    cloud, nova, head
):
    """Its answer, a little late, would be the next instance's."""
    nova.leave_bodies(leaves=True)
    hidden = b"GET /slow/0.3 HTTP/1.1\r\nHost: m\r\n\r\n"
    length = b"Content-Length: %d" % len(hidden)
    data = head + b" HTTP/1.1\r\nHost: m\r\n" + length + b"\r\n\r\n" + hidden
    for _ in range(3):
        attempts.send(cloud.attacker, data)
        for victim in (cloud.near, cloud.far) * 3:
            answer = victim.fetch()
            assert (answer.status, answer.text) == (200, victim.instance_id)


@pytest.mark.parametrize(
    "name", [n for n in attempts.TABLE if n.startswith("HTTP/2 with")]
)
def test_http_2_is_not_spoken(cloud: Cloud, name: str):
    """Its frames say in other ways what is looked for here in one."""
    victim = cloud.victim(cloud.near, ipv6=False)
    said = attempts.send(
        cloud.attacker, attempts.fill(attempts.TABLE[name], victim)
    )
    assert said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("target: absolute, no path", 400),
        ("target: absolute, no path but a query", 400),
        ("target: odd scheme, an odd host", 400),
        ("target: asterisk", 400),
        ("target: byte 7f", 400),
        ("target: byte a3", 400),
        ("target: fragment", 400),
        ("chunk: trailers", 411),
        ("encoding: two lines, one empty", 411),
        ("encoding: two lines, the first empty", 411),
        ("length: 2 to the 64th", 400),
        ("length: 0 and 2 to the 64th", 400),
    ],
)
def test_refusal_is_told(cloud, name, status):
    """Newer haproxies refuse some of these themselves, with 400."""
    cloud.box.nova.record()
    data = attempts.TABLE[name].removesuffix(b"@R@")
    said = attempts.send(
        cloud.attacker,
        attempts.fill(data, cloud.victim(cloud.near, ipv6=False)),
    )
    streams = cloud.box.nova.recorded()
    if "no path" not in name:  # haproxy 3 makes it "/"
        assert said[:12] in (b"HTTP/1.1 %d" % status, b"HTTP/1.1 400")
        assert b"HTTP/1.1 5" not in said
        assert streams == []
    assert said[9:12] in (b"200", b"400", b"411")


@pytest.mark.parametrize(
    "line",
    [b"Host: other.internal\r\n", b"", b"Host: a:1\r\n"],
    ids=["another", "none", "another port"],
)
@pytest.mark.parametrize(
    "prefix",
    [b"", b"http://other.internal", b"https://a:1", b"file://"],
    ids=["path", "http", "https", "file"],
)
def test_no_other_virtual_host_of_novas_server_is_reached(cloud, line, prefix):
    cloud.box.nova.record()
    said = attempts.send(
        cloud.attacker,
        b"DELETE " + prefix + b"/v3/x?y=1 HTTP/1.1\r\n" + line + b"\r\n",
    )
    streams = cloud.box.nova.recorded()
    assert said[9:10] in (b"2", b"4")
    for stream in streams:
        (message,) = read_strictly(stream, HOST)
        assert message.line == b"DELETE /v3/x?y=1 HTTP/1.1"
    assert streams or prefix
