"""What there is of networks on this host, and how it is removed.

The one way for both: the agent, where a network is no longer wanted, and
`ovn-metadata-cleanup`, which wants none.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping

from ...privsep import names
from ..model import SwitchPort, SwitchSnapshot
from ..ovsdb.vswitch import Switch
from .haproxies import Proxies
from .privileged import Host


class Traces:
    """Finds and removes what is here of networks, served or left over.

    SWITCH is None where Open vSwitch does not answer: no port is seen then.
    """

    def __init__(
        self,
        host: Host,
        proxies: Proxies,
        switch: Switch | None,
        switch_snapshot: Callable[[], SwitchSnapshot],
    ) -> None:
        self._host = host
        self._proxies = proxies
        self._switch = switch
        self._switch_snapshot = switch_snapshot

    def find(self, known: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
        """Return network (or "gateway") -> kinds of what there is of it.

        KNOWN has more of that, kind -> networks: "program" and "haproxy".
        """
        ports = self._switch_snapshot().ports.values()
        kinds = {
            **known,
            "namespace or veth": self._host.list_networks(),
            "files": self._proxies.networks_of_files(),
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

    def _port(self, network: str) -> SwitchPort | None:
        """Return the port that has the name of NETWORK's, if it is ours."""
        port = self._switch_snapshot().ports.get(names.outer_veth(network))
        return None if port is None or port.is_instance else port

    def remove(self, network: str, *, program: bool = True) -> bool:
        """Remove all there is of NETWORK (or "gateway"); tell if there was.

        In this order: what answers, unless PROGRAM says that there is none;
        the way there; the rest. Raises what the privileged daemon and the
        databases raise.
        """
        changed = program and self._host.remove_program(network)
        if network != names.GATEWAY:
            if self._switch is not None and self._port(network) is not None:
                self._switch.unplug(names.outer_veth(network))
                changed = True
            changed |= self._host.remove(network)
        # Last: a file that can't be removed must not stop the rest.
        return self._proxies.remove_files(network) or changed
