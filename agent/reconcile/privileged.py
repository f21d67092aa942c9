"""What the reconciler asks of this host, by way of the privsep daemon.

Here the model's values become the plain ones that can cross.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...privsep import names
from ...privsep.fleet import calls as fleet
from ...privsep.namespace import calls as namespaces
from ..model import MetadataNetwork


class Privileged:
    """Namespaces and haproxy programs of this host."""

    def __init__(self, *, state_path: Path, users: str) -> None:
        self._state_path = str(state_path)
        self._users = users

    @staticmethod
    def make_agent_lock() -> None:
        """Make the file of the host's lock for one agent."""
        fleet.make_agent_lock()

    def prepare(self) -> bool:
        """Make the gateway's folders and ensure that supervisord runs."""
        return fleet.prepare()

    def make_folders(self, network: str) -> None:
        """Make our folders that we share with the haproxy of NETWORK."""
        fleet.make_folders(network, users=self._users)

    def remove_folders(self, network: str) -> bool:
        """Remove the folders of NETWORK; tell if any was there."""
        return fleet.remove_folders(network)

    def apply(
        self, wanted: MetadataNetwork, *, userspace_datapath: bool
    ) -> tuple[str, ...]:
        """Make the namespace of WANTED; return what was changed."""
        return namespaces.apply(
            wanted.network,
            mac=wanted.mac,
            mtu=wanted.mtu,
            addresses=sorted(str(cidr) for cidr in wanted.addresses),
            neighbours=[
                (str(address), mac) for address, mac in wanted.neighbours
            ],
            hosts=[str(address) for address in wanted.hosts],
            userspace_datapath=userspace_datapath,
        )

    @staticmethod
    def ifindex(network: str) -> int:
        """Return the index of NETWORK's outer veth; raise OSError."""
        return socket.if_nametoindex(names.outer_veth(network))

    def remove(self, network: str) -> bool:
        """Remove the namespace of NETWORK; tell if it was there."""
        return namespaces.remove(network)

    def list_networks(self) -> tuple[str, ...]:
        """Return the networks that have a namespace here."""
        return namespaces.list_networks()

    def ensure_program(
        self, network: str, *, renew: bool = False
    ) -> dict[str, str]:
        """Have the haproxy of NETWORK run; return how `fleet` found it."""
        return fleet.ensure(network, users=self._users, renew=renew)

    def reload_program(self, network: str) -> None:
        """Have the haproxy of NETWORK read its files again."""
        fleet.reload(network)

    def share_socket(self, name: str, gid: int) -> None:
        """Give the gateway's socket NAME for everybody to the group GID."""
        fleet.share_socket(name, gid)

    def remove_program(self, network: str) -> bool:
        """Stop the haproxy of NETWORK; tell if it was there."""
        return fleet.remove(network, self._state_path)

    def sweep(self) -> tuple[str, ...]:
        """Return the networks with haproxies that nobody supervises."""
        return fleet.sweep(self._state_path)

    def look(self) -> Mapping[str, Any]:
        """Return what there is of the fleet, as `fleet.look`."""
        return fleet.look(self._state_path)

    def shut_down(self) -> None:
        """End supervisord and remove what root has of the fleet."""
        fleet.shut_down(self._state_path)

    def list_programs(self) -> dict[str, Mapping[str, object]]:
        """Return network -> state of its program."""
        return fleet.list_programs()
