"""Tokens and refusal of forwarded requests, as AWS and Firecracker have them.

A network with an instance of each project; each project has other options.
"""

import base64
import hmac
import json
import random
import re
import signal
import socket
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.haproxy import tokens
from sandbox import Instance, Loader, Sandbox, namespaces, wait_for
from sandbox import host as host_files
from sandbox.agent import Agent
from sandbox.case import Host, ready, wait_served
from sandbox.inside import ask
from sandbox.instances import Response
from sandbox.metrics import parse, scrape, value
from sandbox.processes import send_signal
from sandbox.sockets import stats

OWN = "ovn_metadata_agent"
OPTIONS = {
    (OWN, "refuse_forwarded"): "off, project:report:report, "
    "project:enforce:enforce, project:both:enforce",
    (OWN, "tokens"): "off, project:optional:optional, "
    "project:required:required, project:both:required",
    (OWN, "hop_limit"): "64, project:near:1",
    (OWN, "boot_window"): "0",
}
PROJECTS = ("off", "report", "enforce", "optional", "required", "both")
ID = "/latest/meta-data/instance-id"
DOCUMENT = "/openstack/latest/meta_data.json"
TOKEN_PATH = "/latest/api/token"
TTL, TOKEN = tokens.TTL_HEADER, tokens.HEADER
PROXIES = {
    "nginx": {"X-Real-IP": "10.0.0.1", "X-Forwarded-For": "10.0.0.1"},
    "haproxy": {"X-Forwarded-For": "10.0.0.1"},
    "squid": {"Via": "1.1 h (squid/5.7)", "X-Forwarded-For": "unknown"},
    "envoy": {"X-Forwarded-Proto": "http", "X-Request-Id": "x"},
    "envoy, inside": {"X-Envoy-Internal": "true"},
    "traefik": {"X-Forwarded-Host": "a", "X-Real-Ip": "10.0.0.1"},
    "RFC 7239": {"Forwarded": "for=10.0.0.1"},
    "apache": {"X-Forwarded-Host": "a", "Via": "1.1 a"},
    "empty": {"X-Forwarded-For": ""},
    "capitals": {"X-FORWARDED-FOR": "10.0.0.1"},
}


@pytest.fixture(scope="module")
def shielded(host: Host) -> Sandbox:
    return ready(host.sandbox(OPTIONS))


@pytest.fixture(scope="module")
def vms(shielded: Sandbox) -> dict[str, Instance]:
    """Return an instance for each project."""
    network = shielded.neutron.create_network(
        "shielded", subnets=("10.10.0.0/24", "fd00:10::/64")
    )
    ports = [
        shielded.neutron.create_port(network, project_id=project)
        for project in PROJECTS
    ]
    made = shielded.plug(ports)
    for vm in made:
        wait_for(
            lambda vm=vm: vm.fetch(DOCUMENT, timeout=2).status == 200,
            timeout_s=30,
            what="metadata",
        )
    return dict(zip(PROJECTS, made, strict=True))


def new_token(vm: Instance, ttl: int = 60) -> str:
    answer = vm.fetch(TOKEN_PATH, method="PUT", headers={TTL: str(ttl)})
    assert answer.status == 200
    return answer.text


def status(vm: Instance, path: str = ID, **headers: str) -> int:
    return vm.fetch(path, headers=headers).status


def with_token(vm: Instance, token: str, path: str = ID) -> int:
    return vm.fetch(path, headers={TOKEN: token}).status


# ------------------------------------------------------- AWS' behaviour


