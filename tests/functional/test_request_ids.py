"""One id of a request joins the logs; each answer that refuses says why."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovn_metadata.agent.haproxy.answers import REASON
from ovn_metadata.agent.haproxy.limits import AGENT, NOBODY
from sandbox import Instance, Sandbox, wait_for
from sandbox.case import Case, ready, wait_served
from sandbox.sockets import ask_gateway
from sandbox.syslog import Syslog

AGENTS = (AGENT, NOBODY)  # its own requests
REQUESTS = int(os.environ.get("JOINED_REQUESTS", "2000"))
INSTANCES = 8
HEADER = "X-OpenStack-Request-ID"
_HEX = "[0-9a-f]"
ID = rf"req-{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
AT_NOVA = re.compile(rf"^{HEADER}: ({ID})\r$", re.MULTILINE | re.IGNORECASE)
TRACE = re.compile(
    rf"^traceparent: 00-({_HEX}{{32}})-({_HEX}{{16}})-01\r$", re.MULTILINE
)
FOREIGN = f"req-{uuid.UUID(int=7)}"
FOREIGN_TRACE = f"00-{7:032x}-{7:016x}-00"


@pytest.fixture(scope="module")
def cloud(host) -> Iterator[Case]:
    """Start a sandbox whose haproxies log each request, and wait 8 s.

    A busy machine may stand still for some of them.
    """
    options = {
        ("ovn_metadata_agent", "logged_rate"): "0",
        ("metadata_haproxy", "timeout_server"): "8",
        ("metadata_haproxy", "timeout_http_request"): "8",
    }
    yield Case(ready(host.sandbox(options)))
    host.clear()


@pytest.fixture(scope="module")
def instances(cloud: Case) -> list[Instance]:
    """Plug some, of two networks."""
    networks = [cloud.network(f"n{number}") for number in range(2)]
    create = cloud.box.neutron.create_port
    return cloud.plug(
        [create(networks[number % 2]) for number in range(INSTANCES)]
    )


@pytest.fixture
def syslog() -> Iterator[Syslog]:
    with contextlib.closing(Syslog()) as made:
        yield made


def instances_lines(syslog: Syslog, *keys: str) -> list[str]:
    """Return the lines of KEYS so far, without the agent's own requests."""
    return [
        line
        for key in keys
        for line in [*syslog.lines[key]]
        if not any(f'"{own}"' in line for own in AGENTS)
    ]


def ids(lines: Callable[[], list[str]], count: int) -> list[str]:
    """Return the id of each of LINES, once there are COUNT."""
    wait_for(lambda: len(lines()) >= count, timeout_s=60, what="all lines")
    found = [re.search(ID, line) for line in lines()]
    assert all(found), lines()
    return [match[0] for match in found if match]


def test_an_id_alone_joins_the_logs(cloud, instances, syslog):
    """Of the networks' haproxies, the gateway and Nova, and the answers'."""
    wait_served(*instances)
    networks = {instance.port.network.id for instance in instances}

    def networks_lines() -> list[str]:
        return instances_lines(syslog, *networks)

    def gateways_lines() -> list[str]:
        return instances_lines(syslog, "gateway")

    def all_lines() -> str:
        return repr(networks_lines() + gateways_lines())

    # A line comes a moment after its answer: two for each of these.
    last = [instance.fetch().headers[HEADER] for instance in instances]
    wait_for(
        lambda: all(all_lines().count(each) == 2 for each in last),
        timeout_s=60,
        what="the lines of the requests before",
    )
    syslog.lines.clear()
    cloud.box.nova.record()

    def ask(number: int) -> str:
        answer = instances[number % INSTANCES].fetch()
        assert answer.status == 200
        (found,) = answer.headers.get_all(HEADER)
        return str(found)

    with ThreadPoolExecutor(INSTANCES) as pool:
        answered = [*pool.map(ask, range(REQUESTS))]
    heads = b"".join(cloud.box.nova.recorded()).decode().split("\r\n\r\n")
    # The agent asks as well, to know whether Nova answers.
    heard = "\r\n".join(
        f"{head}\r\n"
        for head in heads
        if not any(f"-ID: {own}\r" in head for own in AGENTS)
    )
    assert len({*answered}) == REQUESTS
    for found in (
        AT_NOVA.findall(heard),
        ids(networks_lines, REQUESTS),
        ids(gateways_lines, REQUESTS),
        [f"req-{uuid.UUID(hex=digits)}" for digits, _ in TRACE.findall(heard)],
    ):
        assert sorted(found) == sorted(answered)


