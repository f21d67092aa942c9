"""What an operator sees of the shield: what is, or would be, refused."""

import json
import re

from sandbox import Sandbox, wait_for
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


def asked(box: Sandbox) -> dict[str, dict[str, int]]:
    """Return instance -> what `agent-status asks` has of its shield.

    With the answers that refused it, as "refused".
    """
    entries = json.loads(box.agent.status("asks", "--json").stdout)["asks"]
    return {
        each["instance"]: {
            **each.get("shield", {}),
            "refused": each["answers"].get("other 4xx", 0),
        }
        for each in entries
    }


def test_what_would_be_refused_is_counted_and_named(shielded, vms):
    """In report mode and with optional tokens as if it were enforced."""
    network = vms["off"].port.network.id

    def counted() -> dict[str, int]:
        """Return what the network's haproxy has counted itself."""
        said = stats(network, "; ".join(f"get var proc.{n}" for n in NAMES))
        found = re.findall(r"proc\.(\w+): type=sint value=<(\d+)>", said)
        return dict.fromkeys(NAMES, 0) | {n: int(count) for n, count in found}

    before, seen = counted(), shares(shielded, vms["off"])
    told = asked(shielded)
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
    now = asked(shielded)
    for project, vm in vms.items():
        old, new = told.get(vm.instance_id, {}), now[vm.instance_id]
        more = {name: count - old.get(name, 0) for name, count in new.items()}
        assert {n: c for n, c in more.items() if c} == one[project], project
    sums = {FORWARDED: 3, WITHOUT: 5, BAD: 3}
    assert counted() == {n: before[n] + count for n, count in sums.items()}

    def is_shown() -> bool:
        """Tell whether the status has it: it looks every five seconds."""
        now = shares(shielded, vms["off"])
        return all(
            now.get(n, 0) >= seen.get(n, 0) + count
            for n, count in sums.items()
        )

    wait_for(is_shown, timeout_s=60, what="the same in the status")
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
