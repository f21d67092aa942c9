"""Read the haproxies' counters every few seconds and report problems.

These are clients that use more than their share, and a Nova that does not
answer or refuses the agent's signature. The networks are served meanwhile, so
these are problems, not failures.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ...privsep import names
from ..errors import HaproxyError
from ..haproxy import limits
from ..haproxy.counters import Counted, NovaCounted, Sums, growth
from .poller import Poller
from .status import Status

LOG = logging.getLogger(__name__)

# The gateway is asked each time: all networks need it. haproxy forgets a
# client a minute after its last request.
_INTERVAL_S = 1.0
_TURNS = 5  # polls in which each network is asked once, if none hangs
# Without requests for this long, the problem may be over.
_CALM_S = 60.0
_NOVA = {
    "OVNMD-501": "Nova's metadata API does not answer (nova_metadata_host): "
    "the instances' requests get 503",
    "OVNMD-504": "Nova's metadata API refuses what this agent signs (403); is "
    "metadata_proxy_shared_secret the one in nova.conf [neutron]?",
}
_FEW_DESCRIPTORS = (
    "too few file descriptors: the gateway takes {} connections instead of "
    "{}, and the networks' haproxies may take fewer too; set LimitNOFILE= of "
    "ovn-metadata-fleet (in a container: its ulimit nofile) to 65535 and "
    "restart it"
)


class Watch(Poller):
    """Compares the counters with the last ones, on a thread of its own.

    READ gives the counters of a network's haproxy (or the gateway's),
    READ_NOVA the gateway's of Nova. Both raise OSError and HaproxyError
    where the haproxy does not answer. Then ON_SILENCE is called: a reconcile
    mends or reports it. NOVA_ANSWERS tries a request of our own.
    """

    def __init__(
        self,
        status: Status,
        *,
        read: Callable[[str], Counted],
        read_nova: Callable[[], NovaCounted],
        nova_answers: Callable[[], bool],
        on_silence: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("watch", _INTERVAL_S)
        self._status = status
        self._read = read
        self._read_nova = read_nova
        self._nova_answers = nova_answers
        self._on_silence = on_silence
        self._clock = clock
        self._sums: dict[str, Sums] = {}
        self._nova: NovaCounted | None = None
        self._turn = 0
        self._due: list[str] = []  # networks to ask in this round
        self._seen: dict[str, float] = {}  # code -> when it was last seen

    def poll(self) -> None:
        """Read the counters of those whose turn it is, 0.3 ms each."""
        begun = self._clock()
        served = self._status.served_networks()
        for network in self._sums.keys() - set(served):
            del self._sums[network]
        if self._turn == 0 and not self._due:
            self._due = sorted(served, reverse=True)
        at_once = -(-len(served) // _TURNS)
        asked, self._due = self._due[-at_once:], self._due[:-at_once]
        for network in [names.GATEWAY, *reversed(asked)]:
            # Haproxies that hang must not delay the gateway's turn.
            if self._clock() - begun > _INTERVAL_S or self._stop.is_set():
                break
            if network in served:
                self._poll_shares(network)
        if self._turn == 0:
            self._poll_nova()
        self._turn = (self._turn + 1) % _TURNS

    def _poll_shares(self, network: str) -> None:
        try:
            counted = self._read(network)
        except (OSError, HaproxyError) as error:
            LOG.debug("network=%s counters not read: %s", network, error)
            self._on_silence(network)
            return
        sums = self._sums.setdefault(network, Sums())
        new = sums.add(counted, self._clock())
        by_name = sums.by_name(is_gateway=network == names.GATEWAY)
        for source in new:
            LOG.warning(
                "network=%s over its share: %s; %s",
                network,
                source,
                " ".join(f"{what}={count}" for what, count in by_name.items()),
            )
        self._status.shares(network, by_name, over=sums.over)
        if network == names.GATEWAY:
            has, wanted = counted.connections, limits.GATEWAY_CONNECTIONS
            few = _FEW_DESCRIPTORS.format(has, wanted)
            if self._status.note("OVNMD-303", few * (0 < has < wanted)):
                LOG.warning("%s", few)

    def _poll_nova(self) -> None:
        try:
            counted = self._read_nova()
        except (OSError, HaproxyError) as error:
            LOG.debug("counters of Nova not read: %s", error)
            return
        # Counters from before the first poll report nothing new.
        before = self._nova or counted
        self._nova = counted
        unconnected = growth(before.unconnected, counted.unconnected)
        fails = counted.is_down or unconnected > 0
        if growth(before.failed, counted.failed) and not fails:
            # It may be because of what one instance sends.
            fails = not self._nova_answers()
        refused = growth(before.refused, counted.refused)
        answered = growth(before.answered, counted.answered)
        # Nova lists its versions, and a server in front of it answers with an
        # error, without looking at the signature.
        refuses = 2 * refused > answered
        self._report("OVNMD-501", now=fails, over=answered > 0)
        self._report("OVNMD-504", now=refuses, over=answered > 2 * refused)

    def _report(self, code: str, *, now: bool, over: bool) -> None:
        """Report the problem CODE if it exists NOW, until it is OVER.

        Also until it was seen long ago.
        """
        clock = self._clock()
        seen = self._seen.get(code)
        if now:
            self._seen[code] = clock
        elif seen is not None and (over or clock - seen > _CALM_S):
            del self._seen[code]
            LOG.info("over, or no request since: %s", _NOVA[code])
        if self._status.note(code, _NOVA[code] if code in self._seen else ""):
            LOG.warning("%s", _NOVA[code])
