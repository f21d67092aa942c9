"""The haproxies' log of requests, where the host has no /dev/log.

So it is in a container: the lines go to supervisord's stdout, and thus to
where the container's log goes. The agent has the haproxies write here if the
socket exists.
"""

import contextlib
import os
import re
import select
import socket
import sys
from pathlib import Path

_SYSLOG = Path("/dev/log")
_MODE = 0o666  # as /dev/log's
_LONGEST = 1024  # bytes; haproxy's lines are no longer
_AT_ONCE = 100  # lines; supervisord has other work
_PRIORITY = re.compile(rb"<\d{1,3}>")


class RequestLog:
    """Prints what comes on the unix socket PATH, a line for each message."""

    def __init__(self, path: Path, *, foreground: bool) -> None:
        path.unlink(missing_ok=True)
        self.socket: socket.socket | None = None
        if foreground and not _SYSLOG.exists():
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.settimeout(0)
            self.socket.bind(str(path))
            path.chmod(_MODE)

    def close(self, _event: object) -> None:
        """Close the socket: supervisord is about to close descriptors.

        Else garbage collection closes it when another one has its number.
        """
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def print(self) -> None:
        """Print what waits; drop it if nobody reads our stdout."""
        if self.socket is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                line = printable(self.socket.recv(_LONGEST))
                # So much fits without a wait, if anything does.
                if select.select([], [sys.stdout], [], 0)[1]:
                    os.write(sys.stdout.fileno(), line)


def printable(message: bytes) -> bytes:
    """Return MESSAGE, which anybody may have sent, as a line to print."""
    text = _PRIORITY.sub(b"", message, count=1).rstrip(b"\n")
    return re.sub(rb"[^ -~]", b"?", text) + b"\n"
