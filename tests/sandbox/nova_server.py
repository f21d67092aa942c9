"""Stand-in for Nova's metadata API: judge requests as Nova does.

One asyncio loop, HTTP/1.1 by hand, so that it is not what a benchmark
measures. Control comes as JSON lines over a unix socket.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nova_request import AGENTS, Nova, Request, Server

_numbers = itertools.count()
# The agent's own requests, to see if Nova answers: not what a test records.
PROBES = re.compile(
    rb"GET [^\r]*\r\n(?:[^\r]+\r\n)*?x-instance-id: (?:"
    + "|".join(AGENTS).encode()
    + rb")\r\n(?:[^\r]+\r\n)*\r\n",
    re.IGNORECASE,
)


class Connection(asyncio.Protocol):
    """One keep-alive connection; pipelined requests wait their turn."""

    def __init__(self, nova: Nova) -> None:
        self._nova = nova
        self._number = next(_numbers)
        self._buffer = bytearray()
        self._busy = False  # an answer is due
        self._request: Request | None = None  # its body is being read
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the transport: a delayed answer has nowhere to go."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Take in what came and answer what is complete."""
        if self._nova.tape is not None:
            self._nova.tape.setdefault(self._number, bytearray()).extend(data)
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while not self._busy and self._transport is not None:
            if self._request is None:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self._buffer[:end])
                del self._buffer[: end + 4]
                if len(head) > self._nova.longest_head:
                    self._transport.close()
                    return
                self._request = Request(head.decode("latin-1"))
                if self._request.expects:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            unread = self._nova.leaves_bodies
            if not unread and not self._request.feed(self._buffer):
                return
            request, self._request = self._request, None
            if request.is_agents:
                self._nova.probes += 1
            else:
                self._nova.requests += 1
            loop = asyncio.get_running_loop()
            delay_s = self._nova.delay_s + request.delay_s
            delay_s += self._nova.wait_s(loop.time())
            if delay_s:
                self._busy = True
                loop.call_later(delay_s, self._late, request)
            else:
                self._transport.write(request.answer(self._nova))

    def _late(self, request: Request) -> None:
        self._busy = False
        if self._transport is not None:
            self._transport.write(request.answer(self._nova))
            self._advance()


class Control(asyncio.Protocol):
    """Commands of the sandbox, one JSON object a line."""

    def __init__(self, nova: Nova) -> None:
        self._nova = nova
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Obey every complete line."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            reply = json.dumps(obey(self._nova, json.loads(line)))
            if self._transport is not None:
                self._transport.write(reply.encode() + b"\n")


def obey(nova: Nova, command: dict[str, Any]) -> dict[str, Any]:
    """Have NOVA as COMMAND says; return what to answer."""
    for item in command.get("register", ()):
        user_data = base64.b64decode(item["user_data"])
        server = Server(item["id"], item["project"], item["name"], user_data)
        nova.servers[server.id] = server
    for instance in command.get("forget", ()):
        nova.servers.pop(instance, None)
    nova.delay_s = command.get("delay_s", nova.delay_s)
    nova.rate = command.get("rate", nova.rate)
    nova.status = command.get("status", nova.status)
    nova.longest_head = command.get("longest_head", nova.longest_head)
    if "secrets" in command:
        nova.secrets = [word.encode() for word in command["secrets"]]
    nova.leaves_bodies = command.get("leaves_bodies", nova.leaves_bodies)
    tape = nova.tape or {}
    if "record" in command:
        nova.tape = {} if command["record"] else None
    return {
        "requests": nova.requests,
        "probes": nova.probes,
        "tape": [
            text
            for part in tape.values()
            if (text := PROBES.sub(b"", part).decode("latin-1"))
        ],
    }


async def serve(nova: Nova, address: str, port: int, control: Path) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    http = await loop.create_server(
        lambda: Connection(nova), address, port, backlog=4096
    )
    control.unlink(missing_ok=True)
    await loop.create_unix_server(lambda: Control(nova), str(control))
    await http.serve_forever()


def main(argv: Sequence[str]) -> None:
    """Run with ARGV: address, port, files, control socket.

    The files have the secret, and the first command: obeyed before anybody
    can ask.
    """
    address, port, secret, first, control = argv
    nova = Nova([Path(secret).read_bytes()])
    obey(nova, json.loads(Path(first).read_bytes()))
    asyncio.run(serve(nova, address, int(port), Path(control)))


if __name__ == "__main__":
    main(sys.argv[1:])
