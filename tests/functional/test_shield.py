"""What an operator sees of the shield: what is, or would be, refused."""

import json
import re
from collections.abc import Collection

from sandbox import Instance, Sandbox, wait_for
from sandbox.metrics import parse, scrape, value
from sandbox.shielded import (
    DOCUMENT,
    ID,
    TOKEN_PATH,
    shares,
    with_token,
)
from sandbox.sockets import stats

FORWARDED, WITHOUT, BAD = NAMES = (
    "forwarded_requests",
    "requests_without_token",
    "requests_with_bad_token",
)


def asked(
    box: Sandbox, vms: Collection[Instance]
) -> dict[str, dict[str, int]]:
    """Return instance -> what `agent-status asks` has of VMS' shield.

    With the answers that refused it, as "refused". All of VMS have asked. A
    haproxy that is slow is left out, of them too: then again.
    """
    wanted = {vm.instance_id for vm in vms}

    def found() -> dict[str, dict[str, int]]:
        said = box.agent.status("asks", "--json").stdout
        told = {
            each["instance"]: {
                **each.get("shield", {}),
                "refused": each["answers"].get("other 4xx", 0),
            }
            for each in (json.loads(said)["asks"] if said else ())
        }
        return told if wanted <= told.keys() else {}

    return wait_for(found, timeout_s=60, what="what all have asked for")


def test_what_would_be_refused_is_counted_and_named(shielded, vms):
    """In report mode and with optional tokens as if it were enforced."""
    network = vms["off"].port.network.id

    def counted() -> dict[str, int]:
        """Return what the network's haproxy has counted itself."""
        said = stats(network, "; ".join(f"get var proc.{n}" for n in NAMES))
        found = re.findall(r"proc\.(\w+): type=sint value=<(\d+)>", said)
        return dict.fromkeys(NAMES, 0) | {n: int(count) for n, count in found}

    for vm in vms.values():
        vm.fetch(DOCUMENT)  # so that each has an entry
    before, seen = counted(), shares(vms["off"])
    told = asked(shielded, vms.values())
    proxied = {"Via": "1.1 x"}
    for vm in vms.values():
        vm.fetch(ID, headers=proxied)
        vm.fetch(ID)
        vm.fetch(DOCUMENT)
        with_token(vm, "x")
    one = {
        "off": {},
        "report": {FORWARDED: 1},
        "enforce": {FORWARDED: 1, "refused": 1},
        "optional": {WITHOUT: 2, BAD: 1, "refused": 1},
        "required": {WITHOUT: 2, BAD: 1, "refused": 3},
        "both": {FORWARDED: 1, WITHOUT: 1, BAD: 1, "refused": 3},
    }
    now = asked(shielded, vms.values())
    for project, vm in vms.items():
        old, new = told[vm.instance_id], now[vm.instance_id]
        more = {name: count - old.get(name, 0) for name, count in new.items()}
        assert {n: c for n, c in more.items() if c} == one[project], project
    sums = {FORWARDED: 3, WITHOUT: 5, BAD: 3}
    assert counted() == {n: before[n] + count for n, count in sums.items()}

    def is_shown() -> bool:
        """Tell whether the status has it: it looks every five seconds."""
        now = shares(vms["off"])
        return all(
            now.get(n, 0) >= seen.get(n, 0) + count
            for n, count in sums.items()
        )

    wait_for(is_shown, timeout_s=60, what="the same in the status")
    text = shielded.agent.status().stdout
    assert "  shield: " in text
    assert "requests without token" in text
    metric = "network_shield_requests_total"

    def is_exported() -> bool:
        """Tell whether the metrics have it: they are a second old at most."""
        samples = parse(scrape())
        return (
            value(samples, metric, reason=WITHOUT) >= 5
            and value(samples, metric, reason=FORWARDED) >= 3
        )

    wait_for(is_exported, timeout_s=60, what="the same in the metrics")


def test_why_tells_what_is_on(shielded, vms):
    """The agent's own request needs no token: it would look fine."""
    for project, text in (
        ("both", "; refuse_forwarded enforce, tokens required"),
        ("report", "; refuse_forwarded report, tokens off"),
    ):
        assert text in " ".join(why(shielded, vms[project]).split())
    assert "tokens" not in why(shielded, vms["off"])


def why(box: Sandbox, vm: Instance) -> str:
    """Return what `agent-status why` says of VM, once the path is whole.

    The agent notes that a network is served when its haproxy serves already.
    """

    def whole() -> str:
        done = box.agent.status("why", vm.instance_id)
        return done.stdout if done.returncode in (0, 5) else ""

    return wait_for(whole, timeout_s=60, what="a whole path")


def test_a_reason_is_in_the_log_of_who_was_refused(vms):
    vm = vms["required"]
    answer = vm.fetch(ID)
    assert answer.status == 401
    assert TOKEN_PATH in answer.headers["X-OVN-Metadata-Reason"]
    assert answer.text.strip() == answer.headers["X-OVN-Metadata-Reason"]
