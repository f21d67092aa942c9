"""Bind many ports as Nova does, and ask the moment that each is up."""

from __future__ import annotations

import dataclasses
import http.client
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from . import Instance, Network, Sandbox
from .named_ports import NamedPorts, Row

# From Neutron's setting requested-chassis to the VIF that is plugged.
AHEAD_S = (1.0, 3.0)
PATIENCE_S = 10.0  # cloud-init's, for one request
_UP_TIMEOUT_S = 90.0
_AGAIN_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Bind:
    """What became of the request that was sent as the port was up."""

    is_first: bool  # of its network on this chassis
    said: str  # "200", "404", ..., "refused", "timed out"
    seconds: float  # until it said so
    served_s: float  # until there was 200; the same, if it was at once


def said_by(instance: Instance, *, timeout_s: float, source: str = "") -> str:
    """Return what INSTANCE is told: a status, or why there is none."""
    try:
        answer = instance.fetch(timeout=timeout_s, source=source)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timed out"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    if answer.status == 200 and answer.text != instance.instance_id:
        return "another's"
    return str(answer.status)


class Binds:
    """Binds ports in rounds, some of them on networks that are served.

    With REQUESTED, Neutron asks for the chassis before each is plugged, as it
    does since OVN 21.12; else it never does. What is random is drawn by SEED.
    """

    def __init__(
        self,
        box: Sandbox,
        served: Sequence[Network],
        *,
        requested: bool,
        seed: int = 1,
    ) -> None:
        self._box = box
        self._served = served
        self._requested = requested
        self._lot = random.Random(seed)

    def round(self, count: int, *, first: int) -> list[Bind]:
        """Bind COUNT ports, FIRST of them each on a network of its own."""
        box = self._box
        with box.neutron.batch():
            fresh = [
                box.neutron.create_network(f"fresh-{number}")
                for number in range(first)
            ]
            others = self._lot.choices(self._served, k=count - first)
            ports = [
                box.neutron.create_port(network, host=False)
                for network in (*fresh, *others)
            ]
        box.ovn.sync()
        instances = box.prepare(ports)
        try:
            return self._bind(instances, {network.id for network in fresh})
        finally:
            box.unplug(instances)
            for port in ports[first:]:
                box.neutron.delete_port(port)
            for network in fresh:
                box.neutron.delete_network(network)

    def _bind(
        self, instances: Sequence[Instance], fresh: set[str]
    ) -> list[Bind]:
        box = self._box
        if self._requested:
            with box.neutron.batch():
                for instance in instances:
                    box.neutron.update_port(instance.port, host=True)
        begun = time.monotonic()
        due = sorted(self._lot.uniform(*AHEAD_S) for _ in instances)
        order = self._lot.sample(instances, len(instances))
        with Asking(box, instances, fresh) as asking:
            for instance, at_s in zip(order, due, strict=True):
                asking.wait(begun + at_s - time.monotonic())
                attach(instance)
            return asking.results()


def attach(instance: Instance) -> None:
    """Plug INSTANCE as os-vif does: by one transaction, without waiting."""
    where = instance.ovn
    interface = {
        "name": instance.outer,
        "external_ids": [
            "map",
            [
                ["iface-id", instance.port.id],
                ["attached-mac", instance.port.mac],
                ["iface-status", "active"],
                ["vm-uuid", instance.port.device_id],
            ],
        ],
    }
    port = {
        "name": instance.outer,
        "interfaces": ["named-uuid", "interface"],
    }
    add = ["ports", "insert", ["set", [["named-uuid", "port"]]]]
    where.ovs.transact(
        [
            {
                "op": "insert",
                "table": "Interface",
                "row": interface,
                "uuid-name": "interface",
            },
            {
                "op": "insert",
                "table": "Port",
                "row": port,
                "uuid-name": "port",
            },
            {
                "op": "mutate",
                "table": "Bridge",
                "where": [["name", "==", where.bridge]],
                "mutations": [add],
            },
        ]
    )


class Asking:
    """Has each of INSTANCES ask once its port is up."""

    def __init__(
        self, box: Sandbox, instances: Sequence[Instance], fresh: set[str]
    ) -> None:
        self._fresh = fresh
        self._waiting = {one.port.id: one for one in instances}
        self._pool = ThreadPoolExecutor(len(instances))
        self._asked: list[Future[Bind]] = []
        self._all_up = threading.Event()
        self._never = threading.Event()
        self._named = NamedPorts(box.ovn.sb.path, self._note)

    def __enter__(self) -> Asking:
        """Begin."""
        self._named.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self._named.__exit__(*error)
        self._pool.shutdown()

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        self._never.wait(max(0.0, seconds))

    def results(self) -> list[Bind]:
        """Return what became of all, once all are served or given up."""
        if not self._all_up.wait(_UP_TIMEOUT_S):
            raise TimeoutError(f"never up: {sorted(self._waiting)}")
        return [one.result() for one in self._asked]

    def _note(self, row: Row) -> None:
        instance = self._waiting.get(row["logical_port"])
        if instance is None or row["up"] is not True:
            return
        up_at = time.monotonic()
        self._asked.append(self._pool.submit(self._ask, instance, up_at))
        del self._waiting[instance.port.id]
        if not self._waiting:
            self._all_up.set()

    def _ask(self, instance: Instance, up_at: float) -> Bind:
        said = said_by(instance, timeout_s=PATIENCE_S)
        seconds = served_s = time.monotonic() - up_at
        last = said
        while last != "200" and served_s < _AGAIN_S:
            self.wait(0.1)
            last = said_by(instance, timeout_s=1.0)
            served_s = time.monotonic() - up_at
        first = instance.port.network.id in self._fresh
        return Bind(first, said, seconds, served_s)
