"""The agent asks from inside the namespaces, as an instance would."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

import pytest

from sandbox import Instance, Network, Sandbox, namespaces, wait_for
from sandbox.case import Case, ready, wait_served
from sandbox.daemons import run
from sandbox.ovn import OVS_RUN
from sandbox.processes import cpu_s, sole
from sandbox.sockets import network_status, stats, status

NETWORKS = int(os.environ.get("SELFCHECK_NETWORKS", "20"))


@pytest.fixture(scope="module")
def box(host) -> Sandbox:
    """Provide an agent that finds what is broken by asking, and not else."""
    options = {
        ("ovn_metadata_agent", "selfcheck_interval"): "2",
        ("ovn_metadata_agent", "resync_interval"): "3600",
        ("ovn_metadata_agent", "spare_networks"): "1",
    }
    return ready(host.sandbox(options))


@pytest.fixture(scope="module")
def case(box: Sandbox) -> Case:
    return Case(box)


@pytest.fixture(scope="module")
def instance(case: Case) -> Instance:
    return case.instance(case.network("n", "10.10.0.0/24", "fd00:10::/64"))


def problems() -> dict[str, str]:
    """Return code -> what has it, of the problems shown."""
    return {each["code"]: each["about"] for each in status()["problems"]}


def inside(network: Network, *command: str) -> None:
    run("ip", "netns", "exec", network.namespace, *command)


def address_gone(network: Network, instance: Instance) -> None:
    where = ("169.254.169.254/32", "dev", f"tap{network.id[:10]}1")
    inside(network, "ip", "address", "del", *where)


def address6_gone(network: Network, instance: Instance) -> None:
    where = ("fe80::a9fe:a9fe/128", "dev", f"tap{network.id[:10]}1")
    inside(network, "ip", "address", "del", *where)


def namespace_gone(network: Network, instance: Instance) -> None:
    namespaces.lose(network.namespace)


def entry_gone(network: Network, instance: Instance) -> None:
    file = re.findall(r"[^\s(]+\.map", stats(network.id, "show map"))[0]
    stats(network.id, f"del map {file} {instance.port.ip4}")


def lo_without_ipv6(network: Network, instance: Instance) -> None:
    """Take IPv6 from lo, over which the agent's own requests go."""
    inside(network, "sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=1")


@pytest.mark.parametrize(
    "damage",
    [address_gone, address6_gone, namespace_gone, entry_gone, lo_without_ipv6],
)
def test_what_is_broken_is_found_and_mended(box, instance, damage):
    network = instance.port.network
    wait_served(instance)
    network_status(network.id)  # else it is not known what it was like
    mark = box.agent.mark()
    damage(network, instance)
    wait_for(
        lambda: f"network={network.id} found: " in box.agent.log(mark),
        timeout_s=90,
        what="the repair",
    )
    wait_served(instance)
    wait_for(lambda: not problems(), timeout_s=90, what="the end of it")


def test_a_shorter_interval_counts_from_the_reload_on(box, instance):
    """Not only once the longer one of before is over."""

    def age_s() -> float:
        network = instance.port.network.id
        return time.time() - float(network_status(network)["seen"])

    wait_served(instance)
    often = "2", "a round", lambda: age_s() < 2
    never = "3600", "the end of the rounds", lambda: age_s() > 15
    for interval, what, is_so in (often, never, often):
        option = ("ovn_metadata_agent", "selfcheck_interval")
        box.agent.configure({option: interval})
        box.agent.reload_and_wait()
        wait_for(is_so, timeout_s=60, what=what)


@contextlib.contextmanager
def prohibited(network: Network) -> Iterator[None]:
    """Let nobody in NETWORK's namespace connect to the metadata address."""
    local = ("table", "local")
    rule = ("pref", "50", "to", "169.254.169.254", "prohibit")
    inside(network, "ip", "rule", "add", "pref", "100", *local)
    inside(network, "ip", "rule", "add", *rule)
    inside(network, "ip", "rule", "del", "pref", "0", *local)
    try:
        yield
    finally:
        inside(network, "ip", "rule", "add", "pref", "0", *local)
        inside(network, "ip", "rule", "del", *rule)
        inside(network, "ip", "rule", "del", "pref", "100", *local)


