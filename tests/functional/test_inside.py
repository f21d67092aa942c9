"""The agent asks from inside a namespace as an instance; no instance can."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.haproxy.inside import ALIVE_PATH
from sandbox import Instance, wait_for
from sandbox.attempts import send
from sandbox.case import Case, wait_served
from sandbox.inside import ask, proxy_header, syn_is_answered
from sandbox.model import METADATA_V4, METADATA_V6
from sandbox.sockets import stats

ID_PATH = "/latest/meta-data/instance-id"
VERSIONS = pytest.mark.parametrize("ipv6", [False, True], ids=["4", "6"])


@pytest.fixture(scope="module")
def instances(module_case: Case) -> list[Instance]:
    """One as any other, and one that may send whatever it likes."""
    network = module_case.network("inside", "10.10.0.0/24", "fd00:10::/64")
    create = module_case.box.neutron.create_port
    made = module_case.plug(
        [create(network), create(network, port_security=False)]
    )
    wait_served(*made, ipv6=True)
    return made


def source_of(instance: Instance, *, ipv6: bool) -> str:
    port = instance.port
    return str(port.link_local if ipv6 else port.ip4)


@VERSIONS
def test_it_is_answered_as_the_instance_would_be(box, instances, ipv6):
    instance, _ = instances
    network, source = instance.port.network, source_of(instance, ipv6=ipv6)
    assert ask(network, source, ID_PATH) == (200, instance.instance_id)
    box.nova.record()
    assert ask(network, source, ALIVE_PATH) == (200, "ok\n")
    assert box.nova.recorded() == []
    nobody = "fe80::99" if ipv6 else "10.10.0.99"
    status, text = ask(network, nobody, ALIVE_PATH)
    assert status == 404
    assert "No instance of this network has your address." in text


@VERSIONS
def test_it_is_not_counted(instances, ipv6):
    """By any table, however often, with the instance's connection or not."""
    instance, _ = instances
    network, source = instance.port.network, source_of(instance, ipv6=ipv6)

    def tables() -> str:
        names = ("sources", "callers", "strangers")
        shows = "; ".join(f"show table {name}" for name in names)
        return stats(network.id, shows)

    def is_forgotten() -> bool:
        clear = f"clear table sources key {instance.instance_id}"
        stats(network.id, clear)
        return instance.instance_id not in tables()

    wait_for(is_forgotten, timeout_s=60, what="an empty table")
    for _ in range(20):
        assert ask(network, source, ALIVE_PATH) == (200, "ok\n")
    assert ask(network, source, ID_PATH)[0] == 200
    assert instance.instance_id not in tables()
    instance.fetch()
    assert instance.instance_id in tables()


@VERSIONS
def test_to_an_instance_the_path_is_nothing_special(box, instances, ipv6):
    """Nor with the header by which the gateway knows it."""
    for instance in instances:
        box.nova.record()
        answer = instance.fetch(
            ALIVE_PATH,
            ipv6=ipv6,
            headers=[
                ("X-OVN-Metadata-Asked", "alive"),
                ("x_ovn_metadata_asked", "alive"),
            ],
        )
        assert answer.status == 404
        (heard,) = box.nova.recorded()
        assert ALIVE_PATH.encode() in heard
        assert b"asked" not in heard.lower()


@VERSIONS
def test_a_proxy_header_of_an_instance_is_refused(box, instances, ipv6):
    victim, evil = instances
    box.nova.record()
    header = proxy_header(source_of(victim, ipv6=ipv6))
    request = f"{header}GET {ID_PATH} HTTP/1.1\r\nHost: m\r\n\r\n"
    assert send(evil, request.encode(), ipv6=ipv6).startswith(b"HTTP/1.1 400")
    assert box.nova.recorded() == []


@VERSIONS
@pytest.mark.parametrize("port", [80, 4711])
def test_no_instance_connects_from_the_metadata_address(instances, ipv6, port):
    """Without port security its packets arrive; it never sees an answer.

    From port 80 the kernel's answer reaches the listener itself.
    """
    _, evil = instances
    metadata = str(METADATA_V6 if ipv6 else METADATA_V4)
    own = source_of(evil, ipv6=ipv6)
    assert any(
        syn_is_answered(evil, own, port=port, timeout_s=5) for _ in range(3)
    )

    def accepts_none() -> bool:
        before = connections(evil)
        assert not syn_is_answered(evil, metadata, port=port)
        return connections(evil) == before

    # The agent's own check, every 30 s, may have connected meanwhile.
    assert any(accepts_none() for _ in range(5))


def connections(instance: Instance) -> str:
    """Return how many connections the network's haproxy has accepted."""
    show = stats(instance.port.network.id, "show stat metadata 1 -1")
    columns, values = show.removeprefix("# ").splitlines()[:2]
    found = dict(zip(columns.split(","), values.split(","), strict=True))
    return found["conn_tot"]
