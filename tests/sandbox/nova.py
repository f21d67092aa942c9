"""Run and steer the stand-in for Nova's metadata API.

The server is a process of its own, nova_server.py: without this package,
whose import takes ten times as long.
"""

from __future__ import annotations

import base64
import hmac
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from .daemons import Daemon

ADDRESS = "127.0.0.1"
PORT = 8775
SECRET = "sandbox-secret"

_SERVER = Path(__file__).with_name("nova_server.py")


class Nova:
    """The stand-in's process: instances, delay, outages."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = ADDRESS,
        port: int = PORT,
        secret: str = SECRET,
    ) -> None:
        self.address = address
        self.port = port
        self.secret = secret
        self._control = folder / f"nova-{port}.ctl"
        self._settings: dict[str, Any] = {}
        self._known: dict[str, dict[str, str]] = {}
        self._past_requests = 0
        self._first = folder / f"nova-{port}.first"
        secret_file = folder / f"nova-{port}.secret"
        folder.mkdir(parents=True, exist_ok=True)
        secret_file.write_text(secret)
        self._daemon = Daemon(
            name="nova",
            command=(
                *(sys.executable, "-S", str(_SERVER), address, str(port)),
                *(str(secret_file), str(self._first), str(self._control)),
            ),
            output=folder / f"nova-{port}.out",
            ready=self._control,
        )

    def __enter__(self) -> Nova:
        """Start the stand-in; return once it listens."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._daemon.pid

    @property
    def requests(self) -> int:
        """How many requests came so far, outages survived."""
        if not self._daemon.running:
            return self._past_requests
        return self._past_requests + int(self._tell()["requests"])

    @property
    def probes(self) -> int:
        """How many requests of the agent's own came since the last start."""
        return int(self._tell()["probes"])

    def start(self) -> None:
        """Start it with the instances and settings it had."""
        if self._daemon.running:
            return
        self._control.unlink(missing_ok=True)
        known = {"register": list(self._known.values()), **self._settings}
        self._first.write_text(json.dumps(known))
        self._daemon.start()

    def stop(self) -> None:
        """End it at once: connections are refused from now on."""
        self._past_requests = self.requests
        self._daemon.kill()

    def freeze(self) -> None:
        """Let it hang: connections are taken but nothing is answered."""
        self._daemon.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._daemon.signal(signal.SIGCONT)

    def set_delay(self, delay_s: float) -> None:
        """Answer everything DELAY_S late."""
        self._settings["delay_s"] = delay_s
        self._tell(delay_s=delay_s)

    def set_rate(self, rate: float) -> None:
        """Begin RATE requests a second at most, in order; 0: all at once."""
        self._settings["rate"] = rate
        self._tell(rate=rate)

    def set_status(self, status: int) -> None:
        """Answer STATUS to everything; 0 means as usual."""
        self._settings["status"] = status
        self._tell(status=status)

    def limit_head(self, most: int) -> None:
        """Close the connection when a request's head has more bytes."""
        self._settings["longest_head"] = most
        self._tell(longest_head=most)

    def leave_bodies(self, *, leaves: bool) -> None:
        """Leave bodies unread, to be taken for the next request."""
        self._settings["leaves_bodies"] = leaves
        self._tell(leaves_bodies=leaves)

    def record(self) -> None:
        """Keep what comes, byte for byte, until `recorded`."""
        self._tell(record=True)

    def recorded(self) -> list[bytes]:
        """Return what came meanwhile on each connection, and stop."""
        tape: list[str] = self._tell(record=False)["tape"]
        return [part.encode("latin-1") for part in tape]

    def accept(self, *secrets: str) -> None:
        """Take signatures by any of SECRETS from now on."""
        self._settings["secrets"] = secrets
        self._tell(secrets=secrets)

    def register(
        self,
        instance_id: str,
        project_id: str,
        name: str = "vm",
        *,
        user_data: bytes | None = None,
    ) -> None:
        """Let Nova know an instance."""
        data = f"#!/bin/sh\necho {name}\n".encode()
        self._known[instance_id] = {
            "id": instance_id,
            "project": project_id,
            "name": name,
            "user_data": base64.b64encode(
                data if user_data is None else user_data
            ).decode(),
        }
        if self._daemon.running:
            self._tell(register=[self._known[instance_id]])

    def forget(self, instance_id: str) -> None:
        """Let Nova no longer know an instance."""
        self._known.pop(instance_id, None)
        if self._daemon.running:
            self._tell(forget=[instance_id])

    def signature(self, instance_id: str) -> str:
        """Return the signature that Nova wants for INSTANCE_ID."""
        secret = self.secret.encode()
        return hmac.digest(secret, instance_id.encode(), "sha256").hex()

    def _tell(self, **command: Any) -> dict[str, Any]:  # JSON either way
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self._control))
            control.sendall(json.dumps(command).encode() + b"\n")
            with control.makefile() as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        return answer
