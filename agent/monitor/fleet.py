"""What the last polls of supervisord showed: who runs, and since when."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

_SUPERVISORD = "supervisord"  # no network has this key


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A haproxy, or supervisord."""

    state: str = "unknown"  # supervisord's word, in small letters
    pid: int = 0
    since: float = 0.0  # seconds since the epoch
    restarts: int = 0  # that the agent has seen


class Fleet:
    """The fleet as of the last poll; PID_FILE is supervisord's."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._polled: float | None = None
        self._processes: dict[str, Process] = {}
        # Of each: the last pid, and how often there was another one.
        self._pids: dict[str, tuple[int, int]] = {}

    def note(self, programs: Mapping[str, Mapping[str, Any]]) -> None:
        """Note the state of PROGRAMS, as `list_programs` returns them."""
        pid, since = _running(self._pid_file)
        found = {_SUPERVISORD: ("running" if pid else "unknown", pid, since)}
        for network, info in programs.items():
            found[network] = info["state"].lower(), info["pid"], info["start"]
        self._pids = {
            key: _next(self._pids.get(key, (0, 0)), now)
            for key, (_, now, _) in found.items()
        }
        self._processes = {
            key: Process(*state, restarts=self._pids[key][1])
            for key, state in found.items()
        }
        self._polled = time.time()

    def as_dict(self) -> dict[str, Any]:
        """Return supervisord's state, and when that was polled."""
        return {"supervisord": self.of(_SUPERVISORD), "polled": self._polled}

    def of(self, network: str) -> dict[str, Any]:
        """Return the state of NETWORK's haproxy, or the gateway's."""
        return dataclasses.asdict(self._processes.get(network, Process()))


def _next(last: tuple[int, int], pid: int) -> tuple[int, int]:
    before, restarts = last
    if not pid:
        return last
    return pid, restarts + (before not in (0, pid))


def _running(pid_file: Path) -> tuple[int, float]:
    """Return pid and start of the process of PID_FILE; zeros if unknown."""
    try:
        pid = int(pid_file.read_text())
        return pid, psutil.Process(pid).create_time()
    except (OSError, ValueError, psutil.Error):
        return 0, 0.0
