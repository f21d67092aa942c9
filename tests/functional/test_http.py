"""Bytes in, bytes out: what HTTP an instance may speak, and Nova's moods."""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import hashlib
import http.client
import json
import random
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovn_metadata.agent.haproxy import limits
from sandbox import Instance, Nova, Sandbox, holds, wait_for
from sandbox.case import Case, wait_served
from sandbox.sockets import stats

GATEWAY = Path("/var/lib/neutron/metadata_proxy")
MIB = 1 << 20
PATIENT_S = 60.0  # where it is no matter how long an answer takes
# A busy machine may spoil some of these tries.
MANY_TRIES, ENOUGH = 30, 10


@pytest.fixture(scope="module")
def vm(module_case: Case) -> Instance:
    """One instance on an isolated network."""
    return module_case.instance(module_case.network("http"))


@pytest.fixture
def nova(box: Sandbox):
    """Nova's stand-in, as it was once the test is over."""
    yield box.nova
    with contextlib.suppress(RuntimeError):
        box.nova.thaw()
    box.nova.start()
    box.nova.set_delay(0)
    box.nova.set_status(0)


def ask_gateway(*headers: str, path: str = "/", timeout: float = 10.0):
    """Ask on the gateway's own socket; return status, body and seconds."""
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout)
        link.connect(str(GATEWAY))
        lines = [f"GET {path} HTTP/1.0", "Host: localhost", *headers, "", ""]
        link.sendall("\r\n".join(lines).encode())
        answer = http.client.HTTPResponse(link)
        answer.begin()
        return answer.status, answer.read(), time.monotonic() - begun


