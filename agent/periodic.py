"""Look at something again and again, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

LOG = logging.getLogger(__name__)

_END_S = 1.0


class Periodic:
    """Calls each of LOOKS every INTERVAL_S, whatever comes of it."""

    def __init__(
        self, *looks: Callable[[], object], name: str, interval_s: float
    ) -> None:
        self._looks: Sequence[Callable[[], object]] = looks
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=name, daemon=True
        )

    def start(self) -> None:
        """Begin, an interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the look that it is at, or without it if that hangs."""
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            for look in self._looks:
                if not self._stop.is_set():
                    self._safely(look)

    def _safely(self, look: Callable[[], object]) -> None:
        """LOOK; what is wrong with one thing hides nothing else."""
        try:
            look()
        except Exception:
            LOG.exception("a look of %s failed", self._thread.name)
