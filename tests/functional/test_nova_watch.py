"""agent-status has a word about a Nova that fails, and about the secret."""

from __future__ import annotations

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
