"""What the map and the rules of a network have of the shield."""

import base64
import hmac
import re
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.config.per_project import PerProject
from ovn_metadata.agent.config.settings import Shield
from ovn_metadata.agent.core import identity
from ovn_metadata.agent.haproxy import asks, mapfile, shield, tokens
from ovn_metadata.agent.model import Instance

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
VM = Instance("vm", "p")


def per_project(value: Any) -> PerProject[Any]:
    return (
        value if isinstance(value, PerProject) else PerProject(value, {}, {})
    )


def options(
    forwarded: Any = "off", tokens: Any = "off", hops: Any = 64, window_s=0
) -> Shield:
    return Shield(
        per_project(forwarded),
        per_project(hops),
        per_project(tokens),
        window_s,
    )


def entry(
    given: Shield, owner: Instance = VM, *, secret: str = "s", up_at=()
) -> tuple[str, ...]:
    settings: Any = SimpleNamespace(shield=given, shared_secret=secret)
    return shield.entry(settings, NETWORK, dict(up_at), owner)


def test_off_there_is_nothing():
    assert entry(options()) == ()
    assert entry(options(window_s=60), up_at={"vm": 5}) == ()


def test_an_instance_has_what_its_project_and_network_have():
    some = PerProject("off", {}, {"p": "report"})
    key = tokens.key("s", "vm")
    assert entry(options(some)) == ("report", "off", "", "")
    assert entry(options(some), Instance("vm", "q")) == ()
    both = options(some, "required")
    assert entry(both) == ("report", "required", "", key)
    here = options("enforce", PerProject("required", {NETWORK: "off"}, {}))
    assert entry(here) == ("enforce", "off", "", "")


def test_the_window_ends_after_the_port_came_up():
    given = options(tokens="required", window_s=60)
    assert entry(given, up_at={"vm": 1000})[2] == "1060"
    assert entry(given, up_at={"other": 1000})[2] == ""
    # The port of an older OVN, or one that is on no bridge.
    assert entry(options(tokens="required"), up_at={"vm": 1000})[2] == ""


def port(instance: str, name: str, parent: str = "") -> Any:
    return SimpleNamespace(instance=instance, logical_port=name, parent=parent)


def test_an_instance_is_up_since_its_last_port():
    ports = [port("a", "1"), port("a", "2"), port("b", "3"), port("c", "4")]
    subport = port("d", "5", parent="2")
    installed = {"1": 7, "2": 9, "3": 0}
    assert shield.up_at([*ports, subport], installed) == {"a": 9, "d": 9}


def test_an_entry_keeps_its_owner_and_its_signature():
    """What reads an entry takes its first two fields and the last one."""
    address: Any = "10.0.0.5"
    owners = [(address, VM)]
    without = mapfile.entries(owners, "s")
    (plain,) = without.values()
    given = options("report", "required")
    with_shield = mapfile.entries(
        owners, "s", lambda owner: entry(given, owner)
    )
    (shielded,) = with_shield.values()
    assert plain == f"vm|p|{identity.signature('s', 'vm')}"
    words = shielded.split("|")
    assert [*words[:2], words[-1]] == plain.split("|")
    assert words[2:-1] == ["report", "required", "", tokens.key("s", "vm")]
    assert mapfile.common(without, with_shield) == with_shield


def test_a_key_is_of_the_secret_and_the_instance():
    keys = {tokens.key(s, i) for s in ("s", "t") for i in ("vm", "vm2")}
    assert len(keys) == 4
    assert all(len(base64.b64decode(key)) == 32 for key in keys)
    # Who has a token can't try words for the secret as fast as with HMAC.
    plain = hmac.digest(b"s", b"vm", "sha256")
    assert base64.b64decode(tokens.key("s", "vm")) != plain
    assert tokens.key("s", "vm") == tokens.key("s", "vm")


@pytest.mark.parametrize(
    ("projects", "expected"),
    [((), 9), (("p",), 1), (("p", "q"), 9), (("p", "r"), 3), (("r",), 3)],
)
def test_a_hop_limit_is_the_largest_of_its_instances(projects, expected):
    hops = PerProject(9, {}, {"p": 1, "r": 3})
    instances = {i: Instance("vm", each) for i, each in enumerate(projects)}
    desired: Any = SimpleNamespace(network=NETWORK, instances=instances)
    assert shield.hop_limit(options(hops=hops), desired) == expected
    here = PerProject(9, {NETWORK: 2}, {"p": 1})
    assert shield.hop_limit(options(hops=here), desired) == 2


def rules() -> list[str]:
    return [*shield.frontend_rules(), *shield.backend_rules()]


def test_what_is_set_is_what_is_read():
    """No rule reads a variable that none sets, and no ACL is unused."""
    lines = rules()
    text = "\n".join(lines)
    is_set = {*re.findall(r"set-var\(txn\.(\w+)\)", text)}
    read = {*re.findall(r"(?:var\(|[(,]|%\[var\()txn\.(\w+)", text)}
    assert read - {"identity"} <= is_set
    acls = {line.split()[1] for line in lines if line.startswith("acl ")}
    assert all(acl in text.replace(f"acl {acl} ", "") for acl in acls)


def test_each_count_has_a_number_of_its_own():
    text = "\n".join(rules())
    numbers = [int(n) for n in re.findall(r"sc-inc-gpc\((\d+),2\)", text)]
    assert sorted(numbers) == [*range(asks.NEXT, asks.NEXT + len(asks.SHIELD))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (options(), False),
        (options(hops=1, window_s=60), False),
        (options("report"), True),
        (options(tokens=PerProject("off", {}, {"p": "optional"})), True),
        (options(PerProject("off", {NETWORK: "enforce"}, {})), True),
        (options(PerProject("enforce", {NETWORK: "off"}, {})), False),
        (options(PerProject("off", {"other": "enforce"}, {})), False),
    ],
)
def test_a_network_has_rules_if_an_instance_may_need_them(given, expected):
    assert shield.is_on(given, NETWORK) == expected
