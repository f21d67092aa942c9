"""Session tokens, as AWS and Firecracker document them, and their clients.

A network with an instance of each project; each project has other options.
"""

import base64
import hmac
import json
import os
import random
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ovn_metadata.agent.haproxy import tokens
from sandbox import wait_for
from sandbox.inside import ask
from sandbox.shielded import (
    DOCUMENT,
    ID,
    PROJECTS,
    TOKEN,
    TOKEN_PATH,
    TTL,
    new_token,
    status,
    with_token,
)

LONG_S = 180.0  # for a Python that loads much
FORGED = int(os.environ.get("FORGED_TOKENS", "2000"))
# Prints the id of the instance, and whether it was asked for with a token.
FETCH = """
from botocore.utils import InstanceMetadataFetcher
fetcher = InstanceMetadataFetcher(timeout=30, num_attempts=1)
token = fetcher._fetch_metadata_token()
path = "latest/meta-data/instance-id"
print(fetcher._get_request(path, None, token).text, len(token or "") > 50)
"""
# Prints what its source for EC2 finds on AWS, where it asks for a token, and
# elsewhere; then what the one for OpenStack finds.
CLOUD_INIT = """
from cloudinit import helpers
from cloudinit.sources import DataSourceEc2, DataSourceOpenStack
class Distro:
    name = "debian"
    networking = None
    fallback_interface = "eth0"
    def get_tmp_exec_path(self):
        return "/tmp"
def found(source, data):
    source.url_max_wait, source.url_timeout = 1, 30
    return bool(source.wait_for_metadata_service()) and data(source)
for name in ("aws", "unknown"):
    source = DataSourceEc2.DataSourceEc2({}, Distro(), helpers.Paths({}))
    source._cloud_name = name
    print(found(source, lambda s: s.crawl_metadata()["meta-data"]
        ["instance-id"]), bool(source._api_token))
source = DataSourceOpenStack.DataSourceOpenStack({}, None, helpers.Paths({}))
source.distro = Distro()
print(found(source, lambda s: s._crawl_metadata()["metadata"]["uuid"]))
"""
GUEST = Path(os.environ.get("OVN_METADATA_GUEST", ""))


@pytest.mark.parametrize("project", ["optional", "required"])
@pytest.mark.parametrize("ttl", ["1", "60", "21600"])
def test_a_token_says_how_long_it_lives(vms, project, ttl):
    vm = vms[project]
    answer = vm.fetch(TOKEN_PATH, method="PUT", headers={TTL: ttl})
    assert answer.status == 200
    assert answer.headers[TTL] == ttl
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.text.strip() == answer.text
    if with_token(vm, answer.text) != 200:
        # One of a second may be over on a busy machine before it is used.
        assert ttl == "1"
        more = (new_token(vm, 1) for _ in range(20))
        assert any(with_token(vm, token) == 200 for token in more)


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


@pytest.mark.parametrize(
    ("passed_s", "back_s", "lives"),
    [
        (0, 0, True),
        (21_599 - 10, 0, True),
        (21_600, 0, False),
        (90_000, 0, False),
        (0, 45, True),
        (20_000, 20_045, True),
        (0, 100, False),
        (60, 21_600, False),
        (0, 90_000, False),
        (0, 2**40, False),
    ],
    ids=[
        "new",
        "old",
        "expired, or the clock went forwards",
        "a day later",
        "another host's clock",
        "back by what had passed",
        "back, and it would live for longer than 21,660 s",
        "back by 6 h",
        "back by a day",
        "of no clock",
    ],
)
def test_a_clock_that_jumps(shielded, vms, passed_s, back_s, lives):
    """A token of 21,600 s, PASSED_S after; then the clock goes BACK_S back.

    haproxy keeps nothing: a clock that jumps is a token of another time. It
    is signed here with the right key, as no client can.
    """
    vm = vms["required"]
    until = int(time.time()) + 21_600 - passed_s + back_s
    token = signed(until, shielded.nova.secret, vm.instance_id)
    assert (with_token(vm, token) == 200) == lives


