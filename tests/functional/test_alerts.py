"""The alert rules: promtool's opinion, and a real Prometheus.

Every problem that cuts the service has one alert, and no other fires for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.core.codes import KINDS
from sandbox import Instance, Sandbox, faults, host, wait_for
from sandbox.case import Case, ready, wait_served
from sandbox.daemons import run
from sandbox.processes import processes, send_signal
from sandbox.prometheus import RULES, Prometheus, free_address

STARTED = "ovn_metadata_start_time_seconds"
DOWN = "OvnMetadataAgentDown"
SOUTHBOUND = "OvnMetadataSouthboundLost"
OVN = "OvnMetadataOvnFails"
NETWORK = "OvnMetadataNetworkFails"
HOST = "OvnMetadataHostFails"
NOVA = "OvnMetadataNovaFails"
# Only `agent-status why` says these: they are not the host's.
ONLY_WHY = ("OVNMD-601",)
# Cut no service, and yet somebody has to do something.
WARNINGS = ("OVNMD-101", "OVNMD-102", "OVNMD-108", "OVNMD-302", "OVNMD-405")
# Besides those that begin with 2.
OF_A_NETWORK = (
    "OVNMD-109",
    "OVNMD-301",
    "OVNMD-304",
    "OVNMD-306",
    "OVNMD-309",
)
FIRES_S = 60.0
OTHERS_S = 12.0  # another would fire by then,
FAULTS_OTHERS_S = 20.0  # for any fault of the table


def alert_of(code: str) -> str:
    """Return the alert for CODE; "" for none."""
    kind = KINDS[code]
    is_one = kind.severity == "error" or code in WARNINGS
    if code in ONLY_WHY or not is_one:
        return ""
    if code in ("OVNMD-101", "OVNMD-108"):
        return SOUTHBOUND
    if code in OF_A_NETWORK:
        return NETWORK
    by_part = {"1": OVN, "2": NETWORK, "3": HOST, "4": HOST, "5": NOVA}
    return by_part[code.removeprefix("OVNMD-")[0]]


def alerts() -> list[str]:
    """Return the names of all rules."""
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE)


def anchors() -> set[str]:
    text = (host.REPOSITORY / "docs/how-to/troubleshoot.md").read_text()
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in titles
    }


def test_rules_are_promtools_idea_of_rules():
    run("promtool", "check", "rules", str(RULES))
    assert len(alerts()) == 6


def expected(alert: str, code: str) -> dict[str, Any]:
    severity = "warning" if alert in (DOWN, SOUTHBOUND) else "critical"
    labels = {"severity": severity, "instance": "a", "job": "ovn-metadata"}
    return {"exp_labels": labels | ({"code": code} if code else {})}


def case(series: dict[str, str], firing: dict[str, str]) -> dict[str, Any]:
    """Return a case for promtool: only FIRING (alert -> code) fire."""
    return {
        "interval": "5s",
        "input_series": [
            {"series": name, "values": values}
            for name, values in series.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": "60s",
                "alertname": alert,
                "exp_alerts": [expected(alert, firing[alert])]
                if alert in firing
                else [],
            }
            for alert in alerts()
        ],
    }


def test_each_code_fires_its_own_alert_and_no_other(tmp_path: Path):
    labels = 'instance="a",job="ovn-metadata"'
    cases = [
        case({f"up{{{labels}}}": "1x20"}, {}),
        case({f"up{{{labels}}}": "1 1 0x20"}, {DOWN: ""}),
        # It is started again every few seconds, or by hand.
        case({f"{STARTED}{{{labels}}}": "1+1x20"}, {DOWN: ""}),
        case({f"{STARTED}{{{labels}}}": "1 2 3 4x20"}, {}),
        # Prometheus missed one scrape.
        case({f"up{{{labels}}}": "1x10 0 1x20"}, {}),
        case({'up{instance="a",job="other"}': "0x20"}, {}),
    ]
    for code, kind in KINDS.items():
        name = "ovn_metadata_problems"
        more = f'code="{code}",severity="{kind.severity}"'
        alert = alert_of(code)
        firing = {alert: code} if alert else {}
        series = f"{name}{{{labels},{more}}}"
        cases.append(case({series: "_ _ 1x20"}, firing))
        # Over: Prometheus marks the series as stale.
        cases.append(case({series: "1x4 stale"}, {}))
    test = {"evaluation_interval": "5s", "tests": cases}
    # promtool compares the annotations too.
    plain = re.sub(
        r"(?m)^ +annotations:\n(?: {10,}.*\n)+", "", RULES.read_text()
    )
    assert "summary" not in plain
    (tmp_path / "alerts.yml").write_text(plain)
    test["rule_files"] = [str(tmp_path / "alerts.yml")]
    (tmp_path / "test.yml").write_text(json.dumps(test))  # JSON is YAML
    test_file = str(tmp_path / "test.yml")
    run("promtool", "test", "rules", test_file, timeout_s=300)


def test_each_alert_has_a_runbook():
    text = RULES.read_text()
    links = re.findall(r"runbook_url: (\S+?)#(.*)$", text, re.MULTILINE)
    assert len(links) == len(alerts())
    assert {page for page, _ in links} == {"docs/how-to/troubleshoot.md"}
    known = anchors()
    for _, anchor in links:
        if "{{" in anchor:
            assert anchor == "{{ $labels.code | toLower }}"
            assert {code.lower() for code in KINDS} <= known
        else:
            assert anchor in known


# ---- a real Prometheus


@contextlib.contextmanager
def stopped(kind: str) -> Iterator[None]:
    """Let the processes of KIND stand still."""
    pids = [process.pid for process in processes(kind)]
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)


@contextlib.contextmanager
def agent_down(box: Sandbox) -> Iterator[None]:
    box.agent.kill9()
    yield
    box.agent.start()


@contextlib.contextmanager
def southbound_down(box: Sandbox) -> Iterator[None]:
    box.ovn.daemons["sb"].stop()
    yield
    box.ovn.daemons["sb"].start()


@contextlib.contextmanager
def vswitchd_hangs(box: Sandbox) -> Iterator[None]:
    daemon = box.ovn.daemons["ovs-vswitchd"]
    daemon.signal(signal.SIGSTOP)
    yield
    daemon.signal(signal.SIGCONT)


@contextlib.contextmanager
def name_taken(box: Sandbox) -> Iterator[None]:
    """Somebody's device has the name of a new network's veth."""
    network = box.neutron.create_network("taken")
    device = f"tap{network.id[:10]}0"
    run("ip", "tuntap", "add", "dev", device, "mode", "tap")
    instance = box.instance(box.neutron.create_port(network))
    yield
    run("ip", "link", "delete", device)
    wait_served(instance)
    box.unplug([instance])
    box.neutron.delete_network(network)


@contextlib.contextmanager
def supervisord_hangs(_box: Sandbox) -> Iterator[None]:
    with stopped("supervisord"):
        yield


@contextlib.contextmanager
def nova_down(box: Sandbox) -> Iterator[None]:
    box.nova.stop()
    yield
    box.nova.start()


FAULTS: dict[str, Callable[[Sandbox], Any]] = {
    DOWN: agent_down,
    SOUTHBOUND: southbound_down,
    OVN: vswitchd_hangs,
    NETWORK: name_taken,
    HOST: supervisord_hangs,
    NOVA: nova_down,
}


@pytest.fixture(scope="module")
def watched(
    host: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sandbox, Prometheus, Instance]]:
    """Provide a chassis that a real Prometheus watches."""
    target = free_address()
    box = host.sandbox({("ovn_metadata_agent", "metrics_address"): target})
    ready(box)
    folder = tmp_path_factory.mktemp("prometheus")
    with contextlib.closing(Case(box)) as made:
        instance = made.instance(made.network())
        with Prometheus(folder, target, interval_s=1) as prometheus:
            yield box, prometheus, instance
    host.clear()


def test_prometheus_has_loaded_all_alerts_and_each_has_a_fault(watched):
    _, prometheus, _ = watched
    loaded = wait_for(prometheus.rules, timeout_s=60, what="its rules")
    assert loaded == {*alerts()} == {*FAULTS}


# The others take minutes: `make faults` tries them.
QUICK = {DOWN, NOVA}


@pytest.mark.parametrize(
    "alert",
    [
        pytest.param(
            alert,
            marks=pytest.mark.skipif(
                alert not in QUICK and "FAULTS" not in os.environ,
                reason="slow: make faults",
            ),
        )
        for alert in FAULTS
    ],
)
def test_an_alert_fires_in_its_own_fault_and_no_other_does(watched, alert):
    box, prometheus, instance = watched
    # The agent of the test before may just have started.
    box.agent.wait_ready(timeout_s=2 * FIRES_S)
    wait_for(
        lambda: not prometheus.firing(), timeout_s=2 * FIRES_S, what="calm"
    )
    with FAULTS[alert](box):
        began = time.monotonic()
        seen: set[str] = set()

        def fires() -> bool:
            with contextlib.suppress(OSError):
                instance.fetch(timeout=1)
            seen.update(name for name, _ in prometheus.firing())
            return alert in seen

        wait_for(
            fires,
            timeout_s=2 * FIRES_S,
            interval_s=1,
            what=f"{alert}: {seen}",
        )
        print(f"{alert} fires after {time.monotonic() - began:.0f} s")
        ends = time.monotonic() + OTHERS_S
        while time.monotonic() < ends:
            time.sleep(1)
            seen.update(name for name, _ in prometheus.firing())
        assert seen == {alert}
    ended = time.monotonic()
    wait_served(instance)
    wait_for(
        lambda: not prometheus.firing(),
        timeout_s=2 * FIRES_S,
        interval_s=1,
        what="its end",
    )
    print(f"{alert} has ended after {time.monotonic() - ended:.0f} s")


# ---- the table of faults, by `make faults`

ROWS = [fault for fault in faults.TABLE if fault.host and not fault.slow]


@pytest.fixture(scope="module")
def staged(
    host: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[faults.Scene, Prometheus]]:
    """Provide the scene of the faults, watched by a real Prometheus."""
    target = free_address()
    options = {("ovn_metadata_agent", "metrics_address"): target}
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        faults.scene(host, options) as scene,
        Prometheus(folder, target, interval_s=1) as prometheus,
    ):
        yield scene, prometheus


@pytest.mark.skipif("FAULTS" not in os.environ, reason="slow: make faults")
@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.name)
def test_no_fault_fires_the_alert_of_another(staged, fault):
    scene, prometheus = staged
    wait_for(
        lambda: not prometheus.firing(), timeout_s=2 * FIRES_S, what="calm"
    )
    seen: set[str] = set()
    with faults.injected(scene, fault) as broken:
        ends = time.monotonic() + (FAULTS_OTHERS_S if fault.heals else FIRES_S)
        while time.monotonic() < ends:
            broken.is_served()
            fired = {name for name, _ in prometheus.firing()}
            if fired - seen:
                ends = min(ends, time.monotonic() + FAULTS_OTHERS_S)
            seen |= fired
            time.sleep(1)
    scene.box.agent.wait_ready(timeout_s=2 * FIRES_S)
    print(fault.name, *seen)
    own = {alert_of(code) for code in fault.codes}
    # An agent that hangs, or has no descriptor left, can't answer.
    if {"OVNMD-404", "OVNMD-407"}.intersection(fault.codes):
        own.add(DOWN)
    assert seen <= own
