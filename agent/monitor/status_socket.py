"""Serve the status on a unix socket, to the agent's group."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socketserver
import stat
import threading
import time
from pathlib import Path
from typing import Any

from ..errors import StartError
from .status import Status

LOG = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 5
_ACCEPT_PAUSE_S = 0.2


class _Handler(socketserver.StreamRequestHandler):
    """Answers each client with one line of JSON."""

    timeout = _SEND_TIMEOUT_S

    def handle(self) -> None:
        server = self.server
        if isinstance(server, StatusServer):
            line = json.dumps(server.status.as_dict()) + "\n"
            self.wfile.write(line.encode())


class StatusServer(socketserver.ThreadingUnixStreamServer):
    """Serves the status on the unix socket PATH to the agent's group."""

    daemon_threads = True

    def __init__(self, path: Path, status: Status) -> None:
        self.status = status
        self._path = path
        try:
            self._make_way()
            super().__init__(str(path), _Handler)
            path.chmod(0o660)
        except OSError as error:
            raise StartError(
                f"{path} (status_socket) can't be made as uid "
                f"{os.geteuid()}: {error.strerror}"
            ) from None

    def _make_way(self) -> None:
        """Remove an earlier agent's socket, and nothing else."""
        path = self._path
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise StartError(
                    f"{path} (status_socket) is there and is not a socket; "
                    f"move it away"
                )
            path.unlink()

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(
            target=self.serve_forever, name="status", daemon=True
        ).start()

    def get_request(self) -> tuple[Any, Any]:
        """Accept the next client; pause before an OSError is raised.

        Without a free descriptor the client stays in the queue, and the
        server would try again as fast as it can.
        """
        try:
            return super().get_request()
        except OSError:
            time.sleep(_ACCEPT_PAUSE_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a client closed before it had its answer."""
        LOG.debug("a client of the status socket closed too early")

    def stop(self) -> None:
        """Stop serving and remove the socket."""
        self.shutdown()
        self.server_close()
        self._path.unlink(missing_ok=True)