def signed(until: int, secret: str, instance: str) -> str:
    """Return the token that INSTANCE has until UNTIL."""
    key = base64.b64decode(tokens.key(secret, instance))
    digest = hmac.digest(key, str(until).encode(), "sha256")
    return f"{until}.{base64.urlsafe_b64encode(digest).decode()[:-1]}"


def test_a_token_expires(vms):
    vm = vms["required"]
    token = new_token(vm, 10)
    assert with_token(vm, token) == 200
    wait_for(
        lambda: with_token(vm, token) == 401, timeout_s=60, what="its end"
    )


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


@pytest.mark.parametrize("project", ["off", "optional", "required"])
def test_an_sdk_of_aws(vms, project):
    """Botocore's fetcher, as it is, in the instance."""
    vm = vms[project]
    fetch = (sys.executable, "-c", FETCH)
    found, has_token = vm.execute(*fetch, timeout_s=LONG_S).split()
    assert found == vm.instance_id
    # If there are no tokens, that is Nova's own answer to a PUT.
    assert has_token == "True" or project == "off"


@pytest.mark.skipif(
    not os.environ.get("OVN_METADATA_GUEST"),
    reason="no cloud-init: OVN_METADATA_GUEST is what `make test` unpacks",
)
@pytest.mark.parametrize("project", ["optional", "required"])
def test_cloud_inits_sources(vms, project):
    """A guest's own, or this Debian's with what is unpacked."""
    vm = vms[project]
    packages = GUEST / "usr/lib/python3/dist-packages"
    python = ("env", f"PYTHONPATH={packages}", "/usr/bin/python3")
    if (GUEST / "usr/bin/python3").exists():
        python = ("chroot", str(GUEST), "/usr/bin/python3")
    told = vm.execute(*python, "-c", CLOUD_INIT, timeout_s=LONG_S)
    said = told.split("\n")
    assert said[0] == f"{vm.instance_id} True"
    elsewhere = project == "optional" and vm.instance_id
    assert said[1] == f"{elsewhere} False"
    assert json.loads(vm.fetch(DOCUMENT).text)["uuid"] == said[2]


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


def forger(
    good: str, foreign: str, sign: Callable[[int], str], by_other: str
) -> Callable[[], str]:
    """Return what makes a token that must be refused, by lot.

    GOOD is one of the instance, for six hours. FOREIGN is one of another, and
    so is BY_OTHER, of another time. SIGN makes the instance's own of any time.
    """
    dice = random.Random(15)
    letters = string.ascii_letters + string.digits + "-_."
    until, _, mac = good.partition(".")
    end = int(until)

    def changed() -> str:
        at = dice.randrange(len(good))
        new = dice.choice(letters.replace(good[at], ""))
        return good[:at] + new + good[at + 1 :]

    forms = ("0{}.{}", "+{}.{}", "{}..{}", "{}.{}=", "{}{}", "{}.", ".{}")
    kinds: list[Callable[[], str]] = [
        changed,
        lambda: good[: dice.randrange(len(good))],
        lambda: f"{end - dice.randrange(1, 21600)}.{mac}",  # another time
        lambda: f"{until}.{foreign.partition('.')[2]}",
        lambda: sign(end - 21_601 - dice.randrange(10**6)),  # expired
        lambda: sign(end + 600 + dice.randrange(10**6)),  # lives too long
        lambda: by_other,
        lambda: dice.choice(forms).format(until, mac),
        lambda: "".join(dice.choices(letters, k=dice.randrange(1, 80))),
    ]

    def forged() -> str:
        return dice.choice(kinds)()

    return forged


def test_forged_tokens(shielded, vms):
    """By a seeded generator, over connections that are kept."""
    vm, other, secret = vms["required"], vms["optional"], shielded.nova.secret
    good = new_token(vm, 21_600)
    forged = forger(
        good,
        new_token(other, 21_600),
        lambda until: signed(until, secret, vm.instance_id),
        signed(int(time.time()) + 600, secret, other.instance_id),
    )
    batch = 50
    with vm.connect(timeout=60) as link, link.makefile("rb") as answers:
        for _ in range(FORGED // batch):
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
