"""Ask for metadata from inside the namespaces, as an instance would.

So a network that is served is one in which an answer was seen. The gateway
answers these requests itself: they cost Nova nothing.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping

from ...privsep import names
from ...privsep.errors import AskError, PrivilegedError
from ..core import selfcheck, traces
from ..reconcile.site import Site
from ..reconcile.snapshots import Snapshots
from ..threads import Poller
from .nova_watch import NovaWatch

LOG = logging.getLogger(__name__)

_FIRST_S = 5.0
# A network that fails is asked again soon, because it may be repaired.
_FAILING_S = 10.0
_MOST = 8  # networks in a round
_ROUND_S = 20.0  # it lasts no longer
# A network without a good answer is asked once more after this time: its rows
# and its map may have changed meanwhile.
_AGAIN_S = 2.0
_NO_FLOW = (
    "the metadata port has no flows of its own, or that port is disabled"
)


@dataclasses.dataclass(eq=False)
class SelfCheck(Poller):
    """Asks in a few networks in turn, and Nova.

    Whatever the answer is, the network is reconciled, and the gateway: so all
    are repaired in turn.
    """

    site: Site
    snapshots: Snapshots
    nova: NovaWatch

    def __post_init__(self) -> None:
        super().__init__("self-check", _FIRST_S)
        self._asked: dict[str, float] = {}
        self._failing: set[str] = set()
        # Network -> number of the instances to ask as, the same until all is
        # well. One number for all would leave out instances for ever where
        # each network is asked in every other round, say.
        self._numbers: dict[str, int] = {}
        # Network -> how many checks in turn have found no flows.
        self._flowless: dict[str, int] = {}

    def poll(self) -> None:
        """Do a round."""
        every_s = self.site.settings().selfcheck_interval_s  # 0: never
        begun = time.monotonic()
        served = {*self.site.status.served_networks(failing=True)}
        served = served - {names.GATEWAY} if every_s else set()
        for network in self._asked.keys() - served:
            self._report(network, {})
        self._asked = {n: at for n, at in self._asked.items() if n in served}
        self._failing &= served
        self._numbers = {n: self._numbers.get(n, 0) for n in served}
        for network in selfcheck.turn(
            served, self._asked, self._failing, most=_MOST
        ):
            if self._stop.is_set() or time.monotonic() > begun + _ROUND_S:
                break
            self._asked[network] = time.monotonic()
            self._check(network)
            # The request does not show whether addresses, neighbours, the
            # veth and the map are right.
            self.site.queues.visit(network)
        if every_s:
            self.site.queues.visit(names.GATEWAY)
            self.nova.ask()
        self._interval_s = every_s or _FIRST_S
        if self._failing:
            self._interval_s = min(self._interval_s, _FAILING_S)

    def _check(self, network: str) -> None:
        problems = self._problems(network)
        if problems:
            self.site.queues.visit(network)
            self._failing.add(network)
            if self._stop.wait(_AGAIN_S):
                return
            problems = self._problems(network)
        served = self.site.status.served_networks(failing=True)
        if problems is None or network not in served:
            return  # it was not asked, or is removed
        if not problems:
            self._failing.discard(network)
            self._numbers[network] += 1
        self._report(network, problems)

    def _report(self, network: str, problems: Mapping[str, str]) -> None:
        status = self.site.status
        known = status.reason(selfcheck.NO_FLOWS, network)
        for code in selfcheck.CODES:
            # `OvnWatch` may know more of it: which port has no flows.
            if code != selfcheck.NO_FLOWS or known in ("", _NO_FLOW):
                status.tell(code, problems.get(code, ""), about=network)
        if status.reason(selfcheck.NO_FLOWS, network) != _NO_FLOW:
            self._flowless.pop(network, None)
            return
        count = self._flowless[network] = self._flowless.get(network, 0) + 1
        # It is plugged again, and ovn-controller then makes the flows. Not at
        # once: ovn-controller may just start. And less and less often: the
        # port may be disabled.
        if count.bit_count() == 1 < count:
            self.snapshots.to_replug.add(network)
            self.site.queues.visit(network)

    def _problems(self, network: str) -> dict[str, str] | None:
        """Return code -> reason of what instances of NETWORK would get.

        None if that is unknown, because the privileged daemon did not ask.
        """
        found: dict[str, str] = {}
        desired = self.site.desired(self.snapshots.chassis, network)
        clients = selfcheck.sources(desired, self._numbers[network])
        for source in clients:
            try:
                status = self.site.privileged.status_of(network, source)
                has_flows = self._has_flows(network, source)
            except AskError as error:
                found[selfcheck.NO_ANSWER] = f"asked as {source}: {error}"
                continue
            except (OSError, PrivilegedError) as error:
                LOG.debug("network=%s not asked: %s", network, error)
                return found or None
            if not has_flows:
                found[selfcheck.NO_FLOWS] = _NO_FLOW
            code, reason = selfcheck.verdict(source, status)
            if code:
                found[code] = reason
        if clients and not found:
            self.site.status.seen(network)
        return found

    def _has_flows(self, network: str, source: str) -> bool:
        """Return whether flows take the answer to SOURCE, as far as known.

        A spare network has none: ovn-controller makes those of a network once
        a port of it is bound here.
        """
        vswitch, chassis = self.snapshots.vswitch, self.snapshots.chassis
        desired = self.site.desired(chassis, network)
        ofport = vswitch.ofports.get(names.outer_veth(network), 0)
        if desired is None or desired.spare or ofport < 1:
            return True
        mac, call = desired.mac, self.site.privileged.trace
        packet = selfcheck.answer_packet(source, ofport, mac=mac, to_mac=mac)
        try:
            trace = call(vswitch.bridge, **packet)
        except (AskError, OSError):  # ovs-vswitchd runs elsewhere, or hangs
            return True
        return traces.has_flows(trace, desired.localport, chassis.cookies)
