"""All calls of the agent to the privsep daemon.

The model's values become the plain ones that can be sent to it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...privsep import names, vswitch
from ...privsep.errors import PrivilegedError
from ...privsep.fleet import calls as fleet
from ...privsep.fleet import shut_down
from ...privsep.namespace import ask, look
from ...privsep.namespace import calls as namespaces
from ..haproxy.inside import ALIVE_PATH
from ..model import MetadataNetwork

_ASKING = threading.BoundedSemaphore(3)


class Privileged:
    """The namespaces and haproxy programs of this host."""

    def __init__(self, *, state_path: Path, users: str) -> None:
        self._state_path = str(state_path)
        self._users = users

    @staticmethod
    def make_agent_lock() -> None:
        """Make the file whose lock allows one agent per host."""
        fleet.make_agent_lock()

    def prepare(self) -> bool:
        """Make the gateway's folders and ensure that supervisord runs."""
        return fleet.prepare()

    def make_folders(self, network: str) -> None:
        """Make the folders that we share with the haproxy of NETWORK."""
        fleet.make_folders(network, users=self._users)

    def remove_folders(self, network: str) -> bool:
        """Remove the folders of NETWORK; return whether any was there."""
        return fleet.remove_folders(network)

    def apply(
        self, desired: MetadataNetwork, *, userspace_datapath: bool
    ) -> tuple[str, ...]:
        """Ensure the namespace of DESIRED, except the addresses.

        Returns what was changed and what `set_addresses` has to change.
        """
        return namespaces.apply(
            desired.network,
            mac=desired.mac,
            mtu=desired.mtu,
            addresses=_addresses(desired),
            neighbours=[
                (str(address), mac) for address, mac in desired.neighbours
            ],
            hosts=[str(address) for address in desired.onlink],
            userspace_datapath=userspace_datapath,
        )

    def set_addresses(self, desired: MetadataNetwork) -> None:
        """Give the namespace of DESIRED its addresses."""
        namespaces.set_addresses(
            desired.network, addresses=_addresses(desired)
        )

    @staticmethod
    def ifindex(network: str) -> int:
        """Return the index of NETWORK's outer veth; raise OSError."""
        return socket.if_nametoindex(names.outer_veth(network))

    def remove_veth(self, network: str) -> bool:
        """Remove the veth of NETWORK; return whether it was there."""
        return namespaces.remove_veth(network)

    def remove(self, network: str) -> bool:
        """Remove the namespace of NETWORK; return whether it was there."""
        return namespaces.remove(network)

    def list_networks(self) -> tuple[str, ...]:
        """Return the networks that have a namespace here."""
        return namespaces.list_networks()

    def ensure_program(
        self, network: str, *, renew: bool = False
    ) -> dict[str, str]:
        """Ensure NETWORK's haproxy runs; return the state it was in."""
        return fleet.ensure(network, users=self._users, renew=renew)

    def reload_program(self, network: str) -> None:
        """Make the haproxy of NETWORK read its files again."""
        fleet.reload(network)

    def share_socket(self, gid: int) -> None:
        """Give the gateway's public socket to the group GID."""
        fleet.share_socket(gid)

    def remove_program(self, network: str) -> bool:
        """Stop the haproxy of NETWORK; return whether it was there."""
        return fleet.remove(network, self._state_path)

    def sweep(self) -> tuple[str, ...]:
        """Return the networks with haproxies that supervisord has not."""
        return fleet.sweep(self._state_path)

    def look(self) -> Mapping[str, Any]:
        """Return what is left of the fleet, as `shut_down.look` does."""
        return shut_down.look(self._state_path)

    def shut_down(self) -> None:
        """Stop supervisord and remove what root owns of the fleet."""
        shut_down.shut_down(self._state_path)

    @staticmethod
    def inspect(network: str) -> Mapping[str, Any]:
        """Return what the kernel has of NETWORK, as `look.look` does."""
        return look.look(network)

    @staticmethod
    def ask(
        network: str, *, source: str, path: str, timeout_s: int
    ) -> Mapping[str, Any]:
        """Get PATH as the instance SOURCE of NETWORK, as `ask.ask` does.

        At most three wait for an answer at a time: one of the daemon's four
        threads is always there for the calls that provision networks.
        """
        if not _ASKING.acquire(timeout=timeout_s):
            # Not AskError: it says nothing about the network.
            raise PrivilegedError("too many requests wait; ask again later")
        try:
            return ask.ask(
                network, source=source, path=path, timeout_s=timeout_s
            )
        finally:
            _ASKING.release()

    def status_of(self, network: str, source: str) -> int:
        """Return the status of what the gateway answers to SOURCE's ask."""
        answer = self.ask(network, source=source, path=ALIVE_PATH, timeout_s=3)
        return int(str(answer["status"]))

    @staticmethod
    def daemons() -> Mapping[str, str]:
        """Return a word on ovs-vswitchd and ovn-controller."""
        return vswitch.daemons()

    @staticmethod
    def trace(bridge: str, packet: Mapping[str, Any]) -> str:
        """Return where PACKET would go from BRIDGE, as `vswitch.trace`."""
        return vswitch.trace(bridge, **packet)

    @staticmethod
    def look_at_programs() -> dict[str, Mapping[str, Any]]:
        """Return network -> state of its program; start nothing."""
        return fleet.look_at_programs()

    def list_programs(self) -> dict[str, Mapping[str, object]]:
        """Return network -> state of its program."""
        return fleet.list_programs()


def _addresses(desired: MetadataNetwork) -> list[str]:
    return sorted(str(cidr) for cidr in desired.addresses)