@pytest.mark.parametrize("project", ["optional", "required"])
@pytest.mark.parametrize("ttl", ["1", "60", "21600"])
def test_a_token_says_how_long_it_lives(vms, project, ttl):
    vm = vms[project]
    answer = vm.fetch(TOKEN_PATH, method="PUT", headers={TTL: ttl})
    assert answer.status == 200
    assert answer.headers[TTL] == ttl
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.text.strip() == answer.text
    assert with_token(vm, answer.text) == 200


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("PUT", {}, 400),
        ("PUT", {TTL: ""}, 400),
        ("PUT", {TTL: "0"}, 400),
        ("PUT", {TTL: "-1"}, 400),
        ("PUT", {TTL: "21601"}, 400),
        ("PUT", {TTL: "99999"}, 400),
        ("PUT", {TTL: "4294967297"}, 400),
        ("PUT", {TTL: "6h"}, 400),
        ("PUT", {TTL: "1.5"}, 400),
        ("PUT", {TTL: "60, 60"}, 400),
        ("PUT", {TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403),
        ("PUT", {TTL: "60", "X-Forwarded-For": ""}, 403),
        ("PUT", {"X-Forwarded-For": "10.0.0.1"}, 403),
        ("GET", {TTL: "60"}, 405),
        ("HEAD", {TTL: "60"}, 405),
        ("POST", {TTL: "60"}, 405),
        ("DELETE", {TTL: "60"}, 405),
    ],
)
@pytest.mark.parametrize("project", ["optional", "required"])
def test_a_wrong_request_for_a_token(
    shielded, vms, project, method, headers, expected
):
    shielded.nova.record()
    answer = vms[project].fetch(TOKEN_PATH, method=method, headers=headers)
    assert answer.status == expected
    assert TTL not in answer.headers
    assert (answer.headers["Allow"] == "PUT") == (expected == 405)
    assert shielded.nova.recorded() == []


WRONG = [
    *("", ".", "x", "0.x", "-1", "9999999999.", "Bearer x", "a" * 4000),
    f"{int(time.time()) + 60}.{'A' * 43}",
]


@pytest.mark.parametrize("project", ["optional", "required"])
def test_a_token_that_is_none_is_refused(shielded, vms, project):
    vm = vms[project]
    shielded.nova.record()
    assert [with_token(vm, each) for each in WRONG] == [401] * len(WRONG)
    good = new_token(vm)
    for bad in (good[:-1], f"{good}x", f"{good}.x", f"0{good}", good.lower()):
        assert with_token(vm, bad) == 401, bad
    assert with_token(vm, good, DOCUMENT) == 200
    assert with_token(vm, good[:-1], DOCUMENT) == 401
    told = "".join(map(bytes.decode, shielded.nova.recorded())).lower()
    assert TOKEN.lower() not in told
    assert told.count("\r\nhost:") == 1


def test_a_token_of_another_time(shielded, vms):
    """Signed with the right key, as no client can."""
    vm = vms["required"]
    key = base64.b64decode(tokens.key(shielded.nova.secret, vm.instance_id))

    def signed(seconds: int) -> str:
        until = str(int(time.time()) + seconds)
        digest = hmac.digest(key, until.encode(), "sha256")
        return f"{until}.{base64.urlsafe_b64encode(digest).decode()[:-1]}"

    for seconds, status in (
        *((5, 200), (21_600, 200), (0, 401), (-1, 401), (-90_000, 401)),
        *((21_700, 401), (90_000, 401), (2**40, 401)),
    ):
        assert with_token(vm, signed(seconds)) == status, seconds


def test_a_token_expires(vms):
    vm = vms["required"]
    token = new_token(vm, 2)
    assert with_token(vm, token) == 200
    wait_for(lambda: with_token(vm, token) == 401, timeout_s=6, what="its end")


def test_a_token_is_of_one_instance(vms):
    for project, other in (("optional", "required"), ("required", "both")):
        token = new_token(vms[project])
        assert with_token(vms[other], token) == 401
        assert with_token(vms[project], token) == 200


def test_without_a_token(vms):
    found = {project: status(vm) for project, vm in vms.items()}
    refused = {"required": 401, "both": 401}
    assert found == {**dict.fromkeys(PROJECTS, 200), **refused}
    found = {project: status(vm, DOCUMENT) for project, vm in vms.items()}
    assert found == dict.fromkeys(PROJECTS, 200)


