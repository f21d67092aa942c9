"""Rows change in any order: what counts is what they say in the end.

Each row has a few states that follow each other; how those of one row lie
among those of the others is drawn by lot, and so is how many changes come
in one transaction. The agent is at work meanwhile.
"""

from __future__ import annotations

import functools
import itertools
import random
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from sandbox import Network, Port, Sandbox, subnet
from sandbox.controller import FOREIGN, frozen, here
from sandbox.hoststate import wait_host
from sandbox.model import PROJECT, new_mac
from sandbox.neutron import DISTRIBUTED
from sandbox.operations import given_addresses, new_port
from sandbox.ovsdb import Operation, delete, insert, to_map, update
from sandbox.rows import binding_row

NETWORKS = 5  # each with all of the rows, in an order of its own
PAUSES = 0.1  # the share of transactions after which all is compared
MAX_AT_ONCE = 8  # changes in one transaction
SUBNETS = ("10.10.0.0/24", "10.20.0.0/24")

# Makes one change; what it returns is to be written.
Step = Callable[[], Sequence[Operation]]


class Rows:
    """The Southbound rows of one network, and what they say by now."""

    def __init__(self, box: Sandbox, key: int, away: str) -> None:
        self._box = box
        self._here, self._away = here(box), away
        self._keys: dict[str, int] = {}  # logical port -> tunnel key
        self.network = network = Network(
            id=str(uuid.uuid4()),
            name=f"lot-{key}",
            mtu=1400,
            project_id=PROJECT,
            subnets=[subnet(cidr, gateway=False) for cidr in SUBNETS],
        )
        network.metadata = new_port(network, host="", addresses=SUBNETS[:1])
        network.metadata.kind = "localport"
        network.metadata.device_id = network.namespace
        network.metadata.device_owner = DISTRIBUTED
        self._has_metadata = False
        self._bound: dict[str, Port] = {}
        self._datapath = str(uuid.uuid4())
        nameless = {"tunnel_key": key}
        box.ovn.sb.transact(
            [insert("Datapath_Binding", nameless, uuid=self._datapath)]
        )

    def served(self) -> list[Port]:
        """Return the ports that are to be served now."""
        return [*self._bound.values()] if self._has_metadata else []

    def changes(self) -> Iterator[list[Step]]:
        """Yield the states of each row, in the order they have."""
        yield [self._name_datapath]
        yield [self._add_metadata, self._change_metadata, self._swap_metadata]
        yield [self._lose_port] * 2
        at, away = self._here, self._away
        for states in (
            [(at, "")],
            [(away, ""), (at, "")],
            [(at, ""), (away, "")],
            [(at, ""), ("", ""), (at, "")],
            [("", at)],
            [(away, ""), (away, at), (at, "")],  # migrates to us
            [(at, ""), (at, away), (away, "")],  # migrates from us
            [(away, at), (away, "")],  # tries to
        ):
            port = new_port(self.network, host="", addresses=SUBNETS[:1])
            yield [functools.partial(self._put, port, *s) for s in states]
        for kind in ("", "external"):
            port = new_port(self.network, host="", addresses=SUBNETS[:1])
            port.kind = kind
            yield [
                functools.partial(self._put, port, at),
                functools.partial(self._readdress, port, SUBNETS[1]),
            ]
            short = new_port(self.network, host="", addresses=SUBNETS[:1])
            short.kind = kind
            yield [
                functools.partial(self._put, short, at),
                functools.partial(self._delete, short),
            ]

    # -- steps ------------------------------------------------------------

    def _name_datapath(self) -> Sequence[Operation]:
        name = {"external_ids": to_map({"name": self.network.switch})}
        where = [["_uuid", "==", ["uuid", self._datapath]]]
        return [update("Datapath_Binding", where, name)]

    def _add_metadata(self) -> Sequence[Operation]:
        self._has_metadata = True
        return self._write(self.network.metadata)

    def _change_metadata(self) -> Sequence[Operation]:
        """Give it another MAC address and MTU, and the second subnet."""
        port = self.network.metadata
        self.network.mtu = 1442
        port.mac = new_mac()
        port.fixed += given_addresses(self.network, port.mac, SUBNETS[1:])
        return self._write(port)

    def _swap_metadata(self) -> Sequence[Operation]:
        """Have another one, which takes over all but the name."""
        port = self.network.metadata
        gone = delete("Port_Binding", [["logical_port", "==", port.id]])
        port.id = str(uuid.uuid4())
        return [gone, *self._write(port)]

    def _lose_port(self) -> Sequence[Operation]:
        name = f"tap{self.network.id[:10]}0"
        self._box.ovn.vsctl("--no-wait", "--if-exists", "del-port", name)
        return []

    def _put(
        self, port: Port, chassis: str, additional: str = ""
    ) -> Sequence[Operation]:
        if self._here in (chassis, additional):
            self._bound[port.id] = port
        else:
            self._bound.pop(port.id, None)
        return self._write(port, chassis=chassis, additional=additional)

    def _readdress(self, port: Port, cidr: str) -> Sequence[Operation]:
        port.fixed = given_addresses(self.network, port.mac, [cidr])
        return self._put(port, self._here)

    def _delete(self, port: Port) -> Sequence[Operation]:
        del self._bound[port.id]
        return [delete("Port_Binding", [["logical_port", "==", port.id]])]

    def _write(
        self, port: Port, *, chassis: str = "", additional: str = ""
    ) -> Sequence[Operation]:
        is_new = port.id not in self._keys
        key = self._keys.setdefault(port.id, len(self._keys) + 1)
        row = binding_row(
            port,
            self._datapath,
            key,
            chassis=chassis,
            additional=additional,
        )
        if is_new:
            return [insert("Port_Binding", row)]
        return [update("Port_Binding", [["logical_port", "==", port.id]], row)]


def shuffled(rows: Sequence[Rows], lot: random.Random) -> list[Step]:
    """Return all changes of ROWS, in an order that LOT draws."""
    left = [states for one in rows for states in one.changes()]
    drawn: list[Step] = []
    while left:
        states = lot.choice(left)
        drawn.append(states.pop(0))
        left = [states for states in left if states]
    return drawn


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_of_changes_ends_in_the_same(box: Sandbox, seed: int):
    """And so it does on the way, whenever the changes pause."""
    lot = random.Random(seed)
    away = box.neutron.add_foreign_chassis(FOREIGN)
    with frozen(box, "northd", "ovn-controller"):
        keys = itertools.count(1_000_000 + 100 * seed)  # far from northd's
        rows = [Rows(box, next(keys), away) for _ in range(NETWORKS)]
        steps = shuffled(rows, lot)
        while steps:
            count = lot.randint(1, MAX_AT_ONCE)
            now, steps = steps[:count], steps[count:]
            box.ovn.sb.transact([op for step in now for op in step()])
            if not steps or lot.random() < PAUSES:
                for one in rows:
                    wait_host(box, one.network, *one.served())
    for one in rows:  # northd knows of none of them
        wait_host(box, one.network)
    box.ovn.sbctl("--if-exists", "chassis-del", FOREIGN)
