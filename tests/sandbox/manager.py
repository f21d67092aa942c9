"""A stand-in for systemd: what the agent tells it by NOTIFY_SOCKET."""

from __future__ import annotations

import itertools
import os
import select
import socket
import threading
import time
from pathlib import Path

from .agent import Agent
from .waiting import wait_for

FED = "WATCHDOG=1"


class Manager:
    """Takes the agent's messages; the unit's watchdog is WATCHDOG_S."""

    def __init__(self, folder: Path, watchdog_s: float) -> None:
        self.watchdog_s = watchdog_s
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = folder / "notify"
        self._end.bind(str(self._path))
        self._path.chmod(0o666)
        self._told: list[tuple[float, str]] = []
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._take)

    def __enter__(self) -> Manager:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)
        self._thread.join()
        os.close(self._stopped)
        self._end.close()

    def manages(self, agent: Agent, **more: str) -> None:
        """Give AGENT the environment that its unit would, and MORE."""
        agent._daemon.environment = {
            **(agent._daemon.environment or {}),
            "NOTIFY_SOCKET": str(self._path),
            "WATCHDOG_USEC": str(int(self.watchdog_s * 1e6)),
            **more,
        }

    def told(self, since: float = 0.0) -> list[str]:
        """Return the lines of the messages since the monotonic time SINCE."""
        return [line for at, line in self._told if at >= since]

    def wait_told(self, word: str, *, timeout_s: float = 60.0) -> None:
        """Wait for a line with WORD."""
        wait_for(
            lambda: any(word in line for line in self.told()),
            timeout_s=timeout_s,
            what=f"the message {word}",
        )

    def longest_s(self, since: float) -> float:
        """Return the longest time without food from SINCE until now."""
        times = [at for at, line in self._told if line == FED and at > since]
        ends = [since, *times, time.monotonic()]
        return max(b - a for a, b in itertools.pairwise(ends))

    def wait_starved(self, *, timeout_s: float) -> None:
        """Wait until the watchdog would fire."""

        def is_starved() -> bool:
            last = max(at for at, line in self._told if line == FED)
            return time.monotonic() - last > self.watchdog_s

        wait_for(is_starved, timeout_s=timeout_s, what="the watchdog to fire")

    def _take(self) -> None:
        while True:
            ready, _, _ = select.select([self._end, self._stopped], [], [])
            if self._stopped in ready:
                return
            text = self._end.recv(4096).decode()
            now = time.monotonic()
            self._told += [(now, line) for line in text.split("\n")]