@pytest.mark.parametrize("ipv6", [False, True], ids=["4", "6"])
def test_curls_usual_two_lines(vms, ipv6):
    vm = vms["required"]
    asked = {"method": "PUT", "headers": {TTL: "21600"}, "ipv6": ipv6}
    token = vm.fetch(TOKEN_PATH, **asked).text
    answer = vm.fetch(ID, headers={TOKEN: token}, ipv6=ipv6)
    assert (answer.status, answer.text) == (200, vm.instance_id)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/ec2", "/2009-04-04/user-data", "/latest/user-data"),
        *("/openstack/../latest/user-data", "/openstack//../latest"),
        *("/openstack/%2e%2e/latest/user-data", "//openstack/latest"),
        *("/openstack/..", "/openstackx", "/OPENSTACK/latest", "/x/openstack"),
        "/openstack/latest/..%2f..%2flatest/user-data",
    ],
)
def test_no_spelling_of_a_path_gets_around_it(vms, path):
    assert status(vms["required"], path) == 401


def test_cloudbase_inits_requests_need_no_token(vms):
    """Those of its OpenStack service, as in its source."""
    root = "/openstack/latest"
    found = {}
    for project, vm in vms.items():
        statuses = [
            status(vm, f"{root}/{name}")
            for name in ("meta_data.json", "user_data", "content/0000")
        ]
        path = "/openstack/2013-04-04/password"
        answer = vm.fetch(path, method="POST", data=b"password")
        found[project] = (*statuses, answer.status)
    assert {*found.values()} == {found["off"]}
    assert found["off"][:2] == (200, 200)


def test_off_nothing_is_different(shielded, vms):
    """Nova answers PUT itself, and gets no header of a token."""
    vm = vms["off"]
    shielded.nova.record()
    headers = {TTL: "60", TOKEN: "x"}
    answer = vm.fetch(TOKEN_PATH, method="PUT", headers=headers)
    assert answer.status == 200
    assert TTL not in answer.headers
    assert with_token(vm, "x") == 200
    told = b"".join(shielded.nova.recorded()).lower()
    assert TOKEN.lower().encode() not in told
    assert told.count(b"\r\nhost:") == 2


def test_the_agents_own_requests_need_no_token(vms):
    vm = vms["both"]
    network, source = vm.port.network, str(vm.port.ip4)
    assert ask(network, source, ID) == (200, vm.instance_id)


