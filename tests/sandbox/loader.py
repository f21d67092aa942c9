"""Ask for metadata all the time, and notice every time it is not there."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .instances import Instance

# A thread that wakes up late may ask for what was due so lately.
_CATCH_UP_S = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no answer, or not the right one."""

    instance_id: str
    at_s: float  # since the load began
    reason: str


class Loader:
    """Ask RATE times a second in all, each instance in its turn.

    What a busy machine has kept this process from asking is left out: asked
    at once, it would be more than an instance's share.

    A gap is the time from one success to the next of the same instance, so
    no gap can be shorter than len(instances) / rate. The begin and the end
    of the load count as successes.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        *,
        rate: float = 20.0,
        timeout_s: float = 10.0,
        ipv6: bool = False,
        workers: int = 32,
    ) -> None:
        self._instances = list(instances)
        self._interval_s = 1.0 / rate
        self._timeout_s = timeout_s
        self._ipv6 = ipv6
        self._workers = workers
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = 0.0
        self._last: dict[str, float] = {}
        self.requests = 0
        # How late this process was with a request, at most: so much of a gap
        # is the machine's.
        self.late_s = 0.0
        self.failures: list[Failure] = []
        self.gaps_s: dict[str, float] = {}

    def __enter__(self) -> Loader:
        """Begin."""
        self._begun = time.monotonic()
        self._last = {i.instance_id: self._begun for i in self._instances}
        self.gaps_s = dict.fromkeys(self._last, 0.0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; every request under way is waited for."""
        self._stop.set()
        self._thread.join()
        ended = time.monotonic()
        with self._lock:
            for instance_id in self._last:
                self._succeed(instance_id, ended)

    @property
    def longest_gap_s(self) -> float:
        """The longest gap of any instance so far."""
        with self._lock:
            return max(self.gaps_s.values(), default=0.0)

    def _run(self) -> None:
        due = time.monotonic()
        turn = 0
        with ThreadPoolExecutor(self._workers) as pool:
            # All threads begin now. One that comes later takes a number that
            # a test may want for a process.
            every = threading.Barrier(self._workers)
            for _ in range(self._workers):
                pool.submit(every.wait)
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                instance = self._instances[turn % len(self._instances)]
                pool.submit(self._ask, instance)
                turn += 1
                self.late_s = max(self.late_s, time.monotonic() - due)
                due = max(due, time.monotonic() - _CATCH_UP_S)
                due += self._interval_s

    def _ask(self, instance: Instance) -> None:
        wanted = instance.instance_id
        reason = ""
        try:
            status, body = instance.ask(
                timeout=self._timeout_s, ipv6=self._ipv6
            )
            if status != 200:
                reason = f"status {status}: {body[:100]!r}"
            elif body.decode() != wanted:
                reason = f"another instance's answer: {body[:100]!r}"
        except Exception as error:  # noqa: BLE001 # the pool would lose it
            reason = repr(error)
        now = time.monotonic()
        with self._lock:
            self.requests += 1
            if reason:
                at_s = now - self._begun
                self.failures.append(Failure(wanted, at_s, reason))
            else:
                self._succeed(wanted, now)

    def _succeed(self, instance_id: str, now: float) -> None:
        gap_s = now - self._last[instance_id]
        self.gaps_s[instance_id] = max(self.gaps_s[instance_id], gap_s)
        self._last[instance_id] = max(now, self._last[instance_id])
