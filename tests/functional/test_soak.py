"""Networks come and go: memory and descriptors are as they were.

SOAK_CYCLES says how many (`make soak`: 2,000). What the agent, its privsep
daemon and supervisord have is printed after every quarter of them.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections import Counter

from sandbox import Network, Sandbox, foreign, wait_for
from sandbox.controller import frozen
from sandbox.hoststate import settled, wait_everything
from sandbox.ovsdb import to_map, to_set, update
from sandbox.processes import descriptors, rss_kib, sole
from sandbox.sockets import status

CYCLES = int(os.environ.get("SOAK_CYCLES", "120"))
BATCH = 40  # networks at once
OPTIONS = {("ovn_metadata_agent", "resync_interval"): "5"}
# What may be kept of each network.
LEAK_KIB = {"agent": 2.0, "privsep": 4.0, "supervisord": 2.0}
# Debian 12's libraries take more at first, and then none: the privsep daemon
# went from 68 to 76 MiB in 800 cycles, and stayed there for 800 more.
OLD = importlib.metadata.version("oslo.privsep").startswith("3.0.")
# Else it went from 44 to 50 MiB in 600: the heap of each thread fills once.
NOISE_KIB = 8192 if OLD else 4096
KINDS = tuple(LEAK_KIB)


def test_networks_come_and_go(own_box):
    box = own_box
    box.agent.configure(OPTIONS)
    box.agent.start()
    box.agent.wait_ready()
    before = settled(box)
    sizes: dict[int, dict[str, int]] = {}
    opened: dict[str, Counter[str]] = {}
    with frozen(box, "ovn-controller"):  # it would unbind what has no VIF
        done = 0
        while done < CYCLES:
            cycle(box, unbind=bool(done // BATCH % 2))
            done += BATCH
            if done == BATCH:  # all has been done once
                opened = now_open()
            if done == BATCH or done // BATCH % report_every() == 0:
                sizes[done] = {k: rss_kib(sole(k).pid) for k in KINDS}
                print(f"{done} cycles: {sizes[done]} KiB")
        more: dict[str, Counter[str]] = {}

        def no_more() -> bool:
            more.clear()
            for kind, now in now_open().items():
                more[kind] = now - opened[kind]
            return not any(more.values())

        try:
            wait_for(no_more, timeout_s=60, what="no more descriptors")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {more} beside {opened}") from None
    wait_everything(box, before, timeout_s=120)
    first, last = min(sizes), max(sizes)
    for kind in KINDS:
        grown = sizes[last][kind] - sizes[first][kind]
        assert grown < NOISE_KIB + LEAK_KIB[kind] * (last - first), kind


def report_every() -> int:
    """Return after how many batches sizes are looked at."""
    return max(1, CYCLES // BATCH // 4)


def cycle(box: Sandbox, *, unbind: bool) -> None:
    """Have a batch of networks come, be served and go.

    Bound by hand, with no VIF: what OVN does is not of interest here. They
    go by UNBIND, or are deleted while they are bound.
    """
    here = box.ovn.system_id
    neutron = box.neutron
    with neutron.batch():
        networks = [neutron.create_network("soak") for _ in range(BATCH)]
        for network in networks:
            neutron.create_port(network, host=here)
    foreign.bind(box.ovn, here, BATCH)
    keys = {network.id for network in networks}
    wait_for(
        lambda: served(keys), timeout_s=120, interval_s=0.1, what="networks"
    )
    if unbind:
        where = ["external_ids", "includes", to_map({"neutron:host_id": here})]
        row = {"chassis": to_set(())}
        box.ovn.sb.transact([update("Port_Binding", [where], row)])
        wait_gone(keys)
    delete(box, networks)
    wait_gone(keys)
    # Or the next ones' binding would find the rows of these.
    box.ovn.nbctl("--wait=sb", "sync")


def delete(box: Sandbox, networks: list[Network]) -> None:
    with box.neutron.batch():
        for network in networks:
            box.neutron.delete_network(network)


def served(keys: set[str]) -> bool:
    known = status()["networks"]
    return all(known.get(key, {}).get("served") for key in keys)


def wait_gone(keys: set[str]) -> None:
    wait_for(
        lambda: not keys & status()["networks"].keys(),
        timeout_s=120,
        interval_s=0.1,
        what="end of the networks",
    )


def now_open() -> dict[str, Counter[str]]:
    return {kind: descriptors(sole(kind).pid) for kind in KINDS}
