"""What tests are made of: a sandbox at a time, networks and instances."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from . import Instance, Network, Port, Sandbox, Subnet, wait_for
from .sockets import status

Options = Mapping[tuple[str, str], str]


@dataclasses.dataclass
class Case:
    """Networks and instances of one test, removed after it."""

    box: Sandbox
    networks: list[Network] = dataclasses.field(default_factory=list)

    def network(
        self, name: str = "n", *subnets: str | Subnet, gateway: bool = False
    ) -> Network:
        """Create a network; isolated with one IPv4 subnet unless told."""
        made = self.box.neutron.create_network(
            name, subnets=subnets or ("10.10.0.0/24",), gateway=gateway
        )
        self.networks.append(made)
        return made

    def instance(self, network: Network, name: str = "vm") -> Instance:
        """Create a port and plug it; return once it is served."""
        port = self.box.neutron.create_port(network, name=name)
        (instance,) = self.plug([port])
        return instance

    def plug(
        self, ports: Sequence[Port], *, dhcp: bool = False
    ) -> list[Instance]:
        """Plug PORTS; return once each is served."""
        made = self.box.plug(ports, dhcp=dhcp)
        wait_served(*made)
        if self.box.agent.running:
            wait_noted({port.network.id for port in ports})
        return made

    def close(self) -> None:
        """Unplug and delete all of it, if the sandbox is still there."""
        box = self.box
        if not box.ovn.daemons["nb"].running:
            return
        ids = {network.id for network in self.networks}
        box.unplug(i for i in box.instances if i.port.network.id in ids)
        for network in self.networks:
            if network.id in box.neutron.networks:
                box.neutron.delete_network(network)


def is_served(
    instance: Instance, *, ipv6: bool = False, timeout_s: float = 2.0
) -> bool:
    """Tell whether INSTANCE gets its own instance id in TIMEOUT_S."""
    answer = instance.fetch(timeout=timeout_s, ipv6=ipv6)
    return answer.status == 200 and answer.text == instance.instance_id


def wait_served(
    *instances: Instance, ipv6: bool = False, timeout_s: float = 60.0
) -> None:
    """Wait until INSTANCES get their own instance ids."""
    for instance in instances:
        # A lost SYN is sent again after a second: rather connect again. Not
        # sooner: a request that is given up still reaches Nova, later, when a
        # test may be recording.
        patience_s = itertools.chain((1.0,), itertools.repeat(2.0))
        wait_for(
            lambda i=instance, p=patience_s: is_served(  # type: ignore[misc]
                i, ipv6=ipv6, timeout_s=next(p)
            ),
            timeout_s=timeout_s,
            what=f"metadata of {instance.port.name}, IPv6: {ipv6}",
        )


def wait_noted(networks: Iterable[str]) -> None:
    """Wait until the agent has noted that it serves NETWORKS.

    That is after the first answer. Then it has done what it knew of the rows
    and has logged it.
    """

    def is_noted() -> bool:
        said = status()
        entries = said["networks"]
        failing = {key for key, entry in entries.items() if entry["error"]}
        served = all(entries[key]["served"] for key in networks)
        is_done = said["queue"]["length"] <= len(failing)
        return served and is_done and not failing.intersection(networks)

    wait_for(is_noted, timeout_s=60, what=f"{networks} in agent-status")


@contextlib.contextmanager
def new_instance(
    box: Sandbox, network: Network, *, timeout_s: float = 60.0
) -> Iterator[Instance]:
    """Provide a new instance of NETWORK, once it is served; then end it."""
    port = box.neutron.create_port(network)
    (instance,) = box.plug([port])
    try:
        wait_served(instance, timeout_s=timeout_s)
        yield instance
    finally:
        box.unplug([instance])
        box.neutron.delete_port(port)


class Host:
    """The one host that all sandboxes are on: one of them at a time."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._shared: Sandbox | None = None

    def sandbox(
        self, options: Options | None = None, *, sb_members: int = 1
    ) -> Sandbox:
        """Start a sandbox with OPTIONS for its agent; end the one before."""
        self.clear()
        made = Sandbox(options=options, sb_members=sb_members)
        return self._stack.enter_context(made)

    def shared(self) -> Sandbox:
        """Return the sandbox for all tests that break nothing."""
        if self._shared is None:
            self._shared = ready(self.sandbox())
        return self._shared

    def clear(self) -> None:
        """End the sandbox that there is."""
        self._shared = None
        self._stack.close()


def ready(box: Sandbox) -> Sandbox:
    """Start the agent of BOX; return BOX once the agent is ready."""
    box.agent.start()
    box.agent.wait_ready()
    return box