def test_what_an_instance_sends_is_replaced(cloud, instances):
    """In its answer, too, and in every spelling that Nova's server knows."""
    forged = [
        (name, FOREIGN)
        for name in (HEADER, HEADER.lower(), HEADER.replace("-", "_"))
    ]
    forged += [("traceparent", FOREIGN_TRACE), ("TRACEPARENT", FOREIGN_TRACE)]
    forged += [("tracestate", f"ovn={FOREIGN}")]
    cloud.box.nova.record()
    answer = instances[0].fetch(headers=forged)
    heard = b"".join(cloud.box.nova.recorded()).decode()
    assert FOREIGN not in heard
    assert FOREIGN_TRACE not in heard
    assert AT_NOVA.findall(heard) == answer.headers.get_all(HEADER)


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not sent"])
def test_who_may_use_the_socket_keeps_its_own(cloud, instances, syslog, sent):
    """Other programs of this host ask there, and are trusted."""
    instance = instances[0]
    headers = [
        f"X-Instance-ID: {instance.instance_id}",
        f"X-Tenant-ID: {instance.port.project_id}",
        "X-Instance-ID-Signature: "
        + cloud.box.nova.signature(instance.instance_id),
    ]
    if sent:
        headers += [f"{HEADER}: {FOREIGN}", f"traceparent: {FOREIGN_TRACE}"]
    cloud.box.nova.record()
    assert ask_gateway(*headers, path="/latest/meta-data/instance-id") == 200
    heard = b"".join(cloud.box.nova.recorded()).decode()
    (found,) = AT_NOVA.findall(heard)
    assert (found == FOREIGN) is sent
    assert (FOREIGN_TRACE in heard) is sent
    # A line of a request before may come yet.
    wait_for(
        lambda: found in repr(instances_lines(syslog, "gateway")),
        timeout_s=60,
        what="its line",
    )


# ----------------------------------------------------------------- reasons


def test_novas_answers_get_a_reason(cloud, instances, syslog):
    """Its body stays; header and both lines of the log say why."""
    nova, (instance, *_) = cloud.box.nova, instances
    for status, reason in (
        (403, "Nova refused the signature."),
        (404, "Nova has nothing at this path for this instance."),
        (429, "Nova answered with an error."),
        (503, "Nova answered with an error."),
    ):
        syslog.lines.clear()
        nova.set_status(status)
        try:
            answer = instance.fetch()
        finally:
            nova.set_status(0)
        assert (answer.status, answer.headers[REASON]) == (status, reason)
        assert_logged(syslog, instance.port.network.id, reason)
        assert_logged(syslog, "gateway", reason)


def assert_logged(syslog: Syslog, key: str, reason: str) -> None:
    def is_there() -> bool:
        return any(f'"{reason}"' in line for line in syslog.lines[key])

    wait_for(is_there, timeout_s=60, what=f"{reason} in {key}'s log")


def test_a_good_answer_needs_none(instances, syslog):
    answer = instances[0].fetch()
    assert REASON not in answer.headers
    network, own = instances[0].port.network.id, answer.headers[HEADER]
    (line,) = wait_for(
        lambda: [
            each for each in instances_lines(syslog, network) if own in each
        ],
        timeout_s=60,
        what="a line",
    )
    assert line.split('"')[1] == ""


def test_our_own_answers_say_why(cloud, instances, syslog):
    """In the body, in a header and in the log."""
    box, (instance, *_) = cloud.box, instances
    network = instance.port.network
    box.nova.stop()
    try:
        answer = instance.fetch(timeout=60)
    finally:
        box.nova.start()
    says(answer.status, answer.text, 503, "No Nova metadata API answers.")
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers[HEADER]
    for key in (network.id, "gateway"):
        assert_logged(syslog, key, answer.headers[REASON])
    answer = instance.fetch(method="TRACE")
    says(answer.status, answer.text, 405, "No such method.")
    assert_logged(syslog, network.id, "No such method.")


def says(status: int, text: str, wanted: int, reason: str) -> None:
    assert (status, text) == (wanted, f"{reason}\n")


def test_who_is_too_slow_is_told(cloud, instances, syslog):
    """Nova, and an instance that does not send what it promised."""
    instance, nova = instances[0], cloud.box.nova
    nova.freeze()
    try:
        answer = instance.fetch(timeout=60)
    finally:
        nova.thaw()
    # Both haproxies wait for as long: it is the reason of either.
    assert answer.status == 504
    assert answer.text.startswith("Nova")
    assert answer.text.endswith(" did not answer in time.\n")
    assert_logged(syslog, instance.port.network.id, answer.text.rstrip())
    with instance.connect(timeout=60) as link:
        link.sendall(b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\nshort")
        said = b"".join(iter(lambda: link.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert said.endswith(b"\r\n\r\nThe request did not arrive in time.\n")


def test_an_unknown_address_is_told(box: Sandbox, case: Case):
    network = case.network("strangers")
    create = box.neutron.create_port
    _, stranger = case.plug(
        [create(network), create(network, port_security=False)]
    )
    stranger.take("10.10.0.77")
    # Until the agent knows that all rows are in the map, it is told to wait.
    (answer,) = wait_for(
        lambda: [
            told
            for told in [stranger.fetch(source="10.10.0.77", timeout=30)]
            if told.status == 404
        ],
        timeout_s=60,
        what="404",
    )
    reason = "No instance of this network has your address."
    assert (answer.text, answer.headers[REASON]) == (f"{reason}\n", reason)
