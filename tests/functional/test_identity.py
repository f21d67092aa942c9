"""Every instance is itself, whatever its address and whatever it claims."""

from __future__ import annotations

import json
import uuid

import pytest

from sandbox import Instance, Response, Sandbox, wait_for
from sandbox.case import Case, wait_served
from sandbox.strict import MADE

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")
ROUTED, ISOLATED = "routed", "isolated"


class Cloud:
    """Two networks with the same addresses, two instances on each."""

    def __init__(self, case: Case) -> None:
        neutron = case.box.neutron
        self.networks = {
            ROUTED: case.network(ROUTED, *SUBNETS, gateway=True),
            ISOLATED: case.network(ISOLATED, *SUBNETS),
        }
        self.router = neutron.create_router("r1", [self.networks[ROUTED]])
        ports = [
            neutron.create_port(
                network,
                name=f"{name}-{number}",
                addresses=[f"10.10.0.{10 + number}", SUBNETS[1]],
            )
            for name, network in self.networks.items()
            for number in (0, 1)
        ]
        # Of the routed network alone: not an address of the isolated one.
        self.only_routed = neutron.create_port(
            self.networks[ROUTED], name="alone", addresses=["10.10.0.50"]
        )
        *pairs, alone = case.plug([*ports, self.only_routed])
        wait_served(*pairs, ipv6=True)
        self.instances = {made.port.name: made for made in pairs}
        self.alone = alone

    def of(self, network: str) -> list[Instance]:
        """Return the two instances of NETWORK."""
        return [self.instances[f"{network}-{number}"] for number in (0, 1)]


@pytest.fixture(scope="module")
def cloud(module_case: Case):
    made = Cloud(module_case)
    yield made
    module_case.box.neutron.delete_router(made.router)


@pytest.fixture(scope="module")
def stranger(cloud, module_case):
    """Plug an instance on the isolated network, port security off."""
    port = module_case.box.neutron.create_port(
        cloud.networks[ISOLATED], name="stranger", port_security=False
    )
    (made,) = module_case.plug([port])
    return made


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("network", [ROUTED, ISOLATED])
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_gets_its_own_instance_id(cloud, network, number, ipv6):
    """Same addresses on both networks: nobody gets another's metadata."""
    instance = cloud.instances[f"{network}-{number}"]
    for _ in range(5):
        answer = instance.fetch(ipv6=ipv6)
        assert (answer.status, answer.text) == (200, instance.instance_id)
    data = instance.fetch("/openstack/latest/meta_data.json", ipv6=ipv6)
    own = {
        "uuid": instance.instance_id,
        "project_id": instance.port.project_id,
        "name": instance.port.name,
    }
    told = json.loads(data.body)
    assert {key: told[key] for key in own} == own


def test_real_curl_reaches_the_link_local_address(cloud):
    """As cloud-init writes it: [fe80::a9fe:a9fe%25eth0]."""
    instance = cloud.of(ISOLATED)[0]
    url = "http://[fe80::a9fe:a9fe%25eth0]/latest/meta-data/instance-id"
    assert instance.curl(url, "-m", "10") == instance.instance_id


def nobodys(instance: Instance, source: str) -> Response:
    """Return the answer that SOURCE is nobody's, once INSTANCE gets it.

    It is 503 while the agent is too slow to be sure.
    """

    def told() -> Response | None:
        answer = instance.fetch(source=source, ipv6=":" in source, timeout=20)
        assert answer.status in (404, 503)
        return answer if answer.status == 404 else None

    answer = wait_for(told, timeout_s=60, what=f"404 for {source}")
    assert answer is not None
    return answer


def test_unknown_ipv4_address_gets_404(stranger):
    """Port security off, an address taken by hand: nobody's."""
    answer = nobodys(stranger, stranger.take("10.10.0.99"))
    assert answer.headers.get_content_type() == "text/plain"
    assert b"address" in answer.body


def test_unknown_link_local_address_gets_404_soon(stranger):
    """Stable-privacy addresses are no EUI-64; cloud-init asks v6 first."""
    source = stranger.take("fe80::1234")
    assert any(nobodys(stranger, source).seconds < 4 for _ in range(5))


