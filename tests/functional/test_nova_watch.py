"""agent-status has a word about a Nova that fails, and about the secret."""

from __future__ import annotations

import sys

from sandbox import Sandbox, wait_for
from sandbox.case import Case

WAIT_S = 60


def has_problem(box: Sandbox, word: str) -> bool:
    """Tell whether agent-status names it."""
    lines = box.agent.status().stdout.splitlines()
    return any(line.startswith("problem: ") and word in line for line in lines)


def test_a_nova_that_does_not_answer_is_named_until_it_does(
    box: Sandbox, case: Case
):
    vm = case.instance(case.network())
    word = "nova_metadata_host"
    box.nova.stop()
    try:
        wait_for(
            lambda: vm.fetch().status == 503 and has_problem(box, word),
            timeout_s=WAIT_S,
            what="word of it",
        )
        assert box.agent.status().returncode == 0
    finally:
        box.nova.start()
    wait_for(
        lambda: vm.fetch().status == 200 and not has_problem(box, word),
        timeout_s=WAIT_S,
        what="the end of it",
    )


def test_what_one_instance_sends_is_not_nova_s_silence(
    box: Sandbox, case: Case
):
    """Its URL is too long for Nova's server, which closes the connection."""
    network = case.network()
    bad, good = (case.instance(network, name) for name in ("bad", "good"))
    word = "nova_metadata_host"
    box.nova.limit_head(4096)
    try:
        before, asked = box.nova.requests, 0

        def is_probed() -> bool:
            """Send a bad and a good request; see if the agent sent two."""
            nonlocal asked
            assert bad.fetch(f"/{'x' * 5000}").status == 502
            assert good.fetch().status == 200
            asked += 1
            assert not has_problem(box, word)
            return box.nova.requests - before >= asked + 2

        wait_for(is_probed, timeout_s=WAIT_S, interval_s=1, what="two probes")
        # Now it closes every connection, and only one instance asks.
        box.nova.limit_head(1)
        wait_for(
            lambda: bad.fetch().status == 502 and has_problem(box, word),
            timeout_s=WAIT_S,
            interval_s=1,  # a greedy instance's requests go another way
            what="word of it",
        )
    finally:
        box.nova.limit_head(sys.maxsize)
    wait_for(
        lambda: good.fetch().status == 200 and not has_problem(box, word),
        timeout_s=WAIT_S,
        what="the end of it",
    )


def test_a_nova_with_another_secret_is_named(box: Sandbox, case: Case):
    vm = case.instance(case.network())
    word = "metadata_proxy_shared_secret"
    box.nova.accept("another secret")
    try:
        wait_for(
            lambda: vm.fetch().status == 403 and has_problem(box, word),
            timeout_s=WAIT_S,
            what="word of it",
        )
        assert box.agent.status().returncode == 0
    finally:
        box.nova.accept("sandbox-secret")
    wait_for(
        lambda: vm.fetch().status == 200 and not has_problem(box, word),
        timeout_s=WAIT_S,
        what="the end of it",
    )
