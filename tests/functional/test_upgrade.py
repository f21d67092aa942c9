"""A host that runs an earlier version is upgraded under load, and goes back.

`make upgrade FROM=COMMIT` runs this. It takes the earlier version from git,
which a source distribution does not have. docs/how-to/upgrade.md describes
the steps and has the figures.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from sandbox import Agent, host, release, wait_for
from sandbox.continuity import (
    Chassis,
    Measure,
    make_chassis,
    replace_fleet,
    start_fleet,
)
from sandbox.processes import processes

CHECKOUT = os.environ.get("OVN_METADATA_FROM", "")
OPTIONS = {("ovn_metadata_agent", "resync_interval"): "5"}
HERE = Path(sys.prefix)

pytestmark = pytest.mark.skipif(
    not CHECKOUT, reason="needs an earlier version: make upgrade FROM=COMMIT"
)


@pytest.fixture
def older(own_box) -> Path:
    """Install the earlier version; return its prefix."""
    return release.build(
        own_box.folder, version="0.0.1", checkout=Path(CHECKOUT)
    )


@pytest.fixture
def chassis(own_box, older: Path) -> Chassis:
    """Give a chassis that the earlier version serves."""
    own_box.agent = Agent(
        own_box.folder,
        own_box.nova,
        options=OPTIONS,
        prefix=older,
        checkout=Path(CHECKOUT),
    )
    made = make_chassis(own_box)
    made.wait_content()
    return made


@pytest.fixture
def newer(chassis: Chassis) -> Agent:
    """Give the agent of this checkout; it is not started."""
    box = chassis.box
    return Agent(box.folder, box.nova, options=OPTIONS)


@pytest.fixture
def measure(record_property, chassis) -> Measure:
    # An older agent makes no promise to those that arrive.
    return Measure(record_property, chassis, arrive=0)


def start(agent: Agent, chassis: Chassis) -> None:
    """Start AGENT; return when it serves every network."""
    agent.start()
    agent.wait_ready()
    chassis.wait_content(agent)


def maps(folder: Path) -> list[Path]:
    """Return the networks' maps below FOLDER; the gateway has one, too."""
    return [f for f in folder.rglob("*.map") if f.stem != "gateway"]


def haproxies(chassis: Chassis) -> list[int]:
    """Return the PIDs of all haproxies."""
    return [pid for pids in chassis.fleet().values() for pid in pids]


def check_upgraded(chassis: Chassis, before: list[int]) -> None:
    """See that none of those BEFORE runs, and that the maps are there."""
    chassis.wait_one_each()
    assert not set(before) & set(haproxies(chassis))
    assert len(maps(host.FLEET)) == len(chassis.networks)


def test_upgrade_and_back_without_a_loss(chassis, older, newer, measure):
    """Packages restart the fleet, then the agent; no request fails."""
    agent = chassis.box.agent
    old = haproxies(chassis)
    with measure.load("Upgrade: the fleet, then the agent") as load:
        service = replace_fleet(chassis, HERE)
        chassis.wait_one_each()
        agent.stop()
        start(newer, chassis)
        check_upgraded(chassis, old)
    assert load.failures == []
    new = haproxies(chassis)
    with measure.load("Go back while the haproxies serve") as load:
        newer.stop()
        service.kill()
        start_fleet(chassis, older)
        start(agent, chassis)
        chassis.wait_one_each()
    assert load.failures == []
    assert not set(new) & set(haproxies(chassis))
    chassis.wait_content(agent)


def test_agent_first_and_back_by_an_end(chassis, older, newer, measure):
    """An agent that needs a newer fleet reports that, and all is served.

    To end the haproxies before going back is simpler, and an outage.
    """
    agent = chassis.box.agent
    old = haproxies(chassis)
    with measure.load("Start the newer agent before the fleet") as load:
        agent.stop()
        newer.start()
        wait_for(
            lambda: not newer.running or newer.status().returncode == 0,
            timeout_s=60,
            what="its start, or its end",
        )
        assert newer.running or "restart ovn-metadata-fleet" in newer.log()
    assert load.failures == []
    service = replace_fleet(chassis, HERE)
    start(newer, chassis)
    check_upgraded(chassis, old)
    with measure.load("End the haproxies, then go back"):
        newer.stop()
        service.stop()
        wait_for(
            lambda: not processes("haproxy"), timeout_s=60, what="their end"
        )
        shutil.rmtree(host.FLEET)
        start_fleet(chassis, older)
        start(agent, chassis)
        chassis.wait_one_each()
