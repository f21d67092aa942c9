"""Tell the service manager how the agent is doing: sd_notify(3).

The unit's watchdog is fed while every part of the agent makes progress, and
not by a part that only runs.
"""

import dataclasses
import logging
import os
import socket
from collections.abc import MutableMapping

from ..config import logs
from ..threads import Poller
from .status import Status

LOG = logging.getLogger(__name__)

_INTERVAL_S = 5.0
_HANGS = "OVNMD-407"
# While it starts the agent may wait for a database as long as it takes.
_EXTEND = f"EXTEND_TIMEOUT_USEC={60 * 1_000_000}"
READY = "READY=1"
FED = "WATCHDOG=1"


class Manager:
    """The service manager that ENVIRONMENT names; there may be none.

    What names it is removed from ENVIRONMENT: it is not for the programs that
    the agent starts.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract name.
        self._address = address.replace("@", "\0", 1 * (address[:1] == "@"))
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        is_for_us = pid in ("", str(os.getpid()))
        self.watchdog_s = (
            int(usec) / 1e6 if usec.isdecimal() and is_for_us else 0.0
        )

    def send(self, *lines: str) -> bool:
        """Send LINES; return False if the manager does not take them now."""
        if not self._address or not lines:
            return True
        # A reason may name a file whose name is not UTF-8.
        data = "\n".join(lines).encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(data, socket.MSG_DONTWAIT, self._address)
        except OSError:
            return False
        return True


@dataclasses.dataclass(eq=False)
class Heart(Poller):
    """Feeds the watchdog, and tells what the agent does, on its own thread."""

    manager: Manager
    status: Status

    def __post_init__(self) -> None:
        fed_s = self.manager.watchdog_s / 4 or _INTERVAL_S
        super().__init__("heart", min(_INTERVAL_S, fed_s))
        self._was_ready = False
        self._hung = False
        self._line = ""

    def poll(self) -> None:
        """Feed the watchdog, unless a part of the agent hangs."""
        problem = "; ".join(
            f"{part} made no progress for {age_s:.0f} s"
            for part, age_s in sorted(self.status.late().items())
        )
        self.status.note(_HANGS, problem)
        self.status.note("OVNMD-409", logs.problem())
        # It is logged once: its number of seconds grows with each poll.
        if problem and not self._hung:
            LOG.critical("%s", problem)
        self._hung = bool(problem)
        lines = [] if problem else [FED]
        is_ready = self._was_ready or self.status.is_ready()
        if not self._was_ready:
            lines += [READY] if is_ready else [_EXTEND] * (not problem)
        # The status may be long, and is cut.
        line = f"{_HANGS} {problem}" if problem else self.status.in_short()
        if line != self._line:
            lines.append(f"STATUS={line}")
        if self.manager.send(*lines):
            self._was_ready, self._line = is_ready, line
