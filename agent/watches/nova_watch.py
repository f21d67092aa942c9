"""Notice that Nova does not answer, or refuses what the agent signs.

The gateway's counters tell that something may be wrong with Nova, but not
what: a server may close a connection, or answer an error, because of what one
instance sends. So the agent asks as well. It asks for Nova's root, which costs
Nova nothing, and only with a reason for something that has to be signed.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable

from ..core import identity
from ..errors import HaproxyError
from ..haproxy import limits, runtime
from ..haproxy.counters import NovaCounted, growth
from ..haproxy.runtime import NovaAnswer
from ..reconcile.nova_addresses import NovaAddresses
from ..reconcile.site import Site
from ..threads import Poller
from ..why.nova import attempts

LOG = logging.getLogger(__name__)

SILENT, TLS, REFUSES = "OVNMD-501", "OVNMD-503", "OVNMD-504"
ERRORS, SOME, SLOW = "OVNMD-505", "OVNMD-507", "OVNMD-508"
_INTERVAL_S = 5.0
# cloud-init waits 10 s for an answer, and its requests cost Nova more.
_SLOW_S = 3.0
# Without requests for this long, a problem of instances' requests is over.
_CALM_S = 60.0
# Between two signed requests: while some are refused, and while Nova gives no
# answer that settles it.
_SIGN_AGAIN_S = 60.0
_MAX_SIGN_S = 600.0
_FEW = 3  # errors of Nova that one instance may cause
# At most so many servers are asked for their root at a time. A signed request,
# which is rare, may go to all of them.
_MOST_SERVERS = 4
_PATIENCE_S = 6.0  # after that the other servers are not asked
_SIGNED_PATH = "/latest/meta-data/instance-id"
_REFUSED = (
    "it answers 403 to a request of the agent's own; is "
    "metadata_proxy_shared_secret the one in nova.conf [neutron], on each of "
    "its servers?"
)


@dataclasses.dataclass(slots=True)
class _Signing:
    """What is known of the secret."""

    secret: str
    settled: bool = False  # Nova has accepted or refused it
    last: float = -math.inf
    due: float = -math.inf
    wait_s: float = _SIGN_AGAIN_S
    refused: bool = False


@dataclasses.dataclass(eq=False)
class NovaWatch(Poller):
    """Reports the problems of Nova, on a thread of its own."""

    site: Site
    addresses: NovaAddresses
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        super().__init__("nova-watch", _INTERVAL_S)
        self._is_round_due = False
        self._counted: NovaCounted | None = None
        self._asked = 0  # the agent's own requests
        self._found: dict[str, str] = {}  # by our own request
        self._erring: tuple[str, float] | None = None  # seen when
        self._signing = _Signing(self._secret())

    def poll(self) -> None:
        """Read the counters; ask if they give a reason to, or in a round."""
        is_round, self._is_round_due = self._is_round_due, False
        try:
            counted = self.site.haproxies.nova_counted()
        except (OSError, HaproxyError) as error:
            LOG.debug("counters of Nova not read: %s", error)
            return
        # Counters from before the first poll report nothing new.
        before, self._counted = self._counted or counted, counted
        answered = growth(before.answered, counted.answered)
        refused = growth(before.refused, counted.refused)
        errors = growth(before.errors, counted.errors)
        self._note_errors(errors, answered)
        failed = growth(before.failed, counted.failed)
        failed += growth(before.unconnected, counted.unconnected)
        # Or instances ask for what they lack: Nova's root tells.
        is_odd = answered > 0 and counted.good == before.good
        doubts = failed or counted.is_down or (self._found and answered)
        if is_round or doubts or is_odd or self._is_silent():
            all_of_them = is_round or bool(self._found)
            self._ask(counted, all_of_them=all_of_them, is_odd=is_odd)
        is_better = answered > 0 and not refused
        self._sign(
            refused=refused > 0,
            again=self._signing.refused and (is_round or is_better),
            may_begin=is_round,
        )
        self._report(counted)

    def ask(self) -> None:
        """Poll now, and ask in any case."""
        self._is_round_due = True
        self.wake()

    def _ask(
        self, counted: NovaCounted, *, all_of_them: bool, is_odd: bool
    ) -> None:
        answers = self._answers(
            self.ask_root,
            min(self._known(), _MOST_SERVERS),
            lambda each: each.is_from_nova and not all_of_them,
        )
        self._found = found = {}
        if not answers:
            return  # nothing is known
        down = (each for each in counted.endpoints if each.is_down)
        texts = [f"{each.address}: {each.why}" for each in down]
        unresolved = self.addresses.unresolved()
        texts += [f"{name}: no address" for name in unresolved]
        good = [each for each in answers if each.is_from_nova]
        if good:
            if lost := len(answers) - len(good):
                texts.append(f"{lost} of {len(answers)} gave no answer")
            answer = max(good, key=lambda a: (a.status, a.is_page, a.took_s))
            is_other = answer.is_page or (is_odd and answer.status >= 300)
            if answer.status >= 500 or is_other:
                kind = "a web page" if answer.is_page else answer.status
                found[ERRORS] = f"it answers {kind} to GET /"
                found[ERRORS] += "; is it Nova's metadata API?" * is_other
            elif answer.took_s > _SLOW_S:
                found[SLOW] = f"it took {answer.took_s:.1f} s for GET /"
            if texts:
                found[SOME] = "; ".join(texts)
            return
        # The same without the gateway.
        tried = attempts(self.site.settings().nova, self.addresses.addresses)
        code = TLS if any(each.code == TLS for each in tried) else SILENT
        texts = [
            each.problem or f"{each.url} gives no answer" for each in tried
        ]
        found[code] = "; ".join(texts) or "no address yet"

    def ask_root(self, server: int) -> NovaAnswer | None:
        """Ask SERVER for Nova's root; None if nothing can be known.

        Then the socket is another agent's, or the gateway has ended.
        Nova lists its versions at its root, looks for no instance or
        signature, and logs nothing.
        """
        return self._request("/", limits.AGENT, "none", server)

    def ask_signed(self, server: int) -> NovaAnswer | None:
        """Ask for an instance that does not exist; None as `ask_root` does.

        Nova looks at the signature first: 403 or 404.
        """
        signature = identity.signature(self._secret(), limits.NOBODY)
        return self._request(_SIGNED_PATH, limits.NOBODY, signature, server)

    def _request(
        self, path: str, who: str, signature: str, server: int
    ) -> NovaAnswer | None:
        gateway = self.site.settings().proxy_socket
        if not self.site.haproxies.places.is_link_of_ours(gateway):
            return None
        answer = runtime.ask_nova(gateway, path, who, signature, server)
        # If Nova is silent, it takes its time, or the gateway answers.
        is_lost = answer.status == 0 and answer.took_s < runtime.NOVA_TIMEOUT_S
        return None if is_lost else answer

    def _secret(self) -> str:
        return self.site.settings().shared_secret

    def _known(self) -> int:
        """Return the number of Nova's servers; at least one."""
        return max(1, len(self._counted.endpoints) if self._counted else 0)

    def _answers(
        self,
        ask: Callable[[int], NovaAnswer | None],
        most: int,
        is_enough: Callable[[NovaAnswer], bool],
    ) -> list[NovaAnswer]:
        """Return MOST answers to ASK, of one server after the other.

        Fewer, if one IS_ENOUGH or they take long. Empty if nothing can be
        known. The next call goes on with the server after the last one.
        """
        answers: list[NovaAnswer] = []
        took_s = 0.0
        while len(answers) < most and took_s < _PATIENCE_S:
            self._asked += 1
            answer = ask(self._asked % self._known())
            if answer is None:
                return []
            answers.append(answer)
            took_s += answer.took_s
            if is_enough(answer):
                break
        return answers

    def _note_errors(self, errors: int, answered: int) -> None:
        """Note that most of the answers to instances are errors."""
        now = self.clock()
        if errors >= _FEW and errors > answered:
            text = f"{errors} of {errors + answered} answers were errors"
            self._erring = text, now
        elif self._erring and (answered or now > self._erring[1] + _CALM_S):
            self._erring = None

    def _sign(self, *, refused: bool, again: bool, may_begin: bool) -> None:
        """Find out whether Nova accepts the secret, if there is a reason to.

        It is a secret that was never tried, if this MAY_BEGIN; an instance's
        request that was REFUSED, perhaps by a firewall; or that it has to be
        tried AGAIN, since it was refused: that costs Nova's database nothing.
        """
        signing, now = self._signing, self.clock()
        if signing.secret != self._secret():
            signing = _Signing(self._secret(), refused=signing.refused)
            self._signing = signing
        is_new = not signing.settled and may_begin and now >= signing.due
        is_doubtful = refused and now >= signing.last + _SIGN_AGAIN_S
        if not (is_new or is_doubtful or again) or self._is_silent():
            return
        answers = self._answers(
            self.ask_signed,
            # In doubt at least two: behind one address may be several.
            max(self._known(), 1 if is_new else 2),
            lambda each: each.status == 403,
        )
        if not answers:
            return
        signing.last = now
        of_nova = {each.status for each in answers if each.is_from_nova}
        if settled := {status for status in of_nova if status < 500}:
            signing.settled = True
            # Some servers may accept it, and others refuse instances still.
            signing.refused = 403 in settled or (signing.refused and refused)
        else:
            signing.due = now + signing.wait_s
            signing.wait_s = min(2 * signing.wait_s, _MAX_SIGN_S)

    def _is_silent(self) -> bool:
        return SILENT in self._found or TLS in self._found

    def _report(self, counted: NovaCounted) -> None:
        # haproxy checks no server that is alone.
        down = self._is_silent()
        known = [
            {
                "address": each.address,
                "state": "down" if down or each.is_down else "up",
                "latency_ms": each.response_ms or each.check_ms,
            }
            for each in counted.endpoints
        ]
        self.site.status.parts["nova"] = lambda: known
        found = dict(self._found)
        if self._erring and not found:
            found[ERRORS] = self._erring[0]
        if self._signing.refused:
            found[REFUSES] = _REFUSED
        for code in (SILENT, TLS, REFUSES, ERRORS, SOME, SLOW):
            self.site.status.tell(code, found.get(code, ""))
