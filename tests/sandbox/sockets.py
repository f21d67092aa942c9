"""What the agent, its haproxies and supervisord say by their sockets."""

from __future__ import annotations

import json
import socket
import xmlrpc.client
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from . import host
from .host import FLEET

STATUS_SOCKET = host.HOME / "ovn-metadata-agent.sock"


def status() -> dict[str, Any]:
    """Return what `agent-status --json` prints, without its start-up."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(STATUS_SOCKET))
        with link.makefile("rb") as stream:
            answer: dict[str, Any] = json.loads(stream.read())
    return answer


def stats(network: str, command: str) -> str:
    """Return what NETWORK's haproxy answers to COMMAND."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(host.stats_of(network)))
        link.sendall(command.encode() + b"\n")
        with link.makefile("rb") as stream:
            return stream.read().decode()


def programs() -> dict[str, str]:
    """Return the names and states of what supervisord knows."""
    transport = SupervisorTransport(
        None, None, f"unix://{FLEET / 'supervisord.sock'}"
    )
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport)
    known: Any = server.supervisor.getAllProcessInfo()
    transport.close()
    return {info["name"]: info["statename"] for info in known}
