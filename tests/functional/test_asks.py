"""`agent-status asks` tells what instances really asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox import Instance, wait_for
from sandbox.agent import Agent
from sandbox.case import Case
from sandbox.inside import ask
from sandbox.sockets import stats, status

CLOUD_INIT = {"User-Agent": "Cloud-Init/24.4.1"}
KIB = 1024


def asks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `agent-status asks` with ARGUMENTS, until all haproxies answer.

    Each has little time for that: an operator does not wait long.
    """
    command = Path(sys.prefix, "bin", "agent-status")

    def run() -> list[subprocess.CompletedProcess[str]]:
        done = subprocess.run(
            (command, *Agent.config_arguments(), "asks", *arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        late = ('"unknown": [\n', "its haproxy does not answer")
        return [] if any(words in done.stdout for words in late) else [done]

    what = "an answer of all haproxies"
    return wait_for(run, timeout_s=60, what=what)[0]


def counted(instance: Instance) -> dict[str, Any]:
    """Return the counts of INSTANCE that are not 0."""
    done = asks("--json", instance.instance_id)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)["asks"]
    for what in ("paths", "clients", "answers"):
        entry[what] = {n: count for n, count in entry[what].items() if count}
    return dict(entry)


@pytest.fixture
def vm(case: Case) -> Instance:
    """One that has asked nothing."""
    network = case.network("asked")
    instance = case.instance(network, name="web-1")

    def is_clear() -> bool:
        """Clear it; an entry stays while haproxy has a request of it."""
        stats(network.id, "clear table sources")
        return "used:0" in stats(network.id, "show table sources")

    wait_for(is_clear, timeout_s=60, what="an empty table")
    return instance


def test_what_it_asks_for_is_counted(box, vm):
    openstack = "/openstack/latest"
    for path in (
        f"{openstack}/meta_data.json",
        f"{openstack}/meta_data.json",
        f"{openstack}/user_data",
        f"{openstack}/vendor_data.json",
        f"{openstack}/vendor_data2.json",
        f"{openstack}/network_data.json",
        "/openstack",
    ):
        vm.fetch(path, headers=CLOUD_INIT)
    vm.fetch(headers={"User-Agent": "curl/8.5.0"})
    vm.fetch("/2009-04-04/x", headers={"User-Agent": "Go-http-client/1.1"})
    vm.fetch("/nothing", headers={"X-Forwarded-For": "10.0.0.1"})
    vm.fetch("/nothing", headers={"Forwarded": "for=10.0.0.1"})
    vm.fetch(
        f"{openstack}/password",
        method="POST",
        data=b"x",
        headers={"User-Agent": "cloudbase-init/1.1.6"},
    )
    box.nova.set_status(500)
    asked_at = time.time()
    vm.fetch("/echo", headers={"User-Agent": "Ignition/2.20.0"})
    box.nova.set_status(0)
    # The agent's own requests do not count.
    ask(vm.port.network, str(vm.port.ip4), "/latest/meta-data/instance-id")
    entry = counted(vm)
    # Rounded down to a second, and reckoned back from when haproxy drops it.
    assert asked_at - 2 < entry.pop("last_seen") <= time.time()
    answers = entry.pop("answers")
    assert answers.pop("5xx") == 1
    assert answers.keys() <= {"good", "404"}
    assert sum(answers.values()) == 12
    assert entry == {
        "instance": vm.instance_id,
        "port_name": "web-1",
        "network": vm.port.network.id,
        "network_name": "asked",
        "requests": 13,
        "paths": {
            "meta_data": 2,
            "user_data": 1,
            "vendor_data": 2,
            "network_data": 1,
            "password": 1,
            "ec2": 2,
            "other": 4,
        },
        "clients": {
            "cloud-init": 7,
            "cloudbase-init": 1,
            "curl": 1,
            "go": 1,
            "ignition": 1,
            "other": 2,
        },
        "forwarded": 2,
    }


def test_an_operator_reads_it(vm):
    """By whatever it is called, as for `why`."""
    vm.fetch(headers=CLOUD_INIT)
    for name in (vm.instance_id, "web-1", vm.port.id):
        said = asks(name).stdout.splitlines()
        network = vm.port.network
        assert said[0] == (
            f"{vm.instance_id} (web-1), network {network.id} (asked)"
        )
        assert said[1].startswith("  1 request, last ")
        assert said[2:] == [
            "  paths: 1 ec2",
            "  clients: 1 cloud-init",
            "  answers: 1 good",
        ]
    assert vm.instance_id in asks().stdout
    done = asks("nobody")
    assert done.returncode == 4
    assert "has this name" in done.stdout


def test_429_is_counted(own_box):
    """The answer of a rule of ours, and not of the gateway's."""
    rate = {"rate_limit_enabled": "true", "base_query_rate_limit": "3"}
    own_box.agent.configure(
        {("metadata_rate_limiting", name): v for name, v in rate.items()}
    )
    own_box.agent.start()
    own_box.agent.wait_ready()
    network = own_box.neutron.create_network("n")
    instance = own_box.instance(own_box.neutron.create_port(network))
    # Not by asking: each request counts, one that is refused too.
    wait_for(
        lambda: status()["networks"][network.id]["instances"],
        timeout_s=60,
        what="a network that is served",
    )

    def is_limited() -> bool:
        return instance.fetch().status == 429

    wait_for(is_limited, timeout_s=60, what="a refusal")
    answers = counted(instance)["answers"]
    assert answers["429"] >= 1
    assert answers["good"] >= 3


def test_an_instance_costs_less_than_a_kibibyte(vm):
    """A thousand of them, by haproxy's own pools; all are listed."""
    network, count = vm.port.network.id, 1000
    before = pooled(network)
    for first in range(0, count, 50):
        sets = (
            f"set table sources key {number:036} data.http_req_cnt 1"
            for number in range(first, first + 50)
        )
        stats(network, "; ".join(sets))
    used = pooled(network) - before
    print(f"{used / count:.0f} bytes an instance")
    assert count * 100 < used <= count * KIB
    begun = time.monotonic()
    listed = json.loads(asks("--json").stdout)["asks"]
    print(f"{time.monotonic() - begun:.1f} s to list")
    assert len(listed) >= count


def pooled(network: str) -> int:
    """Return the bytes of NETWORK's haproxy's pools."""
    (total,) = re.findall(
        r"^Total: \d+ pools, (\d+) bytes allocated, ",
        stats(network, "show pools"),
        re.MULTILINE,
    )
    return int(total)
