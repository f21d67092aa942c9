"""What the agent and its haproxies say by their sockets."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from . import host
from .waiting import wait_for

STATUS_SOCKET = host.HOME / "ovn-metadata-agent.sock"


def status() -> dict[str, Any]:
    """Return what `agent-status --json` prints, without its start-up.

    Raises OSError if nobody listens, or the agent ends meanwhile.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(str(STATUS_SOCKET))
        link.shutdown(socket.SHUT_WR)  # we have no question
        with link.makefile("rb") as stream:
            text = stream.read()
    if not text:
        raise ConnectionError("the agent closed the connection")
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:  # it ended in the middle
        raise ConnectionError(f"a part of an answer: {text[:80]!r}") from None
    return answer


def network_status(key: str) -> dict[str, Any]:
    """Return what `status` has of KEY, a network or "gateway", once it has it.

    The agent notes that a network is served when its haproxy serves already.
    """
    entry: dict[str, Any] = wait_for(
        lambda: status()["networks"].get(key),
        timeout_s=60,
        what=f"{key} in agent-status",
    )
    return entry


def visits() -> dict[str, int]:
    """Return how often each network, and the gateway, was looked through."""
    return {
        key: entry["reconciles"] + entry["failures"]
        for key, entry in status()["networks"].items()
    }


def stats(network: str, command: str) -> str:
    """Return what NETWORK's haproxy answers to COMMAND."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(str(host.stats_of(network)))
        link.sendall(command.encode() + b"\n")
        with link.makefile("rb") as stream:
            return stream.read().decode()


def ask_gateway(*headers: str, path: str) -> int:
    """Ask for PATH on metadata_proxy_socket; return the status."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(30)
        link.connect(str(host.HOME / "metadata_proxy"))
        lines = [f"GET {path} HTTP/1.0", "Host: localhost", *headers, "", ""]
        link.sendall("\r\n".join(lines).encode())
        answer = http.client.HTTPResponse(link)
        answer.begin()
        answer.read()
        return answer.status
