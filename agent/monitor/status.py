"""What the agent reports about itself; `status_socket` serves it.

docs/reference/status.md describes the report.
"""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ...privsep import names
from ...privsep.errors import sentence
from ..core.codes import KINDS
from ..core.health import health, version_of
from .problems import Problems, code_of

LOG = logging.getLogger(__name__)

# The version of the report: raise it if a field is removed or gets another
# meaning.
SCHEMA = 1
_MOST_SHORT = 400  # letters
# How soon `watch` finds what only time changes.
_WATCH_S = 1.0


@dataclasses.dataclass(slots=True)
class NetworkStatus:
    """How one network (or the gateway) is doing."""

    served: bool = False
    since: float = 0.0  # seconds since the epoch, of the last change
    # When the agent last got an answer there itself, as an instance.
    seen: float = 0.0
    addresses: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()  # ids; the report has their number
    # Why it is ready without a bound port: "requested", "kept" or "".
    spare: str = ""
    digest: str = ""
    reconciles: int = 0  # that succeeded
    failures: int = 0  # reconciles that did not
    repairs: int = 0  # reconciles that found it broken
    error: str = ""
    code: str = ""  # of the error
    conflicts: tuple[str, ...] = ()
    # Requests refused or not logged per limit since the agent started, and
    # the instances (ids) that are over a limit now.
    shares: dict[str, int] = dataclasses.field(default_factory=dict)
    over_share: tuple[str, ...] = ()


