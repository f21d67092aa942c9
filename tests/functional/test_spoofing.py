"""Who sends from another's address gets nothing of the other's.

Each attacker may send what OVN lets its port send; where that is the
victim's address, what haproxy answers goes to the victim's MAC.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox import Instance, Port, Sandbox, model, wait_for
from sandbox.case import Case, wait_served

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")
# Answers take a millisecond or two; what is dropped takes all of it.
TIMEOUT_S = 3.0


class Cloud:
    """A victim and one attacker of each kind, on one network."""

    def __init__(self, case: Case) -> None:
        self.box = case.box
        self.network = case.network("spoof", *SUBNETS)
        port = case.box.neutron.create_port(self.network, name="victim")
        (self.victim,) = case.plug([port])
        v4, v6, link_local = addresses_of(port)
        self.case = case
        self.attackers = {
            "port security": self._attacker(),
            "no port security": self._attacker(port_security=False),
            "allowed address pairs": self._attacker(
                allowed=[("", v4), ("", v6), ("", link_local)]
            ),
            "allowed subnets": self._attacker(
                allowed=[("", subnet) for subnet in SUBNETS]
            ),
            "port security, IPv4 alone": self._attacker(
                addresses=["10.10.0.77"]
            ),
        }

    def _attacker(self, **settings: object) -> Instance:
        port = self.box.neutron.create_port(
            self.network, name="attacker", project_id="f" * 32, **settings
        )
        (made,) = self.case.plug([port])
        return made


def addresses_of(port: Port) -> Sequence[str]:
    return str(port.ip4), str(port.ip6), str(port.link_local)


def disguises(port: Port) -> list[str]:
    """Return IPv6 addresses that somebody may take for PORT's IPv4 one."""
    v4 = str(port.ip4)
    number = int(ipaddress.IPv4Address(v4))
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{v4}",
        f"::{v4}",
        f"64:ff9b::{v4}",
        f"2002:{high:x}:{low:x}::1",
        f"fe80::5efe:{v4}",
        f"fd00:10::{v4}",
    ]


@pytest.fixture(scope="module")
def cloud(module_case: Case) -> Cloud:
    return Cloud(module_case)


@contextlib.contextmanager
def having(instance: Instance, addresses: Sequence[str]) -> Iterator[None]:
    """Have INSTANCE take ADDRESSES and tell everybody; none of it after."""
    try:
        for address in addresses:
            instance.take(address)
            with contextlib.suppress(OSError):
                instance.announce(ipaddress.ip_address(address))
        yield
    finally:
        for address in addresses:
            size = 128 if ":" in address else 32
            instance.execute(
                *("ip", "address", "del", f"{address}/{size}", "dev", "eth0")
            )


def ask(instance: Instance, source: str) -> str:
    """Return what INSTANCE gets from SOURCE: "404", an id, or "nothing"."""
    try:
        answer = instance.fetch(
            source=source, ipv6=":" in source, timeout=TIMEOUT_S
        )
    except (OSError, http.client.HTTPException):
        return "nothing"
    return answer.text if answer.status == 200 else str(answer.status)


def attack(
    box: Sandbox, attacker: Instance, sources: Sequence[str]
) -> tuple[dict[str, str], bytes]:
    """Ask from each of SOURCES at once; return answers, what Nova heard."""
    box.nova.record()
    with (
        having(attacker, sources),
        ThreadPoolExecutor(len(sources)) as pool,
    ):
        said = pool.map(lambda source: ask(attacker, source), sources)
        answers = dict(zip(sources, said, strict=True))
    return answers, b"".join(box.nova.recorded())


@pytest.mark.parametrize(
    "kind",
    [
        "port security",
        "no port security",
        "allowed address pairs",
        "allowed subnets",
        "port security, IPv4 alone",
    ],
)
def test_victims_addresses_get_nothing(cloud: Cloud, kind: str):
    """Its IPv4, IPv6 and link-local ones, announced as the attacker's."""
    attacker, victim = cloud.attackers[kind], cloud.victim
    sources = addresses_of(victim.port)
    answers, heard = attack(cloud.box, attacker, sources)
    assert answers == dict.fromkeys(sources, "nothing")
    assert victim.instance_id.encode() not in heard
    wait_served(victim, attacker)


@pytest.mark.parametrize("kind", ["no port security", "allowed subnets"])
def test_ipv6_address_that_holds_the_ipv4_one_is_nobodys(cloud, kind):
    """Mapped, compatible, translated, 6to4, ISATAP, at the end."""
    attacker, victim = cloud.attackers[kind], cloud.victim
    sources = disguises(victim.port)
    answers, heard = attack(cloud.box, attacker, sources)
    assert set(answers.values()) <= {"nothing", "404"}
    assert victim.instance_id.encode() not in heard
    last = sources[-1]  # of its subnet: it gets through
    with having(attacker, [last]):
        # Held until the agent has confirmed the map.
        wait_for(
            lambda: ask(attacker, last) == "404", timeout_s=60, what="404"
        )
    wait_served(attacker)


@pytest.mark.parametrize("kind", ["port security", "no port security"])
def test_victims_mac_and_addresses_get_nothing(cloud: Cloud, kind: str):
    """OVN sends what is for the victim's MAC to the victim."""
    attacker, victim = cloud.attackers[kind], cloud.victim
    set_mac = ("ip", "link", "set", "eth0", "address")
    attacker.execute(*set_mac, victim.port.mac)
    try:
        sources = addresses_of(victim.port)
        answers, heard = attack(cloud.box, attacker, sources)
    finally:
        attacker.execute(*set_mac, attacker.port.mac)
        attacker.configure()
    assert answers == dict.fromkeys(sources, "nothing")
    assert victim.instance_id.encode() not in heard
    wait_served(victim)
    wait_served(attacker)


def test_pair_with_the_victims_mac_gets_nothing(cloud: Cloud, case: Case):
    """A pair may name another's MAC: OVN then sends to one of the two.

    So it is nobody's, and agent-status says why.
    """
    neutron = cloud.box.neutron
    network = case.network("twins", *SUBNETS)
    mac = model.new_mac()
    v4, link_local = "10.10.0.50", str(model.link_local(mac))
    pairs = [(mac, v4), (mac, link_local)]
    ports = [
        neutron.create_port(network, name="attacker", allowed=pairs),
        neutron.create_port(network, name="victim", mac=mac, addresses=[v4]),
    ]
    attacker, victim = cloud.box.plug(ports)
    wait_served(attacker)
    attacker.execute("ip", "link", "set", "eth0", "address", mac)
    answers, heard = attack(cloud.box, attacker, [v4, link_local])
    assert set(answers.values()) <= {"nothing", "404"}
    assert victim.instance_id.encode() not in heard
    word = f"{v4} has the MAC {mac} of ports"
    wait_for(
        lambda: word in cloud.box.agent.status().stdout,
        timeout_s=60,
        what="the reason in agent-status",
    )
