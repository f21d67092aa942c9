"""Real cloud-init, Debian's own, finds its key whatever the agent does.

`make boots` plays many more boots, of three releases, and prints the table of
docs/explanation/boots.md.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from boots.asked import REQUESTS
from boots.lottery import Round, Ticket
from boots.outages import OURS, Side
from boots.rounds import Chassis, make_chassis
from sandbox import host as host_files
from sandbox import wait_for
from sandbox.case import Host

GUEST = os.environ.get("OVN_METADATA_GUEST", "")
# Of a network that is served, and the first port of one; at once.
TICKETS = (Ticket(False, False, 0.0), Ticket(True, False, 0.0))
ASKED = re.compile(r"GET (\S+) HTTP.*?x-instance-id: (\S+)\r", re.DOTALL)
SHIELD = {
    "tokens": "required",
    "refuse_forwarded": "enforce",
    "hop_limit": "1",
}
TRIES = 4  # on a busy machine, it may ask again for what comes late
LONGEST_S = 5.0  # Debian 12's cloud-init asks once in each of two stages

pytestmark = pytest.mark.skipif(
    not (GUEST and Path(GUEST).is_dir()),
    reason="no cloud-init: OVN_METADATA_GUEST is what `make test` unpacks",
)


@pytest.fixture(scope="module")
def chassis(host: Host) -> Chassis:
    box = host.sandbox()
    # An overlay takes no layer that is inside another one: / is below it.
    guest = box.folder / "guest"
    shutil.copytree(GUEST, guest, symlinks=True)
    side = Side(box, OURS, longest_s=LONGEST_S)
    return make_chassis(side, f"{guest}:/")


@pytest.mark.parametrize("outage", ["none", "killed"])
def test_a_boot_finds_its_key(chassis, outage):
    """The owner's key is the default user's, and OpenStack is the source."""
    # What `make bench ARGS=storm` has clients ask; in an outage, anything.
    wanted = [[*REQUESTS]] * len(TICKETS)
    asked: list[list[str]] = []
    for _ in range(TRIES):
        asked = played(chassis, outage)
        if outage != "none" or asked == wanted:
            return
    assert asked == wanted


def played(chassis: Chassis, outage: str) -> list[list[str]]:
    """Have all find their key in OUTAGE; return what each has asked for."""
    nova = chassis.box.nova
    nova.record()
    for ticket, outcome in chassis.play(Round(outage, TICKETS)):
        assert outcome.found, f"{ticket}: {outcome.log[-5000:]}"
    asked: dict[str, list[str]] = {}
    for connection in nova.recorded():
        for path, who in ASKED.findall(connection.decode()):
            asked.setdefault(who, []).append(path)
    return [*asked.values()]


@pytest.mark.parametrize("window_s", [600, 0])
def test_a_boot_finds_its_key_with_the_shield_on(chassis, window_s):
    """cloud-init knows no token: it needs none in the window.

    Without a window it needs none below /openstack, where the key is.
    """
    agent = chassis.box.agent
    options = {**SHIELD, "boot_window": str(window_s)}
    agent.configure(
        {("ovn_metadata_agent", name): text for name, text in options.items()}
    )
    agent.reload_and_wait()
    (network, _) = chassis.served.values()
    config = host_files.config_of(network.id)
    wait_for(
        lambda: "secure_memcmp" in config.read_text(),
        timeout_s=60,
        what="the shield",
    )
    agent.wait_ready()
    every = len(REQUESTS) * len(TICKETS)
    for _ in range(TRIES):
        count = sum(map(len, played(chassis, "none")))
        if not window_s or count == every:
            break
    assert (count == every) == (window_s > 0)
