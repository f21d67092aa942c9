"""A lock for each key, as long as a thread holds it or waits for it."""

import contextlib
import threading
import weakref
from collections.abc import Iterator


class KeyedLocks:
    """Locks by key; a lock that is not in use takes no memory."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: weakref.WeakValueDictionary[str, threading.Lock]
        self._locks = weakref.WeakValueDictionary()

    @contextlib.contextmanager
    def held(self, key: str, timeout_s: float = -1) -> Iterator[None]:
        """Let one thread at a time be inside for KEY; raise TimeoutError."""
        with self._guard:
            own = self._locks.get(key) or threading.Lock()
            self._locks[key] = own
        if not own.acquire(timeout=timeout_s):
            raise TimeoutError(f"another thread is busy with {key}")
        try:
            yield
        finally:
            own.release()