def read_answers(link: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read COUNT answers to GETs, one after the other, off LINK."""
    stream = link.makefile("rb")
    found = []
    for _ in range(count):
        status = int(stream.readline().split()[1])
        fields = http.client.parse_headers(stream)
        found.append((status, stream.read(int(fields["Content-Length"]))))
    return found


def test_connection_without_a_request_is_no_incomplete_one(vm):
    """Such as supervisord makes, to see whether the gateway accepts."""

    def counted(*columns: str) -> list[int]:
        lines = stats("gateway", "show stat metadata 1 -1").splitlines()
        row = next(csv.DictReader(lines))
        return [int(row[column]) for column in columns]

    def is_counted() -> bool:
        opened, total, incomplete = counted("scur", "stot", "ereq")
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(GATEWAY))

        def over() -> bool:
            now, since = counted("scur", "stot")
            # Another gateway, after a reload, begins at 0.
            return since < total or (since >= total + 3 and now <= opened)

        wait_for(over, timeout_s=60, what="the end of the three")
        return counted("ereq") != [incomplete]

    # One of somebody else's may be incomplete meanwhile.
    assert not all(is_counted() for _ in range(3))


# ----------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"x" * MIB, id="text"),
        pytest.param(random.Random(1).randbytes(MIB), id="binary"),
        pytest.param(b"", id="empty"),
    ],
)
def test_post_of_a_mebibyte_arrives_whole(vm, body):
    """The password that Windows posts is small; nothing says it must be."""
    path = "/openstack/latest/password"
    answer = vm.fetch(path, method="POST", data=body, timeout=PATIENT_S)
    wanted = f"{hashlib.sha256(body).hexdigest()} {len(body)}"
    assert (answer.status, answer.text) == (200, wanted)


def test_body_of_unknown_length_is_411(box, vm):
    """Nova's WSGI servers differ in what they make of one."""
    before = box.nova.requests
    answer = vm.fetch(
        "/latest/x",
        method="POST",
        headers={"Transfer-Encoding": "chunked"},
        data=b"4\r\nabcd\r\n0\r\n\r\n",
    )
    assert (answer.status, answer.text) == (411, "Send Content-Length.\n")
    assert box.nova.requests == before


def test_post_that_expects_100_continue(vm, tmp_path):
    """As curl sends bodies over a mebibyte."""
    file = tmp_path / "body"
    file.write_bytes(random.Random(3).randbytes(2 * MIB))
    said = vm.curl(
        *("-m", "20", "-H", "Expect: 100-continue"),
        *("--data-binary", f"@{file}", "http://169.254.169.254/latest/x"),
    )
    assert said == f"{hashlib.sha256(file.read_bytes()).hexdigest()} {2 * MIB}"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(random.Random(4).randbytes(65536), id="binary"),
        pytest.param(
            gzip.compress(random.Random(5).randbytes(65500)), id="gzip"
        ),
        pytest.param(bytes(range(256)) * 256, id="every byte"),
        pytest.param(b"", id="empty"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/openstack/latest/user_data", "/latest/user-data"]
)
def test_user_data_is_byte_for_byte(box, vm, data, path):
    """Raw, gzip'd data included: nothing unpacks or re-encodes it."""
    box.nova.register(
        vm.instance_id, vm.port.project_id, "http", user_data=data
    )
    for headers in ({}, {"Accept-Encoding": "gzip, deflate"}):
        answer = vm.fetch(path, headers=headers)
        assert answer.status == 200
        assert answer.body == data
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Content-Length"] == str(len(data))


# --------------------------------------------------------- request lines


@pytest.mark.parametrize(
    "target",
    [
        "/echo",
        "/echo/",
        "/echo?a=1&b=2",
        "/echo?empty=&x=%20%2F&y=a+b;c",
        "/echo??",
        "/echo/%2e%2e/%41%62",
        "/echo/a%2Fb%3Fc%25",
        "/echo/%C3%A4%E2%82%AC",
        "/echo//double//slash/",
        "/echo/./../echo/../x/.",
        "/echo/~user/(x)/[y]/{z}|!$&'*,=:@",
        "/echo/" + "x" * 4000,
    ],
)
def test_target_reaches_nova_unchanged(vm, target):
    """Query and percent-encoding are Nova's to read."""
    answer = vm.fetch(target)
    assert answer.status == 200
    assert json.loads(answer.body)["target"] == target


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_method_reaches_nova_unchanged(vm, method):
    data = b"x" if method in ("POST", "PUT") else None
    said = json.loads(vm.fetch("/echo", method=method, data=data).body)
    assert said["method"] == method


def test_head_has_the_headers_of_get_and_no_body(vm):
    head = vm.fetch(method="HEAD")
    get = vm.fetch()
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Content-Type"):
        assert head.headers[name] == get.headers[name]


# ------------------------------------------------------------ connections


def test_keep_alive_serves_request_after_request(vm):
    """Over one connection, HEAD and POST among them."""
    client = http.client.HTTPConnection("169.254.169.254", timeout=10)
    client.sock = vm.connect()
    with contextlib.closing(client):
        for number in range(20):
            method = ("GET", "HEAD", "POST")[number % 3]
            body = b"y" * 1000 if method == "POST" else None
            client.request(method, f"/echo?{number}", body)
            answer = client.getresponse()
            content = answer.read()
            assert answer.status == 200
            assert client.sock is not None, f"closed after request {number}"
            if method != "HEAD":
                assert json.loads(content)["target"] == f"/echo?{number}"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_nova_drops_is_502_on_a_kept_connection_too(box, vm, method):
    """A client can't tell otherwise what became of its password."""
    box.nova.limit_head(2048)
    try:
        for _ in "12":  # the gateway's connection may be used again, too
            client = http.client.HTTPConnection("169.254.169.254", timeout=20)
            client.sock = vm.connect()
            with contextlib.closing(client):
                client.request("GET", "/")
                assert client.getresponse().read()
                client.request(method, f"/{'x' * 4096}", b"ab")
                answer = client.getresponse()
                assert answer.status == 502
                assert answer.read() == b"Nova gave no complete answer.\n"
    finally:
        box.nova.limit_head(sys.maxsize)


def test_a_get_that_nova_drops_is_not_sent_again_and_again(box, vm):
    """However many connections to the gateway the network's haproxy keeps.

    Three times over one of them, three times over a new one.
    """
    box.nova.set_delay(0.3)  # so that all are open at the same time
    try:
        with ThreadPoolExecutor(30) as pool:
            busy = [
                pool.submit(vm.fetch, timeout=PATIENT_S) for _ in range(30)
            ]
        assert {each.result().status for each in busy} == {200}
        box.nova.set_delay(0)
        box.nova.limit_head(2048)
        path = f"/{'x' * 4096}"
        box.nova.record()
        answer = vm.fetch(path, timeout=PATIENT_S)
        tape = b"".join(box.nova.recorded())
    finally:
        box.nova.set_delay(0)
        box.nova.limit_head(sys.maxsize)
    assert answer.status == 502
    assert answer.body == b"Nova gave no complete answer.\n"
    assert 3 <= tape.count(f"GET {path} ".encode()) <= 6


def test_pipelined_requests_are_answered_in_order(vm):
    """Twenty requests in one write."""
    request = "GET /echo?{} HTTP/1.1\r\nHost: m\r\n\r\n"
    with vm.connect() as link:
        link.sendall("".join(map(request.format, range(20))).encode())
        answers = read_answers(link, 20)
    assert [status for status, _ in answers] == [200] * 20
    targets = [json.loads(body)["target"] for _, body in answers]
    assert targets == [f"/echo?{number}" for number in range(20)]


@pytest.mark.parametrize("request_", ["GET /slow/0.5", "POST /slow/0.5"])
def test_client_that_has_closed_its_side_is_answered(vm, request_):
    """As a shell script with nc does, while Nova takes its time."""
    length = "Content-Length: 0\r\n" * request_.startswith("POST")
    with vm.connect() as link:
        link.sendall(f"{request_} HTTP/1.0\r\n{length}\r\n".encode())
        link.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: link.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")


def test_http_1_0_is_served_and_closed(vm):
    with vm.connect() as link:
        link.sendall(b"GET /latest/meta-data/instance-id HTTP/1.0\r\n\r\n")
        said = b"".join(iter(lambda: link.recv(65536), b""))
    assert said.startswith(b"HTTP/1.")
    assert said.endswith(b"\r\n\r\n" + vm.instance_id.encode())


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no request line"),
        pytest.param(b"GET / HTTP/1.1\r\nbad header\r\n\r\n", id="no colon"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n"
            b"Content-Length: 2\r\n\r\nab",
            id="two lengths",
        ),
        pytest.param(
            b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", id="too long"
        ),
    ],
)
def test_malformed_request_never_reaches_nova(box, vm, request_):
    """It is refused; a second request can't be smuggled in behind it."""
    before = box.nova.requests
    with vm.connect() as link, contextlib.suppress(ConnectionResetError):
        link.sendall(request_)
        # haproxy 3.4 closes on two lengths without a word.
        refused = (b"HTTP/1.1 400", b"HTTP/1.1 414", b"")
        assert link.recv(65536)[:12] in refused
    assert box.nova.requests == before
    assert vm.fetch().text == vm.instance_id


