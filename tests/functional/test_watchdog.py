"""The watchdog is fed while the agent makes progress, and not else.

WATCHDOG_HANGS is how often each hang is made, WATCHDOG_CHAOS_S how long the
chaos lasts.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import textwrap
import time
from pathlib import Path

import pytest

from sandbox import Sandbox, wait_for
from sandbox.case import wait_served
from sandbox.files import put
from sandbox.manager import FED, Manager
from sandbox.processes import send_signal, sole

WATCHDOG_S = 6.0
# A busy machine feeds it late, too.
CHAOS_WATCHDOG_S = 20.0
ROUNDS = int(os.environ.get("WATCHDOG_HANGS", "1"))
CHAOS_S = float(os.environ.get("WATCHDOG_CHAOS_S", "40"))
# What is loaded into the agent's Python: it makes the limits short, and makes
# a method block for ever once a file names it.
_HANGS = """
    import importlib, pathlib, sys, threading, time

    def patch():
        asked = pathlib.Path({folder!r}, "hang")
        short = {{"databases": ("_RUNS_S",), "service": ("_CALLS_S",)}}
        while True:
            for name, limits in short.items():
                module = sys.modules.get("ovn_metadata.agent." + name)
                for limit in limits:
                    if hasattr(module, limit):
                        setattr(module, limit, 8.0)
            if asked.exists():
                break
            time.sleep(0.002)
        module, kind, method, lock = asked.read_text().split()
        module = importlib.import_module("ovn_metadata.agent." + module)

        def hang(self, *args, **more):
            if lock != "-":
                getattr(self, lock).acquire()
            threading.Event().wait()

        setattr(getattr(module, kind), method, hang)

    threading.Thread(target=patch, daemon=True).start()
"""
DISTURBED = ("sb", "ovsdb-server", "supervisord", "privsep")
HANGS = {
    "the thread of Southbound": "ovsdb.southbound SouthboundIdl run -",
    "the thread of Open vSwitch": "ovsdb.vswitch VswitchIdl run -",
    "the service": "reconcile.snapshots Snapshots settle -",
    "a lock": "reconcile.snapshots Snapshots with_waiting _lock",
    "a worker": "reconcile.network Reconciler reconcile -",
    "a revoke": "reconcile.network Reconciler revoke -",
}


@pytest.fixture
def manager(own_box: Sandbox):
    with Manager(own_box.folder, WATCHDOG_S) as made:
        yield made


def test_ready_comes_after_the_first_pass(own_box: Sandbox, manager):
    """Not while a database is missing; the start is given more time then."""
    manager.manages(own_box.agent)
    network = own_box.neutron.create_network("n")
    (vm,) = own_box.plug([own_box.neutron.create_port(network)])
    own_box.ovn.freeze("sb")
    own_box.agent.start()
    manager.wait_told("STATUS=serves 0 of 0 networks; waits for first pass")
    begun = time.monotonic()
    wait_for(
        lambda: manager.told(begun).count(FED) > 2, timeout_s=60, what="food"
    )
    told = manager.told()
    assert "READY=1" not in told
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in told)
    own_box.ovn.thaw("sb")
    manager.wait_told("READY=1")
    wait_served(vm)
    manager.wait_told("STATUS=serves 1 of 1 networks")
    own_box.agent.stop()
    manager.wait_told("STOPPING=1")
    assert manager.told().count("READY=1") == 1


@pytest.mark.parametrize("what", ["the process", *HANGS])
def test_a_hang_is_not_fed(own_box: Sandbox, manager, what):
    """The limits are shortened; the method that hangs is the real one's."""
    agent = own_box.agent
    hooks = own_box.folder / "hooks"
    hooks.mkdir(mode=0o755)
    code = textwrap.dedent(_HANGS.format(folder=str(own_box.folder)))
    (hooks / "sitecustomize.py").write_text(code)
    # Of it comes the limit of a worker.
    agent.configure({("ovs", "ovsdb_connection_timeout"): "2"})
    network = own_box.neutron.create_network("n")
    asked = own_box.folder / "hang"
    for _ in range(ROUNDS):
        manager.manages(agent, PYTHONPATH=str(hooks))
        started = time.monotonic()
        agent.start()
        agent.wait_ready()
        wait_for(
            lambda since=started: FED in manager.told(since),
            timeout_s=60,
            what="food",
        )
        begun = time.monotonic()
        if what == "the process":
            send_signal(agent.pid, signal.SIGSTOP)
        else:
            put(asked, HANGS[what])
            # A port comes, so that a key is there for the workers.
            own_box.plug([own_box.neutron.create_port(network)], wait=False)
        manager.wait_starved(timeout_s=120)
        print(f"{what}: starved after {time.monotonic() - begun:.0f} s")
        if what != "the process":
            manager.wait_told("made no progress")
        agent.kill9()
        asked.unlink(missing_ok=True)
        own_box.unplug(own_box.instances)


@pytest.fixture
def patient(own_box: Sandbox):
    with Manager(own_box.folder, CHAOS_WATCHDOG_S) as made:
        yield made


def test_chaos_is_fed(own_box: Sandbox, patient: Manager):
    """What others do is no hang of ours: it waits, and says for what."""
    box, manager = own_box, patient
    manager.manages(box.agent)
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    begun = time.monotonic()
    dice = random.Random(17)  # each is disturbed, and once for 40 s
    while time.monotonic() < begun + CHAOS_S:
        with contextlib.ExitStack() as stack:
            for name in dice.sample(DISTURBED, 2):
                if name in DISTURBED[:2]:
                    box.ovn.freeze(name)
                    stack.callback(box.ovn.thaw, name)
                else:
                    # The agent may just be replacing it.
                    pid = wait_for(
                        lambda name=name: sole(name).pid,
                        timeout_s=60,
                        what=f"one {name}",
                    )
                    send_signal(pid, signal.SIGSTOP)
                    stack.callback(send_signal, pid, signal.SIGCONT)
            box.agent.reload()  # every network is visited
            lasts_s = dice.choice((5, 15, 40))
            done = time.monotonic() + lasts_s
            wait_for(
                lambda done=done: time.monotonic() > done,
                timeout_s=lasts_s + 5,
                what="the end of it",
            )
        if time.monotonic() < begun + CHAOS_S / 2:
            box.plug([box.neutron.create_port(network)], wait=False)
    assert manager.longest_s(begun) < manager.watchdog_s
    box.agent.wait_ready(timeout_s=180)
    assert not [ln for ln in manager.told() if "no progress" in ln]


def test_the_unit_has_a_watchdog():
    unit = Path(__file__).parents[2] / "etc/systemd/ovn-metadata-agent.service"
    assert "WatchdogSec=" in unit.read_text()
