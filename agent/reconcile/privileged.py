"""All calls of the agent to the privsep daemon.

The model's values become the plain ones that can be sent to it.
"""

import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...privsep import vswitch
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

    # Nothing of the model's is in their arguments.
    make_agent_lock = staticmethod(fleet.make_agent_lock)
    remove_folders = staticmethod(fleet.remove_folders)
    share_socket = staticmethod(fleet.share_socket)
    list_programs = staticmethod(partial(fleet.list_programs, start=True))
    look_at_programs = staticmethod(partial(fleet.list_programs, start=False))
    list_networks = staticmethod(namespaces.list_networks)
    remove_veth = staticmethod(namespaces.remove_veth)
    remove = staticmethod(namespaces.remove)
    inspect = staticmethod(look.look)
    daemons = staticmethod(vswitch.daemons)
    trace = staticmethod(vswitch.trace)

    def __init__(self, *, state_path: Path, users: str) -> None:
        place = str(state_path)
        self.make_folders = partial(fleet.make_folders, users=users)
        ensure = partial(fleet.ensure, users=users)
        self.ensure_program = partial(ensure, mode="ensure")
        self.reload_program = partial(ensure, mode="reload")
        self.renew_program = partial(ensure, mode="renew")
        self.remove_program = partial(fleet.remove, state_path=place)
        self.sweep = partial(fleet.sweep, place)
        self.look = partial(shut_down.look, place)
        self.shut_down = partial(shut_down.shut_down, place)

    def apply(
        self,
        desired: MetadataNetwork,
        *,
        userspace_datapath: bool,
        hop_limit: int,
    ) -> tuple[str, ...]:
        """Ensure the namespace of DESIRED, except the addresses.

        Returns what was changed and what `set_addresses` has to change.
        """
        return namespaces.apply(
            desired.network,
            mac=desired.mac,
            mtu=desired.mtu,
            addresses=sorted(map(str, desired.addresses)),
            neighbours=[
                (str(each), mac) for each, mac in desired.neighbours.items()
            ],
            hosts=[str(address) for address in desired.onlink],
            userspace_datapath=userspace_datapath,
            hop_limit=hop_limit,
        )

    def set_addresses(self, desired: MetadataNetwork) -> None:
        """Give the namespace of DESIRED its addresses."""
        addresses = sorted(map(str, desired.addresses))
        namespaces.set_addresses(desired.network, addresses=addresses)

    @staticmethod
    def ask(
        network: str, *, source: str, path: str, timeout_s: int
    ) -> Mapping[str, Any]:
        """Get PATH as the instance SOURCE of NETWORK, as `ask.ask` does.

        At most three wait for an answer at a time: the daemon's other
        threads are always there for the calls that provision networks.
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
