"""A Nova that fails is named by its code, and so is the wrong secret."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from ovn_metadata.agent.haproxy.runtime import ask_nova
from sandbox import Sandbox, host, wait_for
from sandbox.case import Case
from sandbox.nova import Nova
from sandbox.sockets import stats, status

# A client that was over its share is named for a minute.
WAIT_S = 120
INTERVAL = ("ovn_metadata_agent", "selfcheck_interval")
OFTEN, DEFAULT = "3", "30"


@pytest.fixture(scope="module")
def box(box: Sandbox) -> Iterator[Sandbox]:
    """Provide it with an agent that asks Nova more often than by itself."""
    box.agent.configure({INTERVAL: OFTEN})
    box.agent.reload()
    # Who was over a share in a test before is named for a minute.
    stats("gateway", "clear table instances")
    wait_well()
    yield box
    box.agent.configure({INTERVAL: DEFAULT})
    box.agent.reload()


def codes() -> set[str]:
    """Return the codes that agent-status shows."""
    return {each["code"] for each in status()["problems"]}


def wait_code(code: str, words: str = "") -> None:
    """Wait until CODE is the only problem, with WORDS in its reason."""

    def is_so() -> bool:
        found = status()["problems"]
        return [each["code"] for each in found] == [code] and (
            words in found[0]["reason"]
        )

    wait_for(is_so, timeout_s=WAIT_S, what=f"only {code} {words}")


def wait_well() -> None:
    wait_for(lambda: not codes(), timeout_s=WAIT_S, what="the end of it")


def test_a_nova_that_does_not_answer_is_named_though_nobody_asks(
    box: Sandbox,
):
    begun = time.monotonic()
    box.nova.stop()
    try:
        wait_code("OVNMD-501", "127.0.0.1 port 8775: Connection refused")
        print(f"named after {time.monotonic() - begun:.0f} s")
    finally:
        box.nova.start()
    wait_well()


def test_a_request_that_fails_names_it_at_once(box: Sandbox, case: Case):
    vm = case.instance(case.network())
    box.nova.stop()
    try:
        assert vm.fetch(timeout=30).status == 503
        wait_code("OVNMD-501")
    finally:
        box.nova.start()
    wait_for(
        lambda: vm.fetch().status == 200 and not codes(),
        timeout_s=WAIT_S,
        what="the end of it",
    )


def test_a_nova_that_hangs_is_named(box: Sandbox):
    box.nova.freeze()
    try:
        wait_code("OVNMD-501", "gives no answer")
    finally:
        box.nova.thaw()
    wait_well()


@pytest.mark.parametrize(
    ("delay_s", "answer", "code"),
    [(3.5, 0, "OVNMD-508"), (0, 500, "OVNMD-505")],
    ids=["slow", "errors"],
)
def test_a_nova_that_is_not_well_is_named(box: Sandbox, delay_s, answer, code):
    box.nova.set_delay(delay_s)
    box.nova.set_status(answer)
    try:
        wait_code(code)
    finally:
        box.nova.set_delay(0)
        box.nova.set_status(0)
    wait_well()


def test_what_one_instance_sends_is_not_nova_s_silence(
    box: Sandbox, case: Case
):
    """Its URL is too long for Nova's server, which closes the connection."""
    network = case.network()
    bad, good = (case.instance(network, name) for name in ("bad", "good"))
    box.nova.limit_head(4096)
    try:
        before = box.nova.probes

        def is_probed() -> bool:
            """Send a bad and a good request; see if the agent sent two."""
            assert bad.fetch(f"/{'x' * 5000}").status == 502
            assert good.fetch().status == 200
            # On a busy machine Nova may be slow, but not silent.
            assert codes() <= {"OVNMD-508"}
            return box.nova.probes - before >= 2

        wait_for(is_probed, timeout_s=WAIT_S, interval_s=1, what="two probes")
        # Now it closes every connection, and only one instance asks.
        box.nova.limit_head(1)
        wait_for(
            lambda: bad.fetch().status == 502 and "OVNMD-501" in codes(),
            timeout_s=WAIT_S,
            interval_s=1,  # a greedy instance's requests go another way
            what="word of it",
        )
    finally:
        box.nova.limit_head(sys.maxsize)
    wait_for(
        lambda: good.fetch().status == 200 and not codes(),
        timeout_s=WAIT_S,
        what="the end of it",
    )


