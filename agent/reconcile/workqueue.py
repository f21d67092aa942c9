"""A queue of keys: each key once, one worker per key, retries with delay.

A worker computes what to do when it takes a key. So adding a key again while
it waits changes nothing, and a key that is added while a worker has it is
handed out once more afterwards.
"""

import math
import random
import threading
import time
from collections.abc import Callable

from ...privsep import names

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0


class WorkQueue:
    """Keys to be reconciled; safe for any number of threads."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._changed = threading.Condition()
        self._waiting: dict[str, None] = {}  # in order of arrival
        self._held: dict[str, float] = {}  # a worker has it, since
        self._due: dict[str, float] = {}  # when to add it
        self._failures: dict[str, int] = {}
        self._retries: set[str] = set()  # added because they were due
        # Since when a key has waited for a run that succeeds: those that
        # were added, and those that a worker has.
        self._since: dict[str, float] = {}
        self._held_since: dict[str, float] = {}
        self.closed = False

    def add(self, key: str, *, routine: bool = False) -> None:
        """Hand KEY out as soon as a worker is free.

        ROUTINE means that nothing is known to have changed. Such a key waits
        until all others have been handed out: a new network must not wait for
        a pass over hundreds.
        """
        with self._changed:
            if not routine:
                self._since.setdefault(key, self._clock())
            self._add(key)

    def _add(self, key: str) -> None:
        self._waiting.setdefault(key)
        self._changed.notify()

    def add_later(self, key: str, delay_s: float) -> None:
        """Hand KEY out in DELAY_S seconds, or earlier if it is due then."""
        with self._changed:
            due = self._clock() + delay_s
            if due < self._due.get(key, math.inf):
                self._due[key] = due
                self._changed.notify()

    def get(self) -> str | None:
        """Return the next key, held until `done`; None once closed."""
        with self._changed:
            while not self.closed:
                self._promote_due()
                if free := [k for k in self._waiting if k not in self._held]:
                    changed = (k for k in free if k in self._since)
                    key = next(changed, free[0])
                    del self._waiting[key]
                    self._held[key] = self._clock()
                    if key in self._since:
                        self._held_since[key] = self._since.pop(key)
                    # This run does what the later one was for.
                    self._due.pop(key, None)
                    return key
                due = min(self._due.values(), default=math.inf)
                wait_s = min(due - self._clock(), threading.TIMEOUT_MAX)
                self._changed.wait(wait_s)
            return None

    def _promote_due(self) -> None:
        now = self._clock()
        for key in [key for key, due in self._due.items() if due <= now]:
            del self._due[key]
            self._retries.add(key)
            self._add(key)

    def done(self, key: str, *, failed: bool) -> float | None:
        """Give KEY back; return the seconds to its retry, if it FAILED.

        The delay doubles with each retry that fails. It is spread by up to
        a quarter, so that keys that failed together are not retried
        together. Failures of runs that row changes caused do not lengthen
        it, since row changes come in bursts.
        """
        with self._changed:
            self._held.pop(key, None)
            self._changed.notify()  # it may have been added again
            was_retry = key in self._retries
            self._retries.discard(key)
            since = self._held_since.pop(key, None)
            if not failed:
                self._failures.pop(key, None)
                return None
            if since is not None:
                self._since[key] = since
            before = self._failures.get(key)
            count = 0 if before is None else before + was_retry
            self._failures[key] = count
            delay = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(count, 16))
            delay *= 1 - self._jitter() / 4
            self.add_later(key, delay)  # the lock lets its holder in
            return delay

    def waiting(self) -> dict[str, float]:
        """Return key -> for how many seconds it has waited for a good run."""
        with self._changed:
            now = self._clock()
            since = self._since | self._held_since
            return {key: now - began for key, began in since.items()}

    def longest_s(self) -> float:
        """Return for how long a worker has had the oldest key it has."""
        with self._changed:
            now = self._clock()
            return now - min(self._held.values(), default=now)

    def is_idle(self) -> bool:
        """Return whether no key waits and no worker has one."""
        with self._changed:
            return not self._waiting and not self._held

    def close(self) -> None:
        """Make every `get` return None."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Queues:
    """The keys for the workers, and what the service's thread waits for."""

    def __init__(self) -> None:
        self.reconcile = WorkQueue()
        self.revoke = WorkQueue()
        # Something changed that the service has to check.
        self.news = threading.Event()
        # When it has to queue all networks (monotonic), once rows are there.
        self.resync_at = 0.0

    def visit(self, key: str) -> None:
        """Have KEY reconciled, though nothing is known to have changed.

        Many networks may be silent at once; new networks come first.
        """
        self.reconcile.add(key, routine=key != names.GATEWAY)

    def resync(self) -> None:
        """Make the service queue all networks."""
        self.resync_at = 0.0
        self.news.set()
