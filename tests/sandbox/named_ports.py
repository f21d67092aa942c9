"""Follow what Southbound says of ports, the moment that it says so."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .ovsdb import messages

Row = dict[str, Any]

_AGAIN_S = 0.05
_COLUMNS = (
    *("logical_port", "up", "chassis", "additional_chassis"),
    *("requested_chassis", "requested_additional_chassis"),
)


class NamedPorts:
    """Calls ON_ROW with each Port_Binding that is new or changes.

    By a monitor of its own (RFC 7047, 4.1.5), on a thread of its own: ON_ROW
    must not block. Once the database is back, all rows come again.
    """

    def __init__(self, path: Path, on_row: Callable[[Row], None]) -> None:
        self._path = path
        self._on_row = on_row
        self._stop = threading.Event()
        self._link = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> NamedPorts:
        """Begin; the rows that there are come first."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with (
                contextlib.suppress(OSError),
                socket.socket(socket.AF_UNIX) as self._link,
            ):
                self._link.connect(str(self._path))
                self._follow()
            self._stop.wait(_AGAIN_S)

    def _follow(self) -> None:
        """Read what the server sends, until it goes."""
        wanted = {"Port_Binding": {"columns": [*_COLUMNS]}}
        self._send("monitor", ["OVN_Southbound", None, wanted])
        text = ""
        while not self._stop.is_set():
            chunk = self._link.recv(1 << 20)
            if not chunk:
                return
            found, text = messages(text + chunk.decode())
            for message in found:
                self._take(message)

    def _send(self, method: str, params: object) -> None:
        request = {"method": method, "params": params, "id": method}
        self._link.sendall(json.dumps(request).encode())

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "echo":
            answer = {"id": "echo", "result": [], "error": None}
            self._link.sendall(json.dumps(answer).encode())
            return
        changes = (
            message.get("result") or (message.get("params") or [0, {}])[1]
        )
        for change in changes.get("Port_Binding", {}).values():
            if "new" in change:
                self._on_row(change["new"])