def test_length_and_chunked_together_smuggle_nothing(box, vm):
    """The classic: both ends must see one request, or none."""
    before = box.nova.requests
    with vm.connect() as link:
        link.sendall(
            b"POST /latest/x HTTP/1.1\r\nHost: m\r\nContent-Length: 40\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"0\r\n\r\nGET /echo HTTP/1.1\r\nX-Instance-ID: a\r\n\r\n"
        )
        b"".join(iter(lambda: link.recv(65536), b""))
    assert box.nova.requests - before <= 1
    assert vm.fetch().text == vm.instance_id


# ----------------------------------------------------------- Nova's moods


@pytest.mark.parametrize("status", [400, 403, 404, 409, 500, 502, 503, 504])
def test_novas_status_and_body_pass_unchanged(nova, vm, status):
    """What Nova says is the answer, its 503 included."""
    nova.set_status(status)
    for method, body in (("GET", b"as told"), ("HEAD", b"")):
        answer = vm.fetch(method=method)
        assert (answer.status, answer.body) == (status, body)
        assert "Retry-After" not in answer.headers
        assert answer.headers["Content-Type"] == "text/plain; charset=UTF-8"


def test_nova_that_does_not_know_the_instance_says_404(nova, vm):
    nova.forget(vm.instance_id)
    try:
        answer = vm.fetch()
    finally:
        nova.register(vm.instance_id, vm.port.project_id)
    assert (answer.status, answer.body) == (404, b"Not Found")


def test_nova_down_is_503_with_retry_after(nova, vm):
    """A word for the operator, and for a POST as well."""
    nova.stop()
    for method, data in (("GET", None), ("POST", b"x" * 1000)):
        answer = vm.fetch("/latest/x", method=method, data=data)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers.get_content_type() == "text/plain"
        assert b"Nova" in answer.body


def test_nova_down_is_503_in_under_100_ms(nova, vm):
    nova.stop()

    def seconds() -> float:
        answer = vm.fetch(timeout=PATIENT_S)
        assert answer.status == 503
        return answer.seconds

    assert sum(seconds() < 0.1 for _ in range(MANY_TRIES)) >= ENOUGH


def test_nova_back_is_200_at_once(nova, vm):
    """The first request after it: no health check to wait for."""
    for _ in range(3):
        assert vm.fetch().text == vm.instance_id  # leaves idle connections
        nova.stop()
        nova.start()
        assert vm.fetch().text == vm.instance_id

    def seconds() -> float:
        nova.stop()
        assert vm.fetch(timeout=PATIENT_S).status == 503
        nova.start()
        answer = vm.fetch(timeout=PATIENT_S)
        assert answer.text == vm.instance_id
        return answer.seconds

    assert holds(lambda: seconds() < 2)