def test_forged_tokens(vms):
    """By a seeded generator, over connections that are kept."""
    vm, other = vms["required"], vms["optional"]
    dice = random.Random(15)
    good, foreign = new_token(vm), new_token(other)
    letters = string.ascii_letters + string.digits + "-_."

    def forged() -> str:
        kind = dice.randrange(5)
        if kind == 0:  # a letter changed
            at = dice.randrange(len(good))
            new = dice.choice(letters.replace(good[at], ""))
            return good[:at] + new + good[at + 1 :]
        if kind == 1:
            return good[: dice.randrange(len(good))]
        if kind == 2:  # another time with its HMAC
            until = int(time.time()) + dice.randrange(1, 21600)
            return f"{until + 30000}.{good.partition('.')[2]}"
        if kind == 3:  # another instance's, with our time
            return f"{good.partition('.')[0]}.{foreign.partition('.')[2]}"
        return "".join(dice.choices(letters, k=dice.randrange(1, 80)))

    count, batch = 2000, 50
    with vm.connect() as link, link.makefile("rb") as answers:
        for _ in range(count // batch):
            link.sendall(
                b"".join(
                    f"GET {ID} HTTP/1.1\r\nHost: x\r\n{TOKEN}: {forged()}"
                    f"\r\n\r\n".encode()
                    for _ in range(batch)
                )
            )
            for _ in range(batch):
                assert answers.readline().split()[1] == b"401"
                length = 0
                while (line := answers.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                answers.read(length)
    assert with_token(vm, good) == 200


# ---------------------------------------- an application that is tricked

HERE = "169.254.169.254"
TARGET = "/latest/meta-data/instance-id"
RAW = f"GET%20{TARGET}%20HTTP/1.0%0d%0a%0d%0a"
TRICKS = {
    "plain": [f"http://{HERE}{TARGET}"],
    "decimal": [f"http://2852039166{TARGET}"],
    "hexadecimal": [f"http://0xa9fea9fe{TARGET}"],
    "octal": [f"http://0251.0376.0251.0376{TARGET}"],
    "two parts": [f"http://169.16689662{TARGET}"],
    "IPv6-mapped": [f"http://[::ffff:{HERE}]{TARGET}"],
    "a user in front": [f"http://example.com@{HERE}{TARGET}"],
    "a name that leads there": [
        *("--resolve", f"rebound.example:80:{HERE}"),
        f"http://rebound.example{TARGET}",
    ],
    "as a proxy": ["-x", f"http://{HERE}:80", f"http://example.com{TARGET}"],
    "gopher": [f"gopher://{HERE}:80/_{RAW}"],
    "a header of its own": [
        *("-H", f"{TOKEN}: none", "-H", "Host: localhost"),
        f"http://{HERE}{TARGET}",
    ],
    "lines in the path": [
        "--path-as-is",
        f"gopher://{HERE}:80/_GET%20{TARGET}%20HTTP/1.1%0d%0a{TOKEN}:%20x"
        "%0d%0aConnection:%20close%0d%0aHost:%20x%0d%0a%0d%0a",
    ],
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_tricked_application_gets_nothing(vms, name):
    """It fetches an address that somebody else gave it."""
    curl = ("curl", "-sS", "-i", "-m", "5", *TRICKS[name])
    off, required = vms["off"], vms["required"]
    assert off.instance_id in off.execute(*curl), "the trick does not work"
    said = required.execute(*curl)
    assert said.split()[1] == "401"
    assert required.instance_id not in said


def test_a_redirect_gets_nothing(vms):
    """The application asks a server outside, which sends it here."""
    vm = vms["required"]
    answer = (
        f"HTTP/1.1 302 Found\r\nLocation: http://{HERE}{TARGET}\r\n"
        f"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    vm.execute("ip", "link", "set", "lo", "up")
    with vm.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 8080))
        server.listen()
        server.settimeout(10)

        def redirect() -> None:
            link, _ = server.accept()
            with link:
                link.recv(4096)
                link.sendall(answer.encode())

        thread = threading.Thread(target=redirect)
        thread.start()
        said = vm.execute(
            *("curl", "-sS", "-L", "-m", "5", "-w", "%{http_code}"),
            "http://127.0.0.1:8080/",
        )
        thread.join()
    assert said.endswith("401")
    assert vm.instance_id not in said


# ------------------------------------------------- forwarded requests


@pytest.mark.parametrize("name", PROXIES)
def test_what_came_through_a_proxy(shielded, vms, name):
    headers = PROXIES[name]
    shielded.nova.record()
    found = {p: vms[p].fetch(ID, headers=headers).status for p in PROJECTS}
    refused = {"enforce": 403, "both": 403, "required": 401}
    assert found == {**dict.fromkeys(PROJECTS, 200), **refused}
    told = "".join(map(bytes.decode, shielded.nova.recorded())).lower()
    assert "10.0.0.1" not in told.replace("10.10.0.1", "")
    answer = vms["enforce"].fetch(DOCUMENT, headers=headers)
    assert answer.status == 403
    assert "came through a proxy" in answer.text


def test_a_good_token_does_not_make_up_for_a_proxy(vms):
    vm = vms["both"]
    headers = {TOKEN: new_token(vm)}
    assert vm.fetch(ID, headers=headers).status == 200
    headers["Via"] = "1.1 x"
    assert vm.fetch(ID, headers=headers).status == 403


# ------------------------------------------------- what an operator sees


def asked(vm: Instance) -> dict[str, int]:
    """Return what `agent-status asks` has of VM's shield."""
    command = Path(sys.prefix, "bin", "agent-status")
    done = subprocess.run(
        (command, *Agent.config_arguments(), "asks", "--json", vm.instance_id),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    (entry,) = json.loads(done.stdout)["asks"]
    return dict(entry.get("shield", {}))


def shares(box: Sandbox, vm: Instance) -> dict[str, int]:
    """Return what the status has of VM's network, once it has anything.

    The sums begin with the first look at a haproxy.
    """

    def found() -> dict[str, int]:
        told = json.loads(box.agent.status("--json").stdout)
        return dict(told["networks"][vm.port.network.id]["shares"])

    return wait_for(found, timeout_s=15, what="sums")


FORWARDED, WITHOUT, BAD = NAMES = (
    "forwarded_requests",
    "requests_without_token",
    "requests_with_bad_token",
)


def test_what_would_be_refused_is_counted_and_named(shielded, vms):
    """In report mode and with optional tokens as if it were enforced."""
    network = vms["off"].port.network.id

    def counted() -> dict[str, int]:
        """Return what the network's haproxy has counted itself."""
        said = stats(network, "; ".join(f"get var proc.{n}" for n in NAMES))
        found = re.findall(r"proc\.(\w+): type=sint value=<(\d+)>", said)
        return dict.fromkeys(NAMES, 0) | {n: int(count) for n, count in found}

    before, seen = counted(), shares(shielded, vms["off"])
    told = {project: asked(vm) for project, vm in vms.items()}
    proxied = {"Via": "1.1 x"}
    for vm in vms.values():
        vm.fetch(ID, headers=proxied)
        vm.fetch(ID)
        vm.fetch(DOCUMENT)
        with_token(vm, "x")
    one = {
        "off": {},
        "report": {FORWARDED: 1},
        "enforce": {FORWARDED: 1},
        "optional": {WITHOUT: 2, BAD: 1},
        "required": {WITHOUT: 2, BAD: 1},
        "both": {FORWARDED: 1, WITHOUT: 1, BAD: 1},
    }
    for project, vm in vms.items():
        now = {n: c - told[project].get(n, 0) for n, c in asked(vm).items()}
        assert {n: c for n, c in now.items() if c} == one[project], project
    sums = {FORWARDED: 3, WITHOUT: 5, BAD: 3}
    assert counted() == {n: before[n] + count for n, count in sums.items()}

    def is_shown() -> bool:
        """Tell whether the status has it: it looks every five seconds."""
        now = shares(shielded, vms["off"])
        return all(
            now.get(n, 0) >= seen.get(n, 0) + count
            for n, count in sums.items()
        )

    wait_for(is_shown, timeout_s=15, what="the same in the status")
    text = shielded.agent.status().stdout
    assert "  shield: " in text
    assert "requests without token" in text
    metric = "network_shield_requests_total"
    samples = parse(scrape())
    assert value(samples, metric, reason=WITHOUT) >= 5
    assert value(samples, metric, reason=FORWARDED) >= 3


def test_why_tells_what_is_on(shielded, vms):
    """The agent's own request needs no token: it would look fine."""
    for project, text in (
        ("both", "; refuse_forwarded enforce, tokens required"),
        ("report", "; refuse_forwarded report, tokens off"),
    ):
        told = shielded.agent.status("why", vms[project].instance_id).stdout
        assert text in " ".join(told.split())
    told = shielded.agent.status("why", vms["off"].instance_id).stdout
    assert "tokens" not in told


def test_a_reason_is_in_the_log_of_who_was_refused(vms):
    vm = vms["required"]
    answer = vm.fetch(ID)
    assert answer.status == 401
    assert TOKEN_PATH in answer.headers["X-OVN-Metadata-Reason"]
    assert answer.text.strip() == answer.headers["X-OVN-Metadata-Reason"]


# ------------------------------------------------------------ hop limits


def hops_seen(vm: Instance, *, ipv6: bool) -> dict[str, set[int]]:
    """Return the hop limits of what comes to VM, by kind of packet."""
    everything = socket.htons(3)
    with namespaces.inside(vm.namespace):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, everything)
    found: dict[str, set[int]] = {"tcp": set(), "neighbours": set()}
    with tap:
        tap.settimeout(0.5)
        vm.execute("ip", "neigh", "flush", "all")
        vm.fetch(DOCUMENT, ipv6=ipv6)
        while True:
            try:
                packet, (_, _, kind, *_) = tap.recvfrom(2048)
            except TimeoutError:
                return found
            if kind == socket.PACKET_OUTGOING:
                continue
            if packet[0] >> 4 == 4 and packet[9] == 6:
                found["tcp"].add(packet[8])
            elif packet[0] >> 4 == 6 and packet[6] == 6:
                found["tcp"].add(packet[7])
            elif packet[0] >> 4 == 6 and packet[6] == 58:
                found["neighbours"].add(packet[7])


@pytest.fixture(scope="module")
def near(shielded: Sandbox) -> Instance:
    """Return an instance that alone has a hop limit of 1."""
    network = shielded.neutron.create_network(
        "near", subnets=("10.20.0.0/24", "fd00:20::/64")
    )
    port = shielded.neutron.create_port(network, project_id="near")
    (vm,) = shielded.plug([port])
    wait_served(vm)
    return vm


@pytest.mark.parametrize("ipv6", [False, True], ids=["4", "6"])
def test_answers_have_the_hop_limit(vms, near, ipv6):
    """The one of a network in which others have more is theirs."""
    seen = hops_seen(near, ipv6=ipv6)
    assert seen["tcp"] == {1}
    assert seen["neighbours"] <= {255}
    assert hops_seen(vms["off"], ipv6=ipv6)["tcp"] == {64}
    port = near.port
    source = str(port.link_local if ipv6 else port.ip4)
    assert ask(port.network, source, ID) == (200, near.instance_id)


@pytest.fixture
def container(near: Instance) -> Iterator[str]:
    """Provide the namespace of a container behind NAT in `near`."""
    name = "box-1"
    subprocess.run(("ip", "netns", "add", name), check=True)
    try:
        near.execute(
            *("ip", "link", "add", "c0", "type", "veth"),
            *("peer", "name", "eth0", "netns", name),
        )
        near.execute("ip", "addr", "add", "172.17.0.1/16", "dev", "c0")
        near.execute("ip", "link", "set", "c0", "up")
        near.execute("sysctl", "-qw", "net.ipv4.ip_forward=1")
        rule = ("-s", "172.17.0.0/16", "-j", "MASQUERADE")
        near.execute("iptables", "-t", "nat", "-A", "POSTROUTING", *rule)
        for words in (
            ("addr", "add", "172.17.0.2/16", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", "172.17.0.1"),
        ):
            subprocess.run(("ip", "-n", name, *words), check=True)
        yield name
    finally:
        subprocess.run(("ip", "netns", "del", name), check=True)


def test_a_container_behind_nat_gets_nothing(shielded, near, container):
    """It is counted, by what the instance's kernel sends back."""
    shares(shielded, near)
    curl = ("curl", "-sS", "-m", "3", f"http://169.254.169.254{ID}")
    done = subprocess.run(
        ("ip", "netns", "exec", container, *curl),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (28, "")  # a timeout
    assert near.fetch(ID).text == near.instance_id
    name = "ended_at_hop_limit"
    wait_for(
        lambda: shares(shielded, near).get(name, 0) > 0,
        timeout_s=15,
        what="a count",
    )
    samples = parse(scrape())
    assert value(samples, "shield_ended_at_hop_limit") >= 1
    shielded.agent.configure({**OPTIONS, (OWN, "hop_limit"): "64"})
    shielded.agent.reload()

    def gets() -> bool:
        words = ("ip", "netns", "exec", container, *curl)
        done = subprocess.run(
            words, capture_output=True, text=True, check=False
        )
        return done.stdout == near.instance_id

    wait_for(gets, timeout_s=20, what="the container's metadata")
    shielded.agent.configure(OPTIONS)
    shielded.agent.reload()
    wait_for(
        lambda: hops_seen(near, ipv6=False)["tcp"] == {1},
        timeout_s=20,
        what="the hop limit again",
    )


# ---------------------------------------------------------- the boot window


def test_the_window_opens_when_a_port_comes_up(shielded, vms):
    """And not again when the agent or ovn-controller is restarted."""
    vm = vms["required"]
    given = {**OPTIONS, (OWN, "boot_window"): "3"}
    shielded.agent.configure(given)
    shielded.agent.reload()
    both = (ID, DOCUMENT)

    def closed(of: Instance) -> bool:
        return [status(of, path) for path in both] == [401, 401]

    wait_for(lambda: closed(vm), timeout_s=20, what="the end of the window")
    port = shielded.neutron.create_port(vm.port.network, project_id="required")
    (new,) = shielded.plug([port])
    wait_for(
        lambda: [status(new, path) for path in both] == [200, 200],
        timeout_s=20,
        interval_s=0.05,
        what="answers without a token",
    )
    wait_for(lambda: closed(new), timeout_s=10, what="the end of the window")
    token = new_token(new)
    assert with_token(new, token, DOCUMENT) == 200
    key = "external_ids:ovn-installed-ts"
    read = ("--bare", "get", "Interface", new.outer, key)
    came_up = shielded.ovn.vsctl(*read)
    shielded.ovn.restart("ovn-controller")
    shielded.ovn.sync()
    shielded.agent.kill9()
    shielded.agent.start()
    shielded.agent.wait_ready()
    assert shielded.ovn.vsctl(*read) == came_up
    assert closed(new)
    assert closed(vm)
    assert with_token(new, token, DOCUMENT) == 200
    shielded.agent.configure(OPTIONS)
    shielded.agent.reload()
    wait_for(
        lambda: status(new, DOCUMENT) == 200, timeout_s=20, what="no window"
    )


# ------------------------------------------------------- how long it holds


class WithToken:
    """An instance whose requests carry its TOKEN; for `Loader`."""

    def __init__(self, vm: Instance, token: str) -> None:
        self._vm = vm
        self._headers = {TOKEN: token}
        self.instance_id = vm.instance_id

    def fetch(self, **more: Any) -> Response:
        """Ask as the instance."""
        return self._vm.fetch(headers=self._headers, **more)


def kill(box: Sandbox, kind: str) -> None:
    """Kill all processes of KIND, and wait until others are there."""
    old = {process.pid for process in box.agent.processes(kind)}
    assert old
    for pid in old:
        send_signal(pid, signal.SIGKILL)

    def are_others() -> bool:
        return bool({p.pid for p in box.agent.processes(kind)} - old)

    wait_for(are_others, timeout_s=30, what=f"another {kind}")


def test_a_token_outlives_all_that_is_killed(shielded, vms):
    """By reload, kill -9 and an agent and a fleet that are started again."""
    box, vm = shielded, vms["required"]
    loaded: Any = WithToken(vm, new_token(vm, 3600))
    with Loader([loaded], rate=100) as load:
        box.agent.configure({("metadata_haproxy", "timeout_client"): "37"})
        box.agent.reload()
        for kind in ("haproxy", "privsep", "supervisord", "haproxy"):
            asked = load.requests
            kill(box, kind)
            wait_for(
                lambda n=asked: load.requests > n + 200,
                timeout_s=30,
                what="requests",
            )
        box.agent.kill9()
        box.agent.stop_fleet()
        box.agent.start()
        box.agent.wait_ready()
        asked = load.requests
        wait_for(
            lambda: load.requests > asked + 200, timeout_s=30, what="requests"
        )
    refused = [each for each in load.failures if "401" in each.reason]
    assert refused == []
    assert load.requests > 1000
    print(f"{load.requests} requests, {len(load.failures)} without an answer")


def test_a_new_owner_of_the_address_has_nothing_of_the_token(shielded, vms):
    box, network = shielded, vms["required"].port.network
    create = box.neutron.create_port
    address = ["10.10.0.77"]
    port = create(network, project_id="required", addresses=address)
    (first,) = box.plug([port])
    wait_for(
        lambda: status(first, DOCUMENT) == 200, timeout_s=20, what="metadata"
    )
    token = new_token(first)
    assert with_token(first, token) == 200
    box.unplug([first])
    box.neutron.delete_port(port)
    port = create(network, project_id="required", addresses=address)
    (second,) = box.plug([port])
    wait_for(
        lambda: status(second, DOCUMENT) == 200, timeout_s=20, what="metadata"
    )
    assert with_token(second, token) == 401
    assert with_token(second, new_token(second)) == 200


def test_a_token_is_of_the_instance_on_all_its_networks(shielded, vms):
    """Another haproxy, as on another host, has the same key for it."""
    vm = vms["required"]
    network = shielded.neutron.create_network("b", subnets=("10.30.0.0/24",))
    port = shielded.neutron.create_port(
        network, instance_id=vm.instance_id, project_id="required"
    )
    (other,) = shielded.plug([port])
    wait_for(
        lambda: status(other, DOCUMENT) == 200, timeout_s=20, what="metadata"
    )
    assert with_token(other, new_token(vm)) == 200
    assert with_token(vm, new_token(other)) == 200


def test_a_request_that_is_held_keeps_its_token(shielded, vms):
    """What is asked before the agent knows whose address it is."""
    box, vm = shielded, vms["both"]
    token = new_token(vm)
    hold = host_files.map_of(vm.port.network.id)
    key = str(vm.port.ip4)
    entry = stats(vm.port.network.id, f"get map {hold} {key}")
    value = re.search(r'value="([^"]*)"', entry)
    assert value is not None

    def held(**headers: str) -> int:
        """Ask while the address is not in the map for a moment."""
        stats(vm.port.network.id, f"del map {hold} {key}")
        begin = threading.Timer(
            0.7,
            lambda: stats(
                vm.port.network.id, f"add map {hold} {key} {value[1]}"
            ),
        )
        begin.start()
        try:
            answer = vm.fetch(ID, headers=headers)
        finally:
            begin.join()
        assert answer.seconds > 0.4
        return answer.status

    box.agent.stop()
    try:
        assert held(**{TOKEN: token}) == 200
        assert held(**{TOKEN: token[:-1]}) == 401
        assert held() == 401
        assert held(**{TOKEN: token, "Via": "1.1 x"}) == 403
    finally:
        box.agent.start()
        box.agent.wait_ready()


def test_after_a_new_secret_old_tokens_are_refused(shielded, vms):
    """At once, and nothing else is different."""
    box, vm = shielded, vms["required"]
    secret = ("DEFAULT", "metadata_proxy_shared_secret")
    token = new_token(vm)
    old = box.nova.secret
    box.nova.accept(old, "another")
    with Loader([vms["off"]], rate=50) as load:
        box.agent.configure({secret: "another"})
        box.agent.reload()
        wait_for(
            lambda: with_token(vm, token) == 401, timeout_s=20, what="refusal"
        )
        assert with_token(vm, new_token(vm)) == 200
        box.agent.configure({secret: old})
        box.agent.reload()
        wait_for(
            lambda: with_token(vm, token) == 200, timeout_s=20, what="the old"
        )
    assert load.failures == []
    box.nova.accept(old)