def test_address_of_another_network_gets_404(cloud, stranger):
    """10.10.0.50 is an instance of the routed network, not of this one."""
    assert cloud.alone.fetch().text == cloud.alone.instance_id
    nobodys(stranger, stranger.take("10.10.0.50"))


def test_ipv6_address_with_an_ipv4_one_in_it_is_another(box, case: Case):
    """6to4: as an address, haproxy would take it for 10.10.0.77."""
    six = "2002:a0a:4d::/64"
    network = case.network("six", "10.10.0.0/24", six)
    victim = box.neutron.create_port(network, addresses=["10.10.0.77"])
    thief = box.neutron.create_port(
        network, addresses=[six], port_security=False, project_id="f" * 32
    )
    box.plug([victim])
    (instance,) = box.plug([thief])
    own = str(thief.ip6)

    def served() -> bool:
        answer = instance.fetch(source=own, ipv6=True, timeout=2)
        return answer.text == instance.instance_id

    wait_for(served, timeout_s=60, what="its own metadata")
    nobodys(instance, instance.take("2002:a0a:4d::99"))


def test_taken_neighbours_address_gets_no_answer(cloud, stranger):
    """Answers go to the true owner's MAC only; it goes on unharmed."""
    victim = cloud.of(ISOLATED)[0]
    source = stranger.take(str(victim.port.ip4))
    with pytest.raises(OSError, match="timed out"):
        stranger.fetch(source=source, timeout=1.5)
    stranger.execute("ip", "address", "del", f"{source}/32", "dev", "eth0")
    wait_served(victim)


def test_address_of_two_ports_is_nobodys(box: Sandbox, case: Case):
    """Claimed twice: 404 for both, named by agent-status."""
    network = case.network("twice")
    ports = [
        box.neutron.create_port(
            network, addresses=["10.10.0.7"], port_security=False
        )
        for _ in range(2)
    ]
    third = box.neutron.create_port(network, addresses=["10.10.0.8"])
    first, _, other = box.plug([*ports, third])
    wait_served(other)
    # Its own address has no true MAC.
    nobodys(first, first.take("10.10.0.66"))
    said = f"10.10.0.7 claimed by ports {min(p.id for p in ports)}"
    wait_for(
        lambda: said in box.agent.status().stdout,
        timeout_s=60,
        what="the two ports in agent-status",
    )
    assert other.fetch().text == other.instance_id


# ------------------------------------------------------------ forgeries


def spellings(name: str) -> list[str]:
    """Return NAME in ways that HTTP and WSGI servers hold for the same."""
    under = name.replace("-", "_")
    one = name.replace("-", "_", 1)
    return list(
        dict.fromkeys(
            (name, name.lower(), name.upper(), under, under.upper(), one)
        )
    )


def forged(victim: Instance, signature: str) -> dict[str, str]:
    """Return what would make a naive proxy speak for VICTIM."""
    return {
        "X-Instance-ID": victim.instance_id,
        "X-Instance-ID-Signature": signature,
        "X-Tenant-ID": victim.port.project_id,
        "X-Forwarded-For": str(victim.port.ip4),
        "X-OVN-Network-ID": victim.port.network.id,
        "X-Neutron-Router-ID": victim.port.network.id,
        "X-Metadata-Provider": victim.port.network.id,
        "X-Metadata-Provider-Signature": signature,
        "X-Real-IP": str(victim.port.ip4),
        "Forwarded": f"for={victim.port.ip4}",
    }


NAMES = (
    "X-Instance-ID",
    "X-Instance-ID-Signature",
    "X-Tenant-ID",
    "X-Forwarded-For",
    "X-OVN-Network-ID",
    "X-Neutron-Router-ID",
    "X-Metadata-Provider",
    "X-Metadata-Provider-Signature",
    "X-Real-IP",
    "Forwarded",
)


