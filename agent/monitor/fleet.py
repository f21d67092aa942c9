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


_NEVER_SEEN = 0, Process()


class Fleet:
    """The fleet as of the last poll; PID_FILE is supervisord's."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._polled: float | None = None
        # Each with its last pid: one that does not run has none.
        self._processes: dict[str, tuple[int, Process]] = {}

    def note(self, programs: Mapping[str, Mapping[str, Any]]) -> None:
        """Note the state of PROGRAMS, as `list_programs` returns them."""
        found = {}
        for key, now in {**programs, _SUPERVISORD: self._running()}.items():
            last, before = self._processes.get(key, _NEVER_SEEN)
            state, pid, since = now["state"].lower(), now["pid"], now["start"]
            restarts = before.restarts + (last != 0 and pid not in (0, last))
            process = Process(state, pid, since, restarts)
            found[key] = pid or last, process
        self._processes, self._polled = found, time.time()

    def as_dict(self) -> dict[str, Any]:
        """Return supervisord's state, and when that was polled."""
        return {"supervisord": self.of(_SUPERVISORD), "polled": self._polled}

    def of(self, network: str) -> dict[str, Any]:
        """Return the state of NETWORK's haproxy, or the gateway's."""
        return dataclasses.asdict(self._processes.get(network, _NEVER_SEEN)[1])

    def _running(self) -> dict[str, Any]:
        """Return the state of supervisord; pid 0 if that is unknown."""
        try:
            pid = int(self._pid_file.read_text())
            start = psutil.Process(pid).create_time()
        except (OSError, ValueError, psutil.Error):
            return {"state": "unknown", "pid": 0, "start": 0.0}
        return {"state": "running", "pid": pid, "start": start}
