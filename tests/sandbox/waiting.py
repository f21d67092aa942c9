"""Wait for a condition with a deadline; nothing here ever just sleeps."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Between two looks at a condition: a tenth of the time waited so far. What
# takes long is looked at less often.
SHORTEST_S, LONGEST_S = 0.015, 0.1
# For what may wait behind a call to a supervisord that hangs, which is given
# up after 20 s, and for the next try.
BEHIND_CALL_S = 60.0


def holds(attempt: Callable[[], bool]) -> bool:
    """Return whether ATTEMPT is good, which a busy machine may spoil.

    Once is enough. If the first is not, the next two have to be: what fails
    half of the time is found soon.
    """
    return attempt() or (attempt() and attempt())


def wait_for(
    condition: Callable[[], T],
    *,
    timeout_s: float,
    what: str,
    interval_s: float | None = None,
) -> T:
    """Return CONDITION's first true value; TimeoutError names WHAT.

    An OSError of CONDITION counts as "not yet" and ends up in the message, as
    do a LookupError, for what it looks at is not there yet, and an answer
    that ends half-way. INTERVAL_S is the time between two looks, where it
    matters.
    """
    begun = time.monotonic()
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except (OSError, LookupError, http.client.HTTPException) as error:
            last = error
        waited = time.monotonic() - begun
        if waited >= timeout_s:
            raise TimeoutError(
                f"no {what} within {timeout_s:g} s; last seen: {last!r}"
            )
        if interval_s is None:
            time.sleep(min(LONGEST_S, max(SHORTEST_S, waited / 10)))
        else:
            time.sleep(interval_s)