def test_a_nova_with_another_secret_is_named(box: Sandbox, case: Case):
    """Once an instance is refused, and until Nova accepts the secret."""
    vm = case.instance(case.network())
    box.nova.accept("another secret")
    try:
        wait_for(
            lambda: vm.fetch().status == 403 and codes() == {"OVNMD-504"},
            timeout_s=WAIT_S,
            interval_s=1,
            what="word of it",
        )
    finally:
        box.nova.accept("sandbox-secret")
    wait_well()


def test_the_secret_is_tried_at_the_start_though_nobody_asks(
    own_box: Sandbox,
):
    own_box.nova.accept("another secret")
    own_box.agent.start()
    wait_code("OVNMD-504")
    wait_for(
        lambda: own_box.agent.status().returncode == 3,
        timeout_s=60,
        what="its exit code once it is ready",
    )


def test_one_of_two_servers_is_named(own_box: Sandbox):
    agent = own_box.agent
    with Nova(own_box.folder / "second", port=8776):
        two = ("DEFAULT", "nova_metadata_host")
        both = "127.0.0.1:8775,127.0.0.1:8776"
        agent.configure({two: both, INTERVAL: OFTEN})
        agent.start()
        agent.wait_ready()
        wait_well()
    wait_code("OVNMD-507", "127.0.0.1:8776: ")
    assert agent.status().returncode == 5
    own_box.nova.stop()
    wait_code("OVNMD-501")


def test_one_of_two_servers_with_another_secret_is_named(own_box: Sandbox):
    """The other one accepts what the agent signs."""
    agent = own_box.agent
    with Nova(own_box.folder / "second", port=8776, secret="another") as nova:
        two = ("DEFAULT", "nova_metadata_host")
        both = "127.0.0.1:8775,127.0.0.1:8776"
        agent.configure({two: both, INTERVAL: OFTEN})
        agent.start()
        wait_code("OVNMD-504", "each of")
        rounds = nova.probes + 10

        def is_named_still() -> bool:
            assert codes() == {"OVNMD-504"}
            return nova.probes >= rounds

        wait_for(is_named_still, timeout_s=120, what="more requests")
        nova.accept(own_box.nova.secret)
        wait_well()


def test_the_agent_chooses_which_server_it_asks(own_box: Sandbox):
    """Until that is down: haproxy would ask them in turn."""
    agent = own_box.agent
    with Nova(own_box.folder / "second", port=8776) as second:
        two = ("DEFAULT", "nova_metadata_host")
        agent.configure({two: "127.0.0.1:8775,127.0.0.1:8776"})
        agent.start()
        agent.wait_ready()
        wait_well()
        before = own_box.nova.probes, second.probes
        gateway = host.HOME / "metadata_proxy"
        for _ in range(20):
            assert ask_nova(gateway, "/", "agent", "none", 1).status == 200
        assert second.probes - before[1] >= 20
        assert own_box.nova.probes - before[0] < 5  # the agent asks as well
    answer = ask_nova(gateway, "/", "agent", "none", 1)
    assert (answer.status, answer.is_from_nova) == (200, True)


def test_nova_is_asked_for_nothing_that_costs(own_box: Sandbox):
    """Only its root, and one signed request at the start."""
    own_box.agent.configure({INTERVAL: "1"})
    own_box.nova.record()
    own_box.agent.start()
    own_box.agent.wait_ready()
    wait_for(lambda: own_box.nova.probes > 8, timeout_s=99, what="many rounds")
    assert own_box.nova.recorded() == []