def test_one_of_two_novas_down_is_not_noticed(own_box):
    """The other one answers, at once: before the health check and after."""
    box = own_box
    with Nova(box.folder, port=8776) as second:
        hosts = f"127.0.0.1:{box.nova.port},127.0.0.1:{second.port}"
        box.agent.configure({("DEFAULT", "nova_metadata_host"): hosts})
        box.agent.start()
        box.agent.wait_ready()
        network = box.neutron.create_network("n")
        (instance,) = box.plug([box.neutron.create_port(network)])
        second.register(instance.instance_id, instance.port.project_id)
        wait_served(instance)
        for stopped in (box.nova, second):
            took = functools.partial(took_without, stopped, instance)
            assert holds(lambda took=took: took() < 0.5)


def took_without(stopped: Nova, instance: Instance) -> float:
    """Return how long some answers take that come while STOPPED is down.

    Every other one would wait, if it asked the one that is down.
    """
    stopped.stop()
    answers = [instance.fetch(timeout=PATIENT_S) for _ in range(10)]
    assert {answer.text for answer in answers} == {instance.instance_id}
    stopped.start()
    before = stopped.requests

    def asked() -> bool:
        assert instance.fetch(timeout=PATIENT_S).status == 200
        return stopped.requests > before

    wait_for(asked, timeout_s=60, what="requests at both again")
    return sorted(each.seconds for each in answers)[-3]


def test_nova_slow_does_not_hold_up_a_hundred_requests(nova, vm):
    """Nova takes 5 s, one instance asks 100 times at once: all in 10 s.

    It is the only one: beside others it would have a few slots at a time. What
    the agent asks does not count.
    """

    def seconds() -> float:
        stats("gateway", "clear table instances")  # those of tests before
        for who in (limits.AGENT, limits.NOBODY):
            signed = "X-Instance-ID-Signature: none"
            ask_gateway(f"X-Instance-ID: {who}", signed)
        nova.set_delay(5.0)
        begun = time.monotonic()
        with ThreadPoolExecutor(100) as pool:
            fetch = functools.partial(vm.fetch, timeout=PATIENT_S)
            asked = [pool.submit(fetch) for _ in range(100)]
            answers = [one.result() for one in asked]
        took = time.monotonic() - begun
        nova.set_delay(0)
        assert {(a.status, a.text) for a in answers} == {(200, vm.instance_id)}
        return took

    # Else half of them would be behind the others.
    assert holds(lambda: seconds() < 10)


def test_nova_slow_does_not_hold_up_another_network(nova, vm, case):
    """A hundred waiting requests cost nobody else anything.

    Most wait for one of 16 places, and none may for 9 s.
    """
    other = case.instance(case.network("other"))

    def took() -> list[float]:
        """Return how long some answers took, all of them meanwhile."""
        found: list[float] = []
        fetch = functools.partial(vm.fetch, timeout=PATIENT_S)
        with ThreadPoolExecutor(100) as pool:
            asked = [pool.submit(fetch, "/slow/0.8") for _ in range(100)]
            for _ in range(5):
                seconds = other.fetch(timeout=PATIENT_S).seconds
                if not all(one.done() for one in asked):
                    found.append(seconds)
            assert {one.result().status for one in asked} == {200}
        return found

    assert holds(lambda: min(took(), default=60) < 0.5)


# ------------------------------------------------------- gateway's socket


@pytest.mark.parametrize("mood", ["up", "down", "frozen"])
def test_request_without_identity_is_404_at_once(nova, mood):
    """Deployers' probes ask the socket, whatever Nova does."""
    {"up": lambda: None, "down": nova.stop, "frozen": nova.freeze}[mood]()

    def took() -> float:
        status, _, seconds = ask_gateway(timeout=PATIENT_S)
        assert status == 404
        return seconds

    assert sum(took() < 0.1 for _ in range(MANY_TRIES)) >= ENOUGH


@pytest.mark.parametrize("mood", ["up", "down", "frozen"])
def test_openstack_helms_probe_is_content(nova, mood):
    """Its own headers, and what counts: an answer below 500 in 30 s."""
    {"up": lambda: None, "down": nova.stop, "frozen": nova.freeze}[mood]()

    def took() -> float:
        status, _, seconds = ask_gateway(
            "X-Forwarded-For: 169.254.169.254",
            "X-Neutron-Router-ID: pod-health-probe-check-ignore-errors",
            timeout=PATIENT_S,
        )
        assert status < 500
        return seconds

    assert holds(lambda: took() < 5)


def test_nova_frozen_then_thawed_answers_late(nova, vm):
    """A Nova that hangs for a moment costs time and no request."""
    nova.freeze()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(vm.fetch, timeout=PATIENT_S)
        wait_for(asked.running, timeout_s=20, what="a request under way")
        nova.thaw()
        assert asked.result().text == vm.instance_id
