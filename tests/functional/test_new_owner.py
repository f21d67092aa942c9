"""An address with a new owner is answered once the answers go to it.

The map says whose an address is, the neighbour entry where the answers go.
"""

from __future__ import annotations

import signal

from sandbox import Sandbox, wait_for
from sandbox.case import Case, wait_noted
from sandbox.hoststate import wait_host
from sandbox.processes import send_signal
from sandbox.sockets import status

BUSY_S = 0.3  # a reconcile that takes longer waits for the daemon


def test_rows_that_come_meanwhile_wait_for_their_neighbours(
    box: Sandbox, case: Case
):
    """Else the last owner, which may still send from it, gets the answers."""
    network = case.network("moves")
    first, second = (case.instance(network).port for _ in range(2))
    address, before = str(first.ip4), f"addresses={second.ip4}"
    (daemon,) = box.agent.processes("privsep")
    send_signal(daemon.pid, signal.SIGSTOP)
    try:
        box.neutron.update_port(first, addresses=["10.10.0.0/24"])
        wait_for(
            lambda: (status()["progress"]["a reconcile"] or 0) > BUSY_S,
            timeout_s=60,
            what="a reconcile that waits",
        )
        mark = box.agent.mark()
        box.neutron.update_port(second, addresses=[address])
        wait_for(
            lambda: before in box.agent.log(mark),
            timeout_s=60,
            what="rows that came meanwhile",
        )
    finally:
        send_signal(daemon.pid, signal.SIGCONT)
    wait_host(box, network, first, second)
    wait_noted([network.id])
    lines = box.agent.log(mark).splitlines()
    made = [
        line for line in lines if f"provisioned network={network.id}" in line
    ]
    assert "neighbours" in made[-1]
    assert "map" in made[-1].partition("changes=")[2].split(",")
