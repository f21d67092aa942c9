"""Nobody is taken for another instance, whatever bytes they send.

What reaches Nova is looked at byte for byte: the stand-in, or a WSGI server,
may forgive what another one takes for a second request.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator

import pytest

from sandbox import Instance, Nova, Sandbox, attempts
from sandbox.case import Case

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]")
_FIELD = re.compile(rb"(" + _TOKEN + rb"): ?([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}")


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A request as it reached Nova."""

    line: bytes
    fields: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return the values of the header NAME."""
        return [value for key, value in self.fields if key.lower() == name]

    def is_plain(self) -> bool:
        """Tell whether every server sees its end where its head ends."""
        names = {name.lower() for name, _ in self.fields}
        odd = {"content-length", "transfer-encoding", "expect"}
        return self.line.startswith(b"GET ") and not names & odd

    def claims(self) -> list[tuple[str, str]]:
        """Return what some server takes for a header of identity.

        As its name is folded: any sign is a `_`, in capital letters.
        """
        return sorted(
            (folded, value)
            for name, value in self.fields
            if (folded := folded_name(name)).startswith("X_")
            or folded == "FORWARDED"
        )


def folded_name(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper()).lstrip("_")


def read_strictly(stream: bytes) -> Iterator[Message]:
    """Yield the requests in STREAM, in whose form there can be no doubt.

    None has anything that another server may read in another way. One with
    a body is alone in STREAM and may lack the rest of it.
    """
    for number in itertools.count():
        if not stream:
            return
        head, end, stream = stream.partition(b"\r\n\r\n")
        assert end, f"not the end of a head: {head!r}"
        line, *lines = head.split(b"\r\n")
        assert _LINE.fullmatch(line), line
        pairs = [_FIELD.fullmatch(field) for field in lines]
        assert None not in pairs, lines
        fields = [
            (pair[1].decode(), pair[2].decode("latin-1"))
            for pair in pairs
            if pair is not None
        ]
        message = Message(line, fields)
        if not message.is_plain():
            # Whatever a server makes of the rest, nobody comes behind it.
            assert number == 0, "shares its connection"
            assert message.values("connection") == ["close"]
            _check_body(message, stream)
            stream = b""
        yield message


def _check_body(message: Message, stream: bytes) -> None:
    """Check that STREAM is the body of MESSAGE or the begin of it."""
    lengths = message.values("content-length")
    if message.values("transfer-encoding"):
        assert message.values("transfer-encoding") == ["chunked"]
        assert lengths == []
        _check_chunks(stream)
    elif lengths:
        (length,) = lengths
        assert re.fullmatch("[0-9]{1,18}", length), length
        assert len(stream) <= int(length)
    else:
        assert stream == b""


def _check_chunks(stream: bytes) -> None:
    while stream:
        size, _, rest = stream.partition(b"\r\n")
        assert _CHUNK.fullmatch(size), size
        if int(size, 16) == 0:
            trailers = rest.removesuffix(b"\r\n").split(b"\r\n")
            assert all(_FIELD.fullmatch(line) for line in trailers if line)
            return
        stream = rest[int(size, 16) :]
        assert stream[:2] == b"\r\n"[: len(stream)], stream
        stream = stream[2:]


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
            ("X_FORWARDED_FOR", address_of(instance, ipv6=ipv6)),
            ("X_INSTANCE_ID", instance.instance_id),
            (
                "X_INSTANCE_ID_SIGNATURE",
                nova.signature(instance.instance_id),
            ),
            ("X_OVN_NETWORK_ID", port.network.id),
            ("X_TENANT_ID", port.project_id),
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
        for message in read_strictly(stream):
            assert message.claims() == wanted, message
            names = [key.lower() for key, _ in message.fields]
            assert "upgrade" not in names
    assert victim.fetch(str(attempts.USER_DATA, "ascii")).body == secret_of(
        victim
    )


def test_honest_request_is_seen_as_it_is(cloud: Cloud):
    """What the others look at can be looked at."""
    cloud.box.nova.record()
    data = attempts.fill(b"@R@", cloud.victim(cloud.near, ipv6=False))
    said = attempts.send(cloud.near, data, ipv6=False)
    (stream,) = cloud.box.nova.recorded()
    (message,) = read_strictly(stream)
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
        for message in read_strictly(stream):
            assert message.claims() == wanted, message


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"POST /latest/x", id="POST"),
        pytest.param(b"GET /latest/x", id="GET"),
        pytest.param(b"HEAD /latest/x", id="HEAD"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_request_in_a_body_that_is_left_unread_reaches_nobody(
    cloud, nova, head, chunked
):
    """Its answer, a little late, would be the next instance's."""
    nova.leave_bodies(leaves=True)
    hidden = b"GET /slow/0.3 HTTP/1.1\r\nHost: m\r\n\r\n"
    length = b"Content-Length: %d" % len(hidden)
    if chunked:
        length = b"Transfer-Encoding: chunked"
        hidden = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
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