def seen_by_nova(instance: Instance, headers) -> list[tuple[str, str]]:
    """Return the headers of a request at Nova, without the ids made for it."""
    answer = instance.fetch("/echo", headers=headers)
    assert answer.status == 200, answer.text
    pairs = [
        (name, value) for name, value in json.loads(answer.body)["headers"]
    ]
    made = [pair for pair in pairs if pair[0].lower() in MADE]
    assert sorted(name.lower() for name, _ in made) == sorted(MADE)
    assert all(MADE[name.lower()].fullmatch(value) for name, value in made)
    return [pair for pair in pairs if pair not in made]


def clean(instance: Instance, box: Sandbox) -> dict[str, str]:
    """Return the headers that Nova must see, and no other X- ones."""
    return {
        "x-instance-id": instance.instance_id,
        "x-instance-id-signature": box.nova.signature(instance.instance_id),
        "x-tenant-id": instance.port.project_id,
        "x-forwarded-for": str(instance.port.ip4),
    }


def identity_of(pairs) -> dict[str, str]:
    """Return what claims an identity among PAIRS, each once."""
    claims = [
        (name.lower(), value)
        for name, value in pairs
        if name.lower().replace("_", "-").startswith("x-")
        or name.lower() == "forwarded"
    ]
    assert len(dict(claims)) == len(claims), f"repeated: {claims}"
    return dict(claims)


@pytest.mark.parametrize("name", NAMES)
def test_forged_header_is_replaced_or_removed(box, cloud, name):
    """In any spelling, repeated, and with the victim's true signature."""
    asking, victim = cloud.of(ROUTED)
    value = forged(victim, box.nova.signature(victim.instance_id))[name]
    wanted = clean(asking, box)
    for spelling in spellings(name):
        for repeat in (1, 2):
            pairs = seen_by_nova(asking, [(spelling, value)] * repeat)
            assert identity_of(pairs) == wanted, (spelling, repeat)
            assert value not in [
                seen for key, seen in pairs if key.lower() not in wanted
            ]
            answer = asking.fetch(headers=[(spelling, value)] * repeat)
            assert answer.text == asking.instance_id


def test_all_forgeries_at_once(box, cloud):
    """Across networks too: all headers, all spellings, in one request."""
    asking, victim = cloud.of(ISOLATED)[0], cloud.of(ROUTED)[1]
    values = forged(victim, box.nova.signature(victim.instance_id))
    headers = [
        (spelling, value)
        for name, value in values.items()
        for spelling in spellings(name)
    ]
    assert identity_of(seen_by_nova(asking, headers)) == clean(asking, box)
    assert asking.fetch(headers=headers).text == asking.instance_id


def test_forgery_by_connection_header_or_trailer(box, cloud):
    """A hop-by-hop list can't have the true headers dropped on the way."""
    asking = cloud.of(ROUTED)[0]
    names = "close, X-Instance-ID, X-Tenant-ID, X-Instance-ID-Signature"
    pairs = seen_by_nova(asking, [("Connection", names)])
    assert identity_of(pairs) == clean(asking, box)
    link = asking.connect()
    victim = str(uuid.uuid4())
    with link:
        link.sendall(
            b"POST /echo HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked"
            b"\r\nTrailer: X-Instance-ID\r\nConnection: close\r\n\r\n"
            b"2\r\nhi\r\n0\r\nX-Instance-ID: " + victim.encode() + b"\r\n\r\n"
        )
        said = b"".join(iter(lambda: link.recv(65536), b""))
    assert victim.encode() not in said
    assert said.startswith(b"HTTP/1.1 411")


def test_nova_gets_the_headers_that_it_reads_and_no_others(box, cloud):
    asking = cloud.of(ROUTED)[0]
    headers = [
        ("User-Agent", "Cloud-Init/23"),
        ("Accept", "a/b"),
        ("Ec2", "1"),
    ]
    wanted = {**clean(asking, box), "host": f"127.0.0.1:{box.nova.port}"}
    pairs = dict(seen_by_nova(asking, headers))
    assert pairs.pop("connection", "close") == "close"
    assert pairs == wanted
