"""Find and remove what exists of networks on this host.

The agent uses it to tear a network down, and `ovn-metadata-cleanup` uses it
for all of them.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping

from ...privsep import names
from ..model import VswitchPort, VswitchSnapshot
from ..ovsdb.vswitch import Vswitch
from .haproxies import Haproxies


@dataclasses.dataclass(frozen=True, slots=True)
class Traces:
    """Everything that exists of networks here, served or left over."""

    haproxies: Haproxies
    vswitch_db: Vswitch | None  # None if it does not answer: ports stay
    vswitch_snapshot: Callable[[], VswitchSnapshot]

    def find(self, known: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
        """Return network (or "gateway") -> kinds of things that it has.

        KNOWN is kind -> networks for the kinds "program" and "haproxy".
        """
        kinds = {
            **known,
            "namespace or veth": self.haproxies.privileged.list_networks(),
            "files": self.haproxies.networks_of_files(),
        }
        found: dict[str, set[str]] = collections.defaultdict(set)
        for kind, networks in kinds.items():
            for network in networks:
                found[network].add(kind)
        ports = self.vswitch_snapshot().ports.values()
        marked = {port.network for port in ports if port.network}
        for network in found.keys() | marked:
            if self._port(network) is not None:
                found[network].add("port")
        return dict(found)

    def _port(self, network: str) -> VswitchPort | None:
        """Return the port of NETWORK, unless its name is another's."""
        port = self.vswitch_snapshot().ports.get(names.outer_veth(network))
        if port is None or port.is_instance:
            return None
        return port if port.network in ("", network) else None

    def remove(self, network: str, *, program: bool = True) -> bool:
        """Remove all of NETWORK (or "gateway"); return if anything was here.

        The order: the port and the veth; the haproxy, unless PROGRAM is
        False; the namespace, by which haproxies are found; the files. Raises
        what the privsep daemon and the database raise; the haproxy is removed
        all the same.
        """
        changed, privileged = False, self.haproxies.privileged
        try:
            if network != names.GATEWAY:
                changed = self._disconnect(network)
        finally:
            changed |= program and privileged.remove_program(network)
        if network != names.GATEWAY:
            changed |= privileged.remove(network)
        # Last: a file that can't be removed must not stop the rest.
        return self.haproxies.remove_files(network) or changed

    def _disconnect(self, network: str) -> bool:
        """Remove the port and the veth of NETWORK; return if any was here.

        A client that still comes is to wait. Where nobody listens it would
        be refused.
        """
        vswitch_db = None if self._port(network) is None else self.vswitch_db
        try:
            if vswitch_db is not None:
                vswitch_db.unplug(names.outer_veth(network))
        finally:
            removed = self.haproxies.privileged.remove_veth(network)
        return removed or vswitch_db is not None
