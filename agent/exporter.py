"""Answer Prometheus, on a unix socket and, where wanted, on TCP."""

import dataclasses
import json
import logging
import re
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from ..privsep.kernel import received
from . import unixsocket
from .haproxy import files
from .metrics import COUNTERS
from .reconcile.site import Site
from .threads import Poller

LOG = logging.getLogger(__name__)

_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_MAX_QUESTION = 8192  # bytes
_MAX_FILE = 16 * 1024 * 1024
# Prometheus gives up after 10 s, by default.
_CLIENT_S = 5.0  # for the question, and for the answer
_CLIENTS = 16  # at the same time; more are closed
# Clients that ask more often get the same answer.
_FRESH_S = 1.0
_RETRY_S = 5.0


class _Handler(socketserver.BaseRequestHandler):
    """Answers one GET of /metrics and closes; if many ask, it only closes."""

    server: "_Server"

    def handle(self) -> None:
        if self.server.slots.acquire(blocking=False):
            try:
                self._answer()
            finally:
                self.server.slots.release()

    def _answer(self) -> None:
        question = b""
        for part in received(self.request, _CLIENT_S):
            question += part
            if b"\r\n\r\n" in question or len(question) >= _MAX_QUESTION:
                break
        status, text = b"404 Not Found", b"try GET /metrics\n"
        if re.match(rb"GET /metrics[? ]", question):
            status, text = b"200 OK", self.server.text()
        head = b"HTTP/1.0 %s\r\nContent-Type: %s\r\n"
        head += b"Content-Length: %d\r\n\r\n"
        self.request.settimeout(_CLIENT_S)
        self.request.sendall(head % (status, _TYPE, len(text)) + text)


class _Server(unixsocket.LastingServer):
    """Answers a few clients at a time with TEXT."""

    def __init__(self, address: Any, text: Callable[[], bytes]) -> None:
        self.text = text
        self.slots = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(address, _Handler)


@dataclasses.dataclass(eq=False)
class Exporter(Poller):
    """Answers; tries until it can: an address may come later.

    The counters of the site's meter continue those in the file COUNTERS,
    which is kept for the next agent; one with nonsense is ignored.
    """

    site: Site
    collector: Collector

    def __post_init__(self) -> None:
        super().__init__("metrics", _RETRY_S)
        settings = self.site.settings()
        self._file = settings.state_path / COUNTERS
        self._lock = threading.Lock()
        self._made_at = 0.0
        self._text = b""
        self._problem = ""  # why the counters can't be kept
        self._servers: list[_Server] = []
        # What is not bound, in words -> its address.
        self._unbound: dict[str, str | tuple[str, int]] = {}
        if (path := settings.metrics_socket) is not None:
            self._unbound[f"{path} (metrics_socket)"] = str(path)
        if (address := settings.metrics_address) is not None:
            what = "{} port {} (metrics_address)".format(*address)
            self._unbound[what] = address
        self._load()

    def start(self) -> None:
        """Answer from now on."""
        self.poll()
        super().start()

    def poll(self) -> None:
        """Bind what is not bound; report what does not work."""
        problems = [self._problem] * bool(self._problem)
        for what, address in [*self._unbound.items()]:
            try:
                server = _Server(address, self._metrics)
            except OSError as error:
                problems.append(f"{what}: {error.strerror or error}")
                continue
            # Without a thread it is closed, and tried again.
            server.start("metrics")
            del self._unbound[what]
            self._servers.append(server)
        self.site.status.note("OVNMD-408", "; ".join(problems))

    def stop(self) -> None:
        """Answer no more, and keep the counters."""
        super().stop()
        for server in self._servers:
            server.stop()
        self._save()

    def _metrics(self) -> bytes:
        """Return the metrics.

        Their counters are in the file first: after a crash, the next agent
        must not show less than this one did.
        """
        with self._lock:
            if time.monotonic() - self._made_at >= _FRESH_S or not self._text:
                self._text = generate_latest(self.collector)
                self._made_at = time.monotonic()
                self._save()
            return self._text

    def _load(self) -> None:
        try:
            with self._file.open() as file:
                self.site.meter.restore(json.loads(file.read(_MAX_FILE)))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            LOG.warning(
                "%s can't be used, the metrics' counters begin at 0: %s",
                self._file,
                error,
            )

    def _save(self) -> None:
        self._problem = ""
        try:
            files.write(self._file, json.dumps(self.site.meter.plain()))
        except OSError as error:
            self._problem = f"counters not kept: {error}"
