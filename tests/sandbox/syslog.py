"""The host's log: what haproxy sends to /dev/log."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import defaultdict
from pathlib import Path

LOG = Path("/dev/log")
# Lines that wait to be read, of a socket made from now on: the others are
# lost, and a busy machine reads late.
_QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
_TAG = re.compile(rb"haproxy-metadata-proxy-([0-9a-z-]+)\[\d+\]: ")


def listen() -> socket.socket:
    """Take the place of the host's log, which nobody reads."""
    LOG.unlink()
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.bind(str(LOG))
    LOG.chmod(0o666)
    return link


def leave() -> None:
    """Have a log that nobody reads."""
    LOG.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(LOG))


class Syslog:
    """Keeps the lines by the end of their tag: a network, or "gateway"."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = defaultdict(list)
        _QUEUE.write_text("100000")
        self._socket = listen()
        self._socket.settimeout(0.2)
        self._stopped = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            with contextlib.suppress(TimeoutError):
                line = self._socket.recv(65536)
                if match := _TAG.search(line):
                    text = line[match.end() :].decode().rstrip("\n")
                    self.lines[match[1].decode()].append(text)

    def close(self) -> None:
        """Read no more."""
        self._stopped = True
        self._thread.join()
        self._socket.close()
        leave()
