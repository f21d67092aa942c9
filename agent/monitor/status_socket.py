"""Serve the status on a unix socket, to the agent's group."""

import contextlib
import json
import logging
import os
import socketserver
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from ...privsep.errors import sentence
from .. import unixsocket
from ..errors import StartError
from .status import Status

LOG = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

_SEND_TIMEOUT_S = 5
# A client has sent its question by then, or it has none.
_QUESTION_S = 1.0
_MAX_QUESTION = 4096  # bytes
# A client that waits longer asks again: so a thread never waits for long for
# one that is gone. Above this many, each is answered at once.
MAX_WAIT_S = 10.0
_MAX_WAITING = 100
# Questions that handlers work on at a time; each may take seconds.
_MAX_HANDLED = 8


class _Handler(socketserver.StreamRequestHandler):
    """Answers each client with one line of JSON.

    A client that sends a line with "network", "instance" and "wait_s" gets
    the answer of `Status.wait`; with "seen" and "wait_s", that of
    `Status.watch`; with "live", whether the agent makes progress; with a key
    of `handlers`, that handler's. Any other gets the whole status.
    """

    timeout = _QUESTION_S
    server: "StatusServer"

    def handle(self) -> None:
        question = b""
        with contextlib.suppress(TimeoutError):
            question = self.rfile.readline(_MAX_QUESTION)
        answer = self.server.answer(question)
        self.connection.settimeout(_SEND_TIMEOUT_S)
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class StatusServer(unixsocket.LastingServer):
    """Serves the status on the unix socket PATH to the agent's group.

    `handlers`: key of a question -> its handler, which runs on a thread of
    the client's. What it raises is the answer, as {"error": a sentence}.
    """

    def __init__(self, path: Path, status: Status) -> None:
        self._status = status
        self.handlers: dict[str, Handler] = {}
        self._may_wait = threading.BoundedSemaphore(_MAX_WAITING)
        self._may_handle = threading.BoundedSemaphore(_MAX_HANDLED)
        try:
            super().__init__(str(path), _Handler)
        except OSError as error:
            raise StartError(
                f"{path} (status_socket) can't be made as uid "
                f"{os.geteuid()}: {error.strerror}"
            ) from None

    def answer(self, question: bytes) -> dict[str, Any]:
        """Return the answer to the line QUESTION; it may have to wait."""
        try:
            asked = json.loads(question)
            if "live" in asked:  # also if a thread holds the status' lock
                late = self._status.late()
                return {"live": not late, "late": late}
            for key in self.handlers.keys() & asked.keys():
                return self._handle(self.handlers[key], asked)
            wait_s = min(MAX_WAIT_S, float(asked["wait_s"]))
            if "seen" in asked:
                wait = partial(self._status.watch, str(asked["seen"]))
            else:
                what = str(asked["network"]), str(asked["instance"])
                wait = partial(self._status.wait, *what)
        except (
            *(ValueError, TypeError, AttributeError),
            *(LookupError, ArithmeticError, RecursionError),
        ):
            return self._status.as_dict()
        if not self._may_wait.acquire(blocking=False):
            return wait(0)
        try:
            return wait(wait_s)
        finally:
            self._may_wait.release()

    def _handle(
        self, handler: Handler, asked: dict[str, Any]
    ) -> dict[str, Any]:
        if not self._may_handle.acquire(blocking=False):
            return {"error": "too many such questions at a time; ask later"}
        try:
            return handler(asked)
        except Exception as error:  # it is the answer
            LOG.debug("question %s failed", [*asked], exc_info=True)
            return {"error": sentence(error)}
        finally:
            self._may_handle.release()
