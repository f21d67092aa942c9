"""What the last polls of supervisord showed: who runs, and since when."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

_SUPERVISORD = "supervisord"  # no network has this key
# As docs/reference/status.md describes it.
_UNKNOWN = {"state": "unknown", "pid": 0, "since": 0.0, "restarts": 0}


class Fleet:
    """The fleet as of the last poll; PID_FILE is supervisord's."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._polled: float | None = None
        # Each with its last pid: what is shown of one that has ended has 0.
        self._processes: dict[str, tuple[int, dict[str, Any]]] = {}

    def note(self, programs: Mapping[str, Mapping[str, Any]]) -> None:
        """Note the state of PROGRAMS, as `list_programs` returns them."""
        found = {}
        for key, now in {**programs, _SUPERVISORD: self._running()}.items():
            last, before = self._processes.get(key, (0, _UNKNOWN))
            pid = now["pid"]
            is_other = last != 0 and pid not in (0, last)
            process = {
                "state": now["state"].lower(),
                "pid": pid,
                "since": now["start"],
                "restarts": before["restarts"] + is_other,
            }
            found[key] = pid or last, process
        self._processes, self._polled = found, time.time()

    def as_dict(self) -> dict[str, Any]:
        """Return supervisord's state, and when that was polled."""
        return {"supervisord": self.of(_SUPERVISORD), "polled": self._polled}

    def of(self, network: str) -> dict[str, Any]:
        """Return the state of NETWORK's haproxy, or the gateway's."""
        return self._processes.get(network, (0, _UNKNOWN))[1]

    def _running(self) -> dict[str, Any]:
        """Return that supervisord, which has just answered, runs.

        With pid 0 if we can't see it: it runs in another container, or /proc
        shows us only processes of our own (hidepid).
        """
        try:
            pid = int(self._pid_file.read_text())
            start = psutil.Process(pid).create_time()
        except (OSError, ValueError, psutil.Error):
            pid, start = 0, 0.0
        return {"state": "running", "pid": pid, "start": start}
