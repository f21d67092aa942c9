"""Instances that arrive while something else is done, and ask until served."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

from . import Instance, Network, Sandbox, operations, wait_for
from .binds import said_by
from .daemons import CommandError
from .hoststate import wait_gone
from .instances import attach_all
from .named_ports import NamedPorts, Row

_WITHIN_S = 2.0  # Neutron asks for them within so long
_AHEAD_S = (0.3, 1.5)  # and they are plugged so much later
_PATIENCE_S = 10.0  # cloud-init's, for one request
_SERVED_S = 120.0
_BRIDGE_S = 60.0
_LOST = ("404", "refused", "another's")  # cloud-init believes it
_NAMING = (
    *("chassis", "additional_chassis"),
    *("requested_chassis", "requested_additional_chassis"),
)


class Arrivals:
    """Instances on each of NETWORKS, and FRESH ones on networks of their own.

    When each arrives is drawn by SEED. It asks from the moment at which the
    Southbound database names its port as requested or bound here, until it is
    answered; `said` counts all that the instances were told meanwhile.
    """

    def __init__(
        self,
        box: Sandbox,
        networks: Sequence[Network],
        *,
        fresh: int,
        seed: int,
    ) -> None:
        self._box = box
        self._lot = random.Random(seed)
        with box.neutron.batch():
            self.networks = [
                box.neutron.create_network(f"arrival-{seed}-{number}")
                for number in range(fresh)
            ]
            self._ports = [
                box.neutron.create_port(network, host=False)
                for network in (*networks, *self.networks)
            ]
        box.ovn.sync()
        self._instances = box.prepare(self._ports)
        self._named = {port.id: threading.Event() for port in self._ports}
        self._never = threading.Event()
        self._lock = threading.Lock()
        self.said: Counter[str] = Counter()
        self.served = 0
        self.events: list[str] = []  # for people
        self._begun = 0.0

    def __enter__(self) -> Arrivals:
        """Begin; they arrive by themselves."""
        self._begun = time.monotonic()
        self._rows = NamedPorts(self._box.ovn.sb.path, self._note)
        self._rows.__enter__()
        self._threads = [
            threading.Thread(target=self._arrive, args=(each, at_s, ahead_s))
            for each in self._instances
            for at_s in [self._lot.uniform(0, _WITHIN_S)]
            for ahead_s in [self._lot.uniform(*_AHEAD_S)]
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Wait until each is served, or is given up."""
        for thread in self._threads:
            thread.join()
        self._rows.__exit__(*error)

    @property
    def arrived(self) -> int:
        """Return how many there are."""
        return len(self._instances)

    def lost(self) -> dict[str, int]:
        """Return how often they were told what loses a boot."""
        return {word: self.said[word] for word in _LOST if self.said[word]}

    def remove(self) -> None:
        """Remove them and their networks."""
        box = self._box
        if not self._instances:
            return
        box.unplug(self._instances)
        for port in self._ports:
            if port.network not in self.networks:
                box.neutron.delete_port(port)
        for network in self.networks:
            box.neutron.delete_network(network)
        wait_gone(box, *(each.id for each in self.networks), timeout_s=120)

    def _note(self, row: Row) -> None:
        named = self._named.get(row["logical_port"])
        if named and any(row.get(column) != ["set", []] for column in _NAMING):
            named.set()

    def _arrive(self, instance: Instance, at_s: float, ahead_s: float) -> None:
        asking = threading.Thread(target=self._ask, args=(instance,))
        asking.start()
        self._never.wait(at_s)
        port = instance.port
        port.host = self._box.ovn.hostname
        # Not by `Neutron`, which the test itself may use at this moment.
        self._box.ovn.nb.transact([operations.update_port(port)])
        self._never.wait(ahead_s)
        wait_for(
            lambda: _attached(instance), timeout_s=_BRIDGE_S, what="a bridge"
        )
        self._tell(instance, "plugged")
        asking.join()

    def _tell(self, instance: Instance, what: str) -> None:
        after_s = time.monotonic() - self._begun
        where = instance.port.network.name
        self.events.append(
            f"{after_s:6.2f} {where} {instance.port.ip4} {what}"
        )

    def _ask(self, instance: Instance) -> None:
        until = time.monotonic() + _SERVED_S
        self._named[instance.port.id].wait(_SERVED_S)
        while time.monotonic() < until:
            self._tell(instance, "asks")
            said = said_by(instance, timeout_s=_PATIENCE_S)
            self._tell(instance, said)
            with self._lock:
                self.said[said] += 1
                self.served += said == "200"
            if said == "200":
                return
            self._never.wait(0.1)


def _attached(instance: Instance) -> bool:
    """Plug INSTANCE; return False without Open vSwitch's database."""
    with contextlib.suppress(CommandError):
        attach_all([instance])
        return True
    return False
