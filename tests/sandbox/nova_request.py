"""A request to the stand-in for Nova, and Nova's verdict on it."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os.path
import sys

from nova_documents import document

REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
}
TEXT = "text/plain; charset=UTF-8"
# The X-Instance-ID of the agent's own requests.
AGENTS = ("agent", "6f766e2d-6d65-7461-6461-74612d000000")
LISTING = b"1.0\n2009-04-04\nlatest"

Headers = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """An instance that Nova knows."""

    id: str
    project: str
    name: str
    user_data: bytes


@dataclasses.dataclass(slots=True)
class Nova:
    """What all connections share."""

    secrets: list[bytes]  # any of them is good
    delay_s: float = 0.0
    rate: float = 0.0  # requests a second at most; 0: any number
    free_at: float = 0.0  # when the next one may be begun
    status: int = 0  # answered to everything when set
    requests: int = 0
    probes: int = 0  # the agent's own requests
    # Close the connection for a longer head, as uWSGI does beyond 4096.
    longest_head: int = sys.maxsize
    # Leave a body unread, as some WSGI servers do with one that the
    # application does not ask for: it is the next request then.
    leaves_bodies: bool = False
    # What came, byte for byte, by the number of its connection; None: lost.
    tape: dict[int, bytearray] | None = None
    servers: dict[str, Server] = dataclasses.field(default_factory=dict)

    def wait_s(self, now: float) -> float:
        """Return how long a request that comes NOW waits for its turn."""
        if not self.rate:
            return 0.0
        turn = max(now, self.free_at)
        self.free_at = turn + 1 / self.rate
        return turn - now

    def judge(self, headers: dict[str, str]) -> Server | tuple[int, str]:
        """Return who asks, or Nova's status and reason for refusing."""
        instance = headers.get("x-instance-id", "")
        tenant = headers.get("x-tenant-id", "")
        signature = headers.get("x-instance-id-signature", "")
        # As bytes: compare_digest takes no text beyond ASCII.
        genuine = any(
            hmac.compare_digest(signature.encode(), sign(secret, instance))
            for secret in self.secrets
        )
        refusals = (
            # By that header Nova would look the instance up another way: an
            # instance that sends it could ask for any other one.
            ("x-metadata-provider" in headers, 500, "provider forwarded"),
            (not instance, 400, "X-Instance-ID header is missing."),
            ("," in instance, 400, "Multiple X-Instance-ID headers found."),
            (not tenant, 400, "X-Tenant-ID header is missing."),
            ("," in tenant, 400, "Multiple X-Tenant-ID headers found."),
            (not genuine, 403, "Invalid proxy request signature."),
        )
        for refused, status, reason in refusals:
            if refused:
                return status, reason
        server = self.servers.get(instance)
        if server is None or server.project != tenant:
            return 404, "Not Found"
        return server


def sign(secret: bytes, instance: str) -> bytes:
    """Return the signature that INSTANCE must come with."""
    return hmac.digest(secret, instance.encode(), "sha256").hex().encode()


class Request:
    """One request: its head, then its body as it comes in."""

    def __init__(self, head: str) -> None:
        line, *fields = head.split("\r\n")
        self.method, self.target, _ = line.split(" ", 2)
        self.pairs: Headers = []
        self.headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(":")
            value = value.strip()
            self.pairs.append((name, value))
            key = name.lower()
            known = self.headers.get(key)
            # Repeated fields are one with commas, as WSGI servers do it.
            self.headers[key] = f"{known},{value}" if known else value
        chunked = "chunked" in self.headers.get("transfer-encoding", "")
        self.expects = "expect" in self.headers
        self._chunked = chunked
        self._left = (
            0 if chunked else int(self.headers.get("content-length", 0))
        )
        self._last = not chunked
        self.length = 0
        self._digest = hashlib.sha256()

    @property
    def is_agents(self) -> bool:
        """Whether it is the agent's own, to see if Nova answers."""
        return self.headers.get("x-instance-id") in AGENTS

    @property
    def delay_s(self) -> float:
        """Seconds asked for by a path as /slow/0.5."""
        if not self.target.startswith("/slow"):
            return 0.0
        text = self.target.removeprefix("/slow").strip("/")
        return float(text) if text else 1.0

    def feed(self, buffer: bytearray) -> bool:
        """Take this request's body out of BUFFER; True when complete."""
        while True:
            if self._left:
                part = bytes(buffer[: self._left])
                del buffer[: self._left]
                self._left -= len(part)
                self.length += len(part)
                self._digest.update(part)
                if self._left:
                    return False
            if self._last:
                return True
            # The line end after a chunk's data reads as an empty line.
            end = buffer.find(b"\r\n")
            if end < 0:
                return False
            line = bytes(buffer[:end]).partition(b";")[0]
            if line.strip() == b"0":
                if len(buffer) < end + 4:
                    return False
                del buffer[: end + 4]
                self._last = True
                return True
            del buffer[: end + 2]
            self._left = int(line, 16) if line else 0

    def answer(self, nova: Nova) -> bytes:
        """Return the whole answer, status line to body."""
        if nova.status:
            return self._reply(nova.status, TEXT, b"as told")
        path = self.target.partition("?")[0]
        if os.path.normpath(path) == "/":
            return self._reply(200, TEXT, LISTING)  # before any check
        verdict = nova.judge(self.headers)
        if isinstance(verdict, tuple):
            status, reason = verdict
            return self._reply(status, TEXT, reason.encode())
        kind, body = self._content(path, verdict)
        return self._reply(404 if body is None else 200, kind, body or b"")

    def _content(self, path: str, server: Server) -> tuple[str, bytes | None]:
        if path.startswith("/echo"):
            return "application/json", self._echo()
        if self.method in ("POST", "PUT"):
            text = f"{self._digest.hexdigest()} {self.length}"
            return TEXT, text.encode()
        if path.endswith(("/user-data", "/user_data")):
            return TEXT, server.user_data
        if path.startswith("/slow") or path.endswith("/instance-id"):
            return TEXT, server.id.encode()
        found = document(path, server.id, server.project, server.name)
        kind = "application/json" if path.endswith(".json") else TEXT
        return kind, None if found is None else found.encode()

    def _echo(self) -> bytes:
        return json.dumps(
            {
                "method": self.method,
                "target": self.target,
                "headers": self.pairs,
                "length": self.length,
                "sha256": self._digest.hexdigest(),
            }
        ).encode()

    def _reply(self, status: int, kind: str, body: bytes) -> bytes:
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        return head if self.method == "HEAD" else head + body
