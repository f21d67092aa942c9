"""A gate that threads pass together."""

import contextlib
import threading
from collections.abc import Iterator


class Gate:
    """Opens for all that wait once all that were coming have arrived."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._coming: dict[int, object] = {}  # by thread
        self._opened = 0

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """Let others wait for this thread, until it waits or leaves."""
        with self._changed:
            self._coming[threading.get_ident()] = object()
        try:
            yield
        finally:
            self._arrive()

    def wait(self) -> None:
        """Wait for those that are coming now; at most for the patience."""
        with self._changed:
            self._arrive()
            before, awaited = self._opened, {*self._coming.values()}
            self._changed.wait_for(
                lambda: (
                    self._opened != before
                    or awaited.isdisjoint(self._coming.values())
                ),
                self._patience_s,
            )
            if self._opened == before:
                self._opened += 1
                self._changed.notify_all()

    def _arrive(self) -> None:
        with self._changed:
            if self._coming.pop(threading.get_ident(), None):
                self._changed.notify_all()
