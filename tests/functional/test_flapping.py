"""Rows that flap: nothing of an instance's metadata is missed meanwhile.

The rows are written by hand while OVN's own daemons stand still. The agent
keeps no network and has none ready before its port is plugged.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from sandbox import Instance, Loader, Network, Sandbox, wait_for
from sandbox.case import Case
from sandbox.controller import FOREIGN, bind, frozen, here
from sandbox.hoststate import haproxies, left_of, wait_host
from sandbox.namespaces import NETNS_FOLDER
from sandbox.ovsdb import by_uuid, delete, insert, to_map, to_set, update

ENOUGH = 5  # requests of each instance, after each write
# Then there may be fewer: what is away for 5 s is gone for good.
MOST_AWAY_S = 2.0
# One request may take longer: three SYNs that are lost are 7 s.
MOST_GAP_S = 12.0
# Of the agent's own requests: a busy machine may not answer in 3 s.
NO_ANSWER = "OVNMD-306"


@pytest.fixture(scope="module")
def foreign(box: Sandbox) -> str:
    """Provide the uuid of another chassis, which nobody runs."""
    return box.neutron.add_foreign_chassis(FOREIGN)


def traces(box: Sandbox, network: Network) -> tuple[int, object]:
    """Return what differs after a network was made again."""
    inode = (NETNS_FOLDER / network.namespace).stat().st_ino
    return inode, haproxies(box, network.id)


def wait_logged(box: Sandbox, network: Network) -> None:
    """Wait until the log has all instances of NETWORK.

    That is a moment after they are served.
    """
    count = sum(one.port.network is network for one in box.instances)
    said = f"network={network.id} instances={count} "
    wait_for(
        lambda: said in box.agent.log(),
        timeout_s=60,
        what="the network in the log",
    )


def asks(load: Loader, count: int, *, most_s: float) -> bool:
    """Wait for COUNT requests of LOAD, for MOST_S; return if they came."""
    wanted, end = load.requests + count, time.monotonic() + most_s
    wait_for(
        lambda: (
            load.failures or load.requests >= wanted or time.monotonic() > end
        ),
        timeout_s=2 * most_s + 60,
        interval_s=0.01,
        what="more requests",
    )
    assert load.failures == []
    return load.requests >= wanted


@contextlib.contextmanager
def untouched(
    box: Sandbox, *instances: Instance
) -> Iterator[Callable[[], bool]]:
    """Have INSTANCES ask while OVN stands still; yield a wait for more.

    Fail if one got another answer than its own, or none for a while, or a
    network was touched.
    """
    network = instances[0].port.network
    wait_logged(box, network)
    before, logged = traces(box, network), box.agent.mark()
    with (
        frozen(box, "ovn-controller", "northd"),
        Loader(instances, rate=50 * len(instances), timeout_s=20) as load,
    ):
        wanted = ENOUGH * len(instances)
        assert asks(load, wanted, most_s=60)
        yield lambda: asks(load, wanted, most_s=MOST_AWAY_S)
        assert asks(load, wanted, most_s=60)
    assert load.failures == []
    assert load.longest_gap_s < MOST_GAP_S
    assert traces(box, network) == before
    lines = box.agent.log(logged).splitlines()
    assert [
        line for line in lines if network.id in line and NO_ANSWER not in line
    ] == []


@pytest.mark.parametrize(
    "order",
    [
        pytest.param("src+here here - here", id="a migration's end"),
        pytest.param("src src+here here", id="dropped as additional first"),
        pytest.param("-+here here", id="released before it is claimed"),
        pytest.param("- here - here - here", id="again and again"),
    ],
)
def test_a_port_whose_chassis_flaps(box, case: Case, foreign, order):
    """It shares its network with another one, or has it alone."""
    own, other = here(box), case.network("shared")
    instances = case.instance(case.network("alone")), case.instance(other)
    case.instance(other)
    for instance in instances:
        with untouched(box, instance) as wait:
            for where in order.split():
                main, _, additional = where.partition("+")
                bind(
                    box,
                    instance.port,
                    chassis={"src": foreign, "here": own, "-": ""}[main],
                    additional=own if additional else "",
                )
                wait()


def test_up_and_the_localport_flap(box, case: Case):
    network = case.network("up")
    instance = case.instance(network)
    sb = box.ovn.sb
    (row,) = sb.select(
        "Port_Binding", [["logical_port", "==", network.metadata.id]]
    )
    where = [["logical_port", "==", instance.port.id]]
    columns = ("logical_port", "type", "tunnel_key")
    copy = {
        **{column: row[column] for column in columns},
        "datapath": ["uuid", row["datapath"]],
        "mac": to_set(
            row["mac"] if isinstance(row["mac"], list) else [row["mac"]]
        ),
        "external_ids": to_map(row["external_ids"]),
        "options": to_map(row["options"]),
    }
    with untouched(box, instance) as wait:
        for up in (False, True, False, True):
            sb.transact([update("Port_Binding", where, {"up": up})])
            wait()
        sb.transact([delete("Port_Binding", by_uuid(row["_uuid"]))])
        wait()
        sb.transact([insert("Port_Binding", copy)])
        wait()


def test_what_does_not_come_back_goes(box, case: Case):
    """Unplugged, it goes at once; still plugged, some seconds later."""
    network = case.network("gone")
    instance = case.instance(network)
    with frozen(box, "ovn-controller", "northd"):
        bind(box, instance.port)
        wait_host(box, network, timeout_s=60)
        bind(box, instance.port, chassis=here(box))
        wait_host(box, network, instance.port, timeout_s=60)
        box.unplug([instance])
        assert left_of(box, network.id)  # the row is the same as before
        bind(box, instance.port)
        wait_host(box, network, timeout_s=60)
