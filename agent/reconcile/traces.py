"""What there is of networks on this host, and how it is removed.

The one way for both: the agent, where a network is no longer wanted, and
`ovn-metadata-cleanup`, which wants none.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping

from ...privsep import names
from ..model import VswitchPort, VswitchSnapshot
from ..ovsdb.vswitch import Vswitch
from .haproxies import Haproxies
from .privileged import Privileged


class Traces:
    """Finds and removes what is here of networks, served or left over.

    VSWITCH_DB is None if Open vSwitch does not answer: no port is seen then.
    """

    def __init__(
        self,
        privileged: Privileged,
        haproxies: Haproxies,
        vswitch_db: Vswitch | None,
        vswitch_snapshot: Callable[[], VswitchSnapshot],
    ) -> None:
        self._privileged = privileged
        self._haproxies = haproxies
        self._vswitch_db = vswitch_db
        self._vswitch_snapshot = vswitch_snapshot

    def find(self, known: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
        """Return network (or "gateway") -> kinds of what there is of it.

        KNOWN has more of that, kind -> networks: "program" and "haproxy".
        """
        ports = self._vswitch_snapshot().ports.values()
        kinds = {
            **known,
            "namespace or veth": self._privileged.list_networks(),
            "files": self._haproxies.networks_of_files(),
            "": [port.network for port in ports if port.network],
        }
        found: dict[str, set[str]] = collections.defaultdict(set)
        for kind, networks in kinds.items():
            for network in networks:
                found[network].add(kind)
        for network, of in found.items():
            of.discard("")
            if self._port(network) is not None:
                of.add("port")
        return {network: of for network, of in found.items() if of}

    def _port(self, network: str) -> VswitchPort | None:
        """Return the port that has the name of NETWORK's, if it is ours."""
        port = self._vswitch_snapshot().ports.get(names.outer_veth(network))
        return None if port is None or port.is_instance else port

    def remove(self, network: str, *, program: bool = True) -> bool:
        """Remove all there is of NETWORK (or "gateway"); tell if there was.

        In this order: what answers, unless PROGRAM says that there is none;
        the way there; the rest. Raises what the privileged daemon and the
        databases raise.
        """
        changed = program and self._privileged.remove_program(network)
        if network != names.GATEWAY:
            if (
                self._vswitch_db is not None
                and self._port(network) is not None
            ):
                self._vswitch_db.unplug(names.outer_veth(network))
                changed = True
            changed |= self._privileged.remove(network)
        # Last: a file that can't be removed must not stop the rest.
        return self._haproxies.remove_files(network) or changed
