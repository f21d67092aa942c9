"""Real web servers in the place of Nova's, each with `wsgi_app`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from . import Instance, Sandbox, wait_for
from .daemons import Daemon

ADDRESS = "127.0.0.1"
_PORT = 8790
_FOLDER = Path(__file__).parent
# Where its script is depends on whether it is Debian's.
_MODULE = (sys.executable, "-I", "-m")


def _command(name: str, port: int) -> tuple[str, ...]:
    where = f"{ADDRESS}:{port}"
    app = "wsgi_app:application"
    return {
        # Two processes, each of one connection until that ends.
        "uwsgi": (
            *("uwsgi", "--master", "--die-on-term", "--processes", "2"),
            *("--plugin", "python3", "--http11-socket", where),
            *("--chdir", str(_FOLDER), "--module", app, "--disable-logging"),
        ),
        "gunicorn": (
            *(*_MODULE, "gunicorn", "--workers", "1", "--threads", "8"),
            *("--chdir", str(_FOLDER), "--bind", where, app),
        ),
        "uvicorn": (
            *(*_MODULE, "uvicorn", "--http", "httptools", "--app-dir"),
            *(str(_FOLDER), "--host", ADDRESS, "--port", str(port)),
            *("--no-access-log", "wsgi_app:asgi"),
        ),
    }[name]


class WsgiServer:
    """A server by its NAME, and the requests that it has read."""

    port = _PORT
    host = f"{ADDRESS}:{_PORT}"

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._record = folder / f"{name}.requests"
        self._output = folder / f"{name}.out"
        self._seen = 0  # bytes of the record

    @contextlib.contextmanager
    def running(self, delay_s: float = 0) -> Iterator[None]:
        """Have it run; each request takes DELAY_S."""
        self._record.unlink(missing_ok=True)
        self._seen = 0
        environment = {
            **os.environ,
            "DELAY_S": str(delay_s),
            "RECORD": str(self._record),
            "SERVED_BY": self.name,
        }
        daemon = Daemon(
            self.name,
            _command(self.name, self.port),
            self._output,
            environment=environment,
        )
        daemon.start()
        try:
            wait_for(self._accepts, timeout_s=90, what=self.name)
            yield
        finally:
            daemon.stop()

    def requests(self) -> list[tuple[str, list[tuple[str, str]], int]]:
        """Return what came since the last call: target, headers, length."""
        with self._record.open("rb") as record:
            record.seek(self._seen)
            # The server may be writing a line.
            complete, end, _ = record.read().rpartition(b"\n")
        self._seen += len(complete + end)
        return [
            (target, [(key, value) for key, value in headers], length)
            for target, headers, length in map(
                json.loads, complete.splitlines()
            )
        ]

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((ADDRESS, self.port)) == 0


class Cloud:
    """Three instances, and servers that take turns to be Nova's."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        network = box.neutron.create_network("n")
        ports = [box.neutron.create_port(network) for _ in range(3)]
        self.instances = box.plug(ports)

    @contextlib.contextmanager
    def nova(
        self, name: str, *, delay_s: float = 0
    ) -> Iterator[WsgiServer | None]:
        """Have all instances be served by NAME; "strict": by the stand-in."""
        with contextlib.ExitStack() as stack:
            server = None
            host = f"{self.box.nova.address}:{self.box.nova.port}"
            if name != "strict":
                server = WsgiServer(name, self.box.folder)
                stack.enter_context(server.running(delay_s))
                host = server.host
            option = "DEFAULT", "nova_metadata_host"
            self.box.agent.configure({option: host})
            self.box.agent.reload()
            for one in self.instances:
                wait_for(
                    lambda one=one: _serves(server, one),
                    timeout_s=60,
                    what=f"an answer of {name}",
                )
            yield server


def _serves(server: WsgiServer | None, instance: Instance) -> bool:
    answer = instance.fetch(timeout=2)
    name = answer.headers["Served-By"]
    return answer.status == 200 and name == (server and server.name)