class Status:
    """The agent's state, safe for any number of threads."""

    def __init__(self, version: str) -> None:
        # Notified when what `wait` waits for may have become true: not when a
        # pass over all networks finds each as it was.
        self._lock = threading.Condition()
        self._version = version
        self._started = time.time()
        self.chassis = ""  # the name of the one that this agent works for
        self._waiting: dict[str, str] = {}
        self._synced = False
        # Id of a network or an instance -> its name, or its port's.
        self.names: Mapping[str, str] = {}
        self._problems = Problems(lambda key: self.names.get(key, ""))
        self.note, self.problems = self._problems.note, self._problems.shown
        self.reason = self._problems.reason
        self._networks: dict[str, NetworkStatus] = {}
        self._reconciles = 0
        self._repairs = 0
        # Part of the report -> what it is now; it must not block.
        self.parts: dict[str, Callable[[], Any]] = {"progress": self._ages}
        # Part of the agent -> for how long it may make no progress, and a
        # function that returns for how long it has made none.
        self._expected: dict[str, tuple[float, Callable[[], float]]] = {}
        # Of a network (or "gateway"): its haproxy's process.
        self.process: Callable[[str], dict[str, Any]] = lambda _network: {}
        # Key -> for how many seconds it has waited for a reconcile.
        self.queue: Callable[[], Mapping[str, float]] = dict

    def expect(
        self, part: str, most_s: float, age_s: Callable[[], float]
    ) -> None:
        """Expect progress of PART every MOST_S; AGE_S tells its last."""
        self._expected[part] = most_s, age_s

    def _ages(self) -> dict[str, float]:
        known = self._expected.copy()  # other threads add some
        return {part: age() for part, (_, age) in known.items()}

    def late(self) -> dict[str, float]:
        """Return for how long parts have made no progress, if too long."""
        ages = self._ages()
        return {p: s for p, s in ages.items() if s > self._expected[p][0]}

    def waits_for(self, what: str, reason: str, code: str = "") -> bool:
        """Note the REASON why WHAT is still missing; "" when it is there.

        It is the problem CODE, unless it is a matter of time. Returns
        whether that has changed.
        """
        if code:
            self._problems.note(code, reason)
        with self._lock:
            before = self._waiting.pop(what, "")
            if reason:
                self._waiting[what] = reason
            self._lock.notify_all()
            return bool(before) != bool(reason)

    def tell(self, code: str, reason: str, *, about: str = "") -> None:
        """Note it as `note` does, and log it when it is new."""
        if self.note(code, reason, about=about):
            where = f"network={about} " if about else ""
            LOG.warning("%s%s %s: %s", where, code, KINDS[code].title, reason)

    def is_ready(self) -> bool:
        """Return whether all rows and databases are there."""
        with self._lock:
            return self._synced and not self._waiting

    def in_short(self) -> str:
        """Return one line for the service manager."""
        with self._lock:
            networks = self._networks.keys() - {names.GATEWAY}
            count = sum(map(self._serves, networks))
            served = f"serves {count} of {len(networks)} networks"
            waiting = [f"waits for {what}" for what in self._waiting]
        found = self.problems()
        number = f"{len(found)} problem{'s' * (len(found) > 1)}"
        texts = [f"{each['code']} {each['reason']}" for each in found]
        problems = [f"{number}: {', '.join(texts)}"] if found else waiting
        # A second line would be another assignment, see sd_notify(3).
        return " ".join("; ".join([served, *problems]).split())[:_MOST_SHORT]

    def rows(
        self,
        *,
        synced: bool,
        problems: Mapping[str, str],
        harmless: Collection[str] = (),
    ) -> None:
        """Note the result of the last snapshot.

        PROBLEMS of rows: what stays the same of a text -> the text. Those
        that are HARMLESS cut no service.
        """
        warnings = [key for key, text in problems.items() if text in harmless]
        self._problems.replace("OVNMD-109", problems, warnings)
        with self._lock:
            self._synced = synced
            self._lock.notify_all()

    def served(
        self,
        network: str,
        *,
        addresses: Iterable[str] = (),
        instances: Collection[str] = (),
        spare: str = "",
        digest: str = "",
        conflicts: Iterable[str] = (),
    ) -> list[str]:
        """Note that NETWORK is served; return the CONFLICTS that are new.

        INSTANCES are the ids of those that get their metadata there.
        """
        with self._lock:
            self._reconciles += 1
            entry = self._networks.setdefault(network, NetworkStatus())
            ids = tuple(sorted(instances))
            if not self._serves(network):
                entry.since = time.time()
                self._lock.notify_all()
            elif ids != entry.instances:
                self._lock.notify_all()
            entry.reconciles += 1
            entry.served = True
            self._recovered(network, entry)
            entry.addresses = tuple(addresses)
            entry.instances = ids
            entry.spare = spare
            entry.digest = digest
            before, entry.conflicts = entry.conflicts, tuple(conflicts)
            text = "; ".join(entry.conflicts)
            self._problems.note("OVNMD-203", text, about=network)
            return [each for each in entry.conflicts if each not in before]

    def shares(
        self, network: str, sums: Mapping[str, int], *, over: Iterable[str]
    ) -> None:
        """Note the SUMS per limit of NETWORK, and the clients OVER one."""
        with self._lock:
            entry = self._networks.get(network)
            if entry is not None:
                entry.shares = dict(sums)
                entry.over_share = tuple(over)
                text = ", ".join(entry.over_share)
                text = f"over its share: {text}" if text else ""
                self._problems.note("OVNMD-305", text, about=network)

    def seen(self, network: str) -> None:
        """Note that the agent itself got an answer in NETWORK just now."""
        with self._lock:
            entry = self._networks.get(network)
            if entry is not None:
                entry.seen = time.time()

    def repaired(self, network: str) -> None:
        """Count that NETWORK was broken though its rows had not changed."""
        with self._lock:
            self._repairs += 1
            self._networks.setdefault(network, NetworkStatus()).repairs += 1

    def failed(self, network: str, error: Exception) -> bool:
        """Note that NETWORK failed; return whether the reason is new."""
        reason, code = sentence(error), code_of(error, about=network)
        with self._lock:
            entry = self._networks.setdefault(network, NetworkStatus())
            is_new = entry.error != reason
            if not entry.error:
                entry.since = time.time()
            if code != entry.code:
                self._recovered(network, entry)
            entry.failures += 1
            entry.error, entry.code = reason, code
            # The haproxy of a network that was served before still runs.
            cuts = not entry.served
            self._problems.note(code, reason, about=network, cuts=cuts)
            return is_new

    def _recovered(self, network: str, entry: NetworkStatus) -> None:
        if entry.code:
            self._problems.note(entry.code, "", about=network)
        entry.error = entry.code = ""

    def served_networks(self, *, failing: bool = False) -> list[str]:
        """Return those that are served, and FAILING ones that once were."""
        with self._lock:
            of = self._networks
            return [n for n in of if self._serves(n) or failing * of[n].served]

    def gone(self, network: str) -> None:
        """Forget NETWORK."""
        with self._lock:
            self._reconciles += 1
            self._networks.pop(network, None)
            self._problems.forget(network)
            self._lock.notify_all()

    def networks(self) -> list[str]:
        """Return the networks that have an entry."""
        with self._lock:
            return list(self._networks)

    def as_dict(self) -> dict[str, Any]:
        """Return everything in the types of JSON."""
        with self._lock:
            report = self._report(self._networks)
        return {**report, "change": version_of(report)}

    def watch(self, seen: str, timeout_s: float) -> dict[str, Any]:
        """Return everything, once its "change" is not SEEN."""
        deadline = time.monotonic() + timeout_s
        while True:
            report = self.as_dict()
            left_s = deadline - time.monotonic()
            if report["change"] != seen or left_s <= 0:
                return report
            with self._lock:
                self._lock.wait(min(_WATCH_S, left_s))

    def wait(
        self, network: str, instance: str, timeout_s: float
    ) -> dict[str, Any]:
        """Return how NETWORK or INSTANCE is doing, as soon as it is served.

        "served" in the result is whether NETWORK is served, or a network
        that gives INSTANCE its metadata, and the gateway. If both are empty:
        whether the agent is ready and all networks are served. After
        TIMEOUT_S it is False, and "networks" has those that may be the
        reason.
        """
        with self._lock:
            is_served = self._lock.wait_for(
                lambda: self._is_served(network, instance), timeout_s
            )
            failed = self._networks.keys() - self.served_networks()
            reasons = {names.GATEWAY} if network else failed
            reasons |= self._asked(network, instance)
            report = self._report(reasons & self._networks.keys())
            return {"served": is_served, **report}

    def _is_served(self, network: str, instance: str) -> bool:
        if not network and not instance:
            new = self.queue().keys() - self._networks.keys()
            served = all(map(self._serves, self._networks))
            return self.is_ready() and served and not new
        asked = self._asked(network, instance)
        return self._serves(names.GATEWAY) and any(map(self._serves, asked))

    def _asked(self, network: str, instance: str) -> set[str]:
        """Return the networks that are asked for; some may not be here."""
        if network:
            return {network}
        of = self._networks
        return {n for n in of if instance in of[n].instances}

    def _serves(self, network: str) -> bool:
        entry = self._networks.get(network)
        return entry is not None and entry.served and not entry.error

    def _report(self, networks: Iterable[str]) -> dict[str, Any]:
        problems = self.problems()
        waiting = self.queue()
        serves = [*map(self._serves, self._networks.keys() - {names.GATEWAY})]
        return {
            "schema": SCHEMA,
            "health": health(problems, ready=self.is_ready()),
            "now": time.time(),
            "version": self._version,
            "pid": os.getpid(),
            "started": self._started,
            "pace": self._pace(waiting),
            "chassis": self.chassis,
            "ready": self.is_ready(),
            "waiting": dict(self._waiting),
            "problems": problems,
            "queue": {
                "length": len(waiting),
                "oldest_s": max(waiting.values(), default=0.0),
            },
            "counts": {
                "wanted": len(serves),
                "served": sum(serves),
                "failing": len(serves) - sum(serves),
            },
            "reconciles": self._reconciles,
            "repairs": self._repairs,
            # Threads that start just now add some.
            **{part: tell() for part, tell in [*self.parts.items()]},
            "networks": {
                each: self._network(each) for each in sorted(networks)
            },
        }

    def _pace(self, waiting: Iterable[str]) -> str:
        """Return whether the agent has done what it knows of.

        Networks that fail are tried again and again.
        """
        if self.late():
            return "stuck"
        failing = {key for key, each in self._networks.items() if each.error}
        if not self.is_ready() or {*waiting} - failing:
            return "catching up"
        return "caught up"

    def _network(self, network: str) -> dict[str, Any]:
        entry = self._networks[network]
        ids = entry.instances
        return {
            "name": self.names.get(network, ""),
            **dataclasses.asdict(entry),
            "instances": len(ids),
            "instance_names": {each: self.names.get(each, "") for each in ids},
            "process": self.process(network),
        }
