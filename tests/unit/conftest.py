"""Unit tests start no process and reach no network."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

# Imported before the guard is on: Debian 12's version asks Python for the
# machine's architecture while it is imported, and Python asks file(1).
import pyroute2  # noqa: F401 # see above
import pytest
from hypothesis import settings

# An option's default; a machine's own may be set.
os.environ.pop("REQUESTS_CA_BUNDLE", None)

# A busy machine is slow, and no example takes long. `make fuzz` has more of
# them, and others each time; `make unit` has the same ones.
_EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "")
settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=not _EXAMPLES,
    max_examples=int(_EXAMPLES or "100"),
)
settings.load_profile("any machine")

_PROCESS_EVENTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "subprocess.Popen",
    }
)
_SOCKET_EVENTS = frozenset({"socket.bind", "socket.connect"})


class _Guard:
    """An audit hook, which can't be removed, only switched off."""

    def __init__(self) -> None:
        self.on = False
        self._installed = False

    def switch_on(self) -> None:
        if not self._installed:
            sys.addaudithook(self._audit)
            self._installed = True
        self.on = True

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _PROCESS_EVENTS:
            raise RuntimeError(f"a unit test starts a process: {event}")
        if event in _SOCKET_EVENTS and arguments[0].family != socket.AF_UNIX:
            raise RuntimeError(f"a unit test reaches for a network: {event}")


_guard = _Guard()


@pytest.fixture(autouse=True)
def _no_processes() -> Iterator[None]:
    _guard.switch_on()
    try:
        yield
    finally:
        _guard.on = False


@pytest.fixture(autouse=True)
def _no_options_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no variable of the environment change an option."""
    for name in list(os.environ):
        if name.startswith("OS_"):
            monkeypatch.delenv(name)
