"""OVN's daemons that make no progress are named; busy ones are not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from sandbox import Sandbox, wait_for
from sandbox.case import Case, wait_served
from sandbox.sockets import status

SILENT_S = float(os.environ.get("OVN_WATCH_S", "20"))


@pytest.fixture
def case(module_box: Sandbox) -> Case:
    return Case(module_box)


@pytest.fixture(scope="module", autouse=True)
def shut_off(module_box: Sandbox) -> None:
    """Leave an instance shut off: its interface has no device.

    ovn-controller does not bind its port. No test may see that as a problem.
    """
    neutron = module_box.neutron
    port = neutron.create_port(neutron.create_network("off"))
    ids = f"external_ids:iface-id={port.id}"
    add = ("add-port", "br-int", "tap-off", "--", "set", "Interface")
    module_box.ovn.vsctl("--no-wait", *add, "tap-off", ids)


def codes() -> set[tuple[str, str]]:
    return {(each["code"], each["about"]) for each in status()["problems"]}


@contextlib.contextmanager
def stopped(box: Sandbox, daemon: str) -> Iterator[None]:
    box.ovn.freeze(daemon)
    try:
        yield
    finally:
        box.ovn.thaw(daemon)


@contextlib.contextmanager
def killed(
    box: Sandbox, daemon: str, number: signal.Signals = signal.SIGKILL
) -> Iterator[None]:
    box.ovn.daemons[daemon].signal(number)
    box.ovn.daemons[daemon].wait()
    try:
        yield
    finally:
        box.ovn.start(daemon)


def ended(
    box: Sandbox, daemon: str
) -> contextlib.AbstractContextManager[None]:
    """End it; unlike a daemon that is killed, it takes its socket away."""
    return killed(box, daemon, signal.SIGTERM)


@pytest.mark.parametrize(
    ("daemon", "code", "done"),
    [
        ("ovn-controller", "OVNMD-106", stopped),
        ("ovn-controller", "OVNMD-106", ended),
        ("ovs-vswitchd", "OVNMD-107", killed),
        ("ovs-vswitchd", "OVNMD-107", ended),
    ],
)
def test_a_daemon_without_progress_is_named(module_box, daemon, code, done):
    begun = time.monotonic()
    with done(module_box, daemon):
        wait_for(
            lambda: codes() == {(code, "")}, timeout_s=120, what=f"only {code}"
        )
        took_s = time.monotonic() - begun
        print(f"{daemon} {done.__name__}: named after {took_s:.0f} s")
        assert took_s < 60
        found = module_box.agent.status()
        assert found.returncode == 3
        assert f"ERROR {code} " in found.stdout
    wait_for(lambda: not codes(), timeout_s=120, what="the end of it")


def test_a_port_without_flows_is_named(module_box, case: Case):
    box, network = module_box, case.network()
    case.instance(network)
    bad = case.instance(network)
    where = ("Interface", bad.outer, "external_ids", "ovn-installed")
    box.ovn.vsctl("--no-wait", "remove", *where, "ovn-installed-ts")
    wanted = {("OVNMD-206", network.id)}
    wait_for(lambda: codes() == wanted, timeout_s=120, what="a word of it")
    assert bad.port.id in box.agent.status().stdout
    box.ovn.vsctl(
        "--no-wait", "set", *where[:2], "external_ids:ovn-installed=true"
    )
    wait_for(lambda: not codes(), timeout_s=90, what="the end of it")
    case.close()


def test_a_trunk_that_loses_a_subport_is_not_named(module_box, case: Case):
    """ovn-controller 23.03 then takes the parent's mark, and no flow."""
    box, network = module_box, case.network()
    case.instance(network)  # its mark stays: this OVN does make marks
    parent = case.instance(network)
    named = ["name", "==", parent.outer]

    def marks() -> set[str]:
        (row,) = box.ovn.ovs.select("Interface", [named], ["external_ids"])
        return {"ovn-installed", "ovn-installed-ts"} & {*row["external_ids"]}

    before = marks()
    trunk = case.network("trunk", "10.20.0.0/24")
    subport = box.neutron.create_subport(trunk, parent.port, 10)
    box.ovn.sync()
    box.neutron.delete_port(subport)
    box.ovn.sync()
    wait_for(lambda: marks() < before, timeout_s=60, what="the mark's end")
    wait_served(parent)
    # As long as it takes to name a port without flows.
    begun = time.monotonic()
    wait_for(
        lambda: codes() or time.monotonic() > begun + 45,
        timeout_s=60,
        what="time for a word of it",
    )
    assert not codes()
    words = box.agent.status("why", parent.port.id).stdout
    assert "lacks ovn-installed" not in words
    case.close()


def test_busy_daemons_are_not_named(module_box, case: Case):
    """Ports come and go, databases are restarted, all the time."""
    box, network = module_box, case.network()
    begun = time.monotonic()
    seen: set[tuple[str, str]] = set()
    rounds = 0
    while time.monotonic() < begun + SILENT_S:
        made = case.plug([box.neutron.create_port(network) for _ in "12"])
        seen |= codes()
        if rounds % 3 == 0:
            box.ovn.restart("ovn-controller")
        if rounds % 5 == 1:
            box.ovn.restart("sb")
        wait_served(*made)
        seen |= codes()
        box.unplug(made)
        rounds += 1
    print(f"{rounds} rounds")
    # Of Nova and of haproxies others tell: a busy machine may be slow.
    ours = {code for code, _ in seen if code < "OVNMD-300"}
    assert ours <= {"OVNMD-101", "OVNMD-104"}
    case.close()


def test_two_interfaces_of_a_port_are_named(module_box, case: Case):
    """ovn-controller takes the newer one: the instance is cut off."""
    instance = case.instance(case.network("doubled"))
    vsctl, port = module_box.ovn.vsctl, instance.port
    add = ("add-port", "br-int", "old0", "--", "set", "Interface", "old0")
    vsctl(*add, "type=internal", f"external_ids:iface-id={port.id}")
    wanted = {("OVNMD-212", port.network.id)}
    wait_for(lambda: codes() == wanted, timeout_s=120, what="a word of it")
    answer = json.loads(
        module_box.agent.status("why", port.id, "--json").stdout
    )
    (failed,) = (hop for hop in answer["hops"] if hop["state"] == "fail")
    assert failed["code"] == "OVNMD-212"
    assert "old0" in failed["text"]
    vsctl("del-port", "old0")
    wait_served(instance)
    wait_for(lambda: not codes(), timeout_s=60, what="the end of it")
