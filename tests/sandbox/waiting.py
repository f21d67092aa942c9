"""Wait for a condition with a deadline; nothing here ever just sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL_S = 0.015
# For what may wait behind a call to a supervisord that hangs, which is given
# up after 20 s, and for the next try.
BEHIND_CALL_S = 60.0


def wait_for(
    condition: Callable[[], T],
    *,
    timeout_s: float,
    what: str,
    interval_s: float = INTERVAL_S,
) -> T:
    """Return CONDITION's first true value; TimeoutError names WHAT.

    An OSError of CONDITION counts as "not yet" and ends up in the message, as
    does a LookupError: what it looks at is not there yet.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except (OSError, LookupError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"no {what} within {timeout_s:g} s; last seen: {last!r}"
            )
        time.sleep(interval_s)
