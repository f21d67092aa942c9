"""A queue of keys: each key once, one worker per key, retries with delay.

What is to be done for a key is found out when it is taken, so adding it
again while it waits adds nothing, and adding it while it is worked on has
it handed out once more afterwards.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable

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
        self._held: set[str] = set()
        self._dirty: set[str] = set()
        self._due: dict[str, float] = {}  # when to hand it out
        self._failures: dict[str, int] = {}
        self._retries: set[str] = set()  # handed out because they were due
        self._closed = False

    def add(self, key: str) -> None:
        """Have KEY handed out soon."""
        with self._changed:
            self._add(key)

    def _add(self, key: str) -> None:
        if key in self._held:
            self._dirty.add(key)
        elif key not in self._waiting:
            self._waiting[key] = None
            self._changed.notify()

    def add_later(self, key: str, delay_s: float) -> None:
        """Have KEY handed out in DELAY_S seconds."""
        with self._changed:
            self._add_later(key, delay_s)

    def _add_later(self, key: str, delay_s: float) -> None:
        due = self._clock() + delay_s
        if due < self._due.get(key, math.inf):
            self._due[key] = due
            self._changed.notify()

    def get(self) -> str | None:
        """Return the next key, held until `done`; None once closed."""
        with self._changed:
            while not self._closed:
                self._promote_due()
                if self._waiting:
                    key = next(iter(self._waiting))
                    del self._waiting[key]
                    self._held.add(key)
                    # Whatever it was due for is what is done now.
                    self._due.pop(key, None)
                    return key
                self._changed.wait(self._seconds_to_next())
            return None

    def _promote_due(self) -> None:
        now = self._clock()
        for key in [key for key, due in self._due.items() if due <= now]:
            del self._due[key]
            self._retries.add(key)
            self._add(key)

    def _seconds_to_next(self) -> float | None:
        first = min(self._due.values(), default=None)
        return None if first is None else max(0.0, first - self._clock())

    def done(self, key: str, *, failed: bool) -> float | None:
        """Give KEY back; return the seconds to its retry, if it FAILED.

        The delay doubles with each retry that fails and is spread by up to
        a quarter, so that what failed together is not retried so. What is
        tried because rows changed makes it no longer: those come in bursts.
        """
        with self._changed:
            self._held.discard(key)
            if key in self._dirty:
                self._dirty.discard(key)
                self._add(key)
            was_retry = key in self._retries
            self._retries.discard(key)
            if not failed:
                self._failures.pop(key, None)
                return None
            before = self._failures.get(key)
            count = 0 if before is None else before + was_retry
            self._failures[key] = count
            delay = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(count, 16))
            delay *= 1 - self._jitter() / 4
            self._add_later(key, delay)
            return delay

    @property
    def closed(self) -> bool:
        """Whether it hands out nothing any more."""
        return self._closed

    def is_idle(self) -> bool:
        """Tell whether nothing waits and nothing is held."""
        with self._changed:
            return not self._waiting and not self._held

    def close(self) -> None:
        """Have every `get` return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Queues:
    """What is to be done: by the workers, and by the service's thread."""

    def __init__(self) -> None:
        self.reconcile = WorkQueue()
        self.revoke = WorkQueue()
        # There is something for the service to look at.
        self.news = threading.Event()
        # All networks are to be queued, once the rows are there.
        self.all_due = threading.Event()

    def resync(self) -> None:
        """Have the service queue all networks."""
        self.all_due.set()
        self.news.set()

    def close(self) -> None:
        """Let the workers end."""
        self.reconcile.close()
        self.revoke.close()