@contextlib.contextmanager
def answers_prohibited(network: Network) -> Iterator[None]:
    """Let instances of NETWORK ask, and nobody answer them."""
    rule = ("pref", "50", "to", "10.10.0.0/24", "prohibit")
    inside(network, "ip", "rule", "add", *rule)
    try:
        yield
    finally:
        inside(network, "ip", "rule", "del", *rule)


@contextlib.contextmanager
def rules_flushed(network: Network) -> Iterator[None]:
    """Have nothing lead to the routes of NETWORK's subnets."""
    inside(network, "ip", "rule", "flush")
    try:
        yield
    finally:
        usual = ("pref", "32766", "table", "main")
        inside(network, "ip", "rule", "add", *usual)


@pytest.mark.parametrize(
    "damage", [prohibited, answers_prohibited, rules_flushed]
)
def test_what_is_not_mended_is_named_until_it_is_over(box, instance, damage):
    network = instance.port.network
    with damage(network):
        wait_for(
            lambda: problems() == {"OVNMD-306": network.id},
            timeout_s=90,
            what="only OVNMD-306",
        )
        found = box.agent.status()
        assert found.returncode == 3
        assert "OVNMD-306" in found.stdout
        seen = network_status(network.id)["seen"]
        assert time.time() - seen > 3
    wait_for(lambda: not problems(), timeout_s=90, what="the end of it")
    wait_for(
        lambda: network_status(network.id)["seen"] > seen,
        timeout_s=90,
        what="another answer",
    )


@contextlib.contextmanager
def unanswered() -> Iterator[None]:
    """Have ovs-vswitchd take no command, as in another container."""
    socket = OVS_RUN / "ovs-vswitchd.ctl"
    away = socket.rename(socket.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(socket)


def test_it_needs_no_word_of_ovs_vswitchd(box, instance):
    network = instance.port.network
    wait_served(instance)
    with unanswered(), prohibited(network):
        wait_for(
            lambda: problems() == {"OVNMD-306": network.id},
            timeout_s=90,
            what="only OVNMD-306",
        )
    wait_for(lambda: not problems(), timeout_s=90, what="the end of it")


def test_flows_that_are_gone_are_named(box, instance):
    """ovn-controller does not notice; what it does then is its restart."""
    run("ovs-ofctl", "del-flows", box.ovn.bridge)
    wait_for(
        lambda: "OVNMD-206" in problems(), timeout_s=90, what="a word of it"
    )
    box.ovn.restart("ovn-controller")
    wait_served(instance)
    wait_for(lambda: not problems(), timeout_s=120, what="the end of it")


def test_a_metadata_port_that_is_disabled_is_named(box, instance):
    network = instance.port.network
    change = ("--wait=hv", "lsp-set-enabled", network.metadata.id)
    box.ovn.nbctl(*change, "disabled")
    wait_for(
        lambda: problems() == {"OVNMD-206": network.id},
        timeout_s=90,
        what="only OVNMD-206",
    )
    box.ovn.nbctl(*change, "enabled")
    wait_served(instance)
    wait_for(lambda: not problems(), timeout_s=90, what="the end of it")


def test_a_network_without_a_bound_port_needs_no_flows(box, case: Case):
    """OVN makes them when it binds one: of an instance that is off, never."""
    network = case.network("off")
    port = box.neutron.create_port(network)
    wait_for(
        lambda: network_status(network.id)["seen"],
        timeout_s=60,
        what="an answer without a complaint",
    )
    assert not problems()
    box.neutron.delete_port(port)


def test_each_network_is_asked_in_and_it_costs_little(box, case: Case):
    """All of it: the agent, its privileged daemon, for a round of all."""
    made = [case.network(f"n{number}") for number in range(NETWORKS)]
    case.plug([box.neutron.create_port(network) for network in made])

    def oldest() -> float:
        return min(network_status(network.id)["seen"] for network in made)

    wait_for(oldest, timeout_s=120, what="an answer in each")
    pids = [sole("agent").pid, sole("privsep").pid]
    before, begun = oldest(), sum(map(cpu_s, pids))
    at = time.monotonic()
    wait_for(lambda: oldest() > before + 8, timeout_s=120, what="more rounds")
    used_s = (sum(map(cpu_s, pids)) - begun) / (time.monotonic() - at)
    # A round of eight every 2 s here, and every 30 s by default.
    print(f"{100 * used_s:.1f} % of a core, all of it, at a round every 2 s")
    # A busy machine may have some for a moment: Nova may be slow.
    wait_for(lambda: not problems(), timeout_s=90, what="no problem")
