"""Calls to supervisord over its root-only socket."""

import contextlib
import http.client
import socket
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from supervisor.xmlrpc import Faults

from ..errors import FleetError, sentence
from ..settings import FleetSettings

# Shorter than the time after which the agent gives up a call.
TIMEOUT_S = 20.0
OTHER_VERSION = (
    "supervisord is of another version; restart ovn-metadata-fleet (or kill "
    "-9 supervisord: its haproxies still serve), then the agent"
)


class AbsentError(FleetError):
    """No supervisord listens."""


class _Transport(xmlrpc.client.Transport):
    """Calls over the unix socket PATH; TIMEOUT_S is for each operation."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """Return a connection to the socket, whatever HOST is."""
        connection = super().make_connection(host)
        if connection.sock is None:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(self._timeout_s)
            connection.sock.connect(str(self._path))
        return connection


class Supervisord(xmlrpc.client.ServerProxy):
    """One caller's connection to supervisord; not shared by threads.

    It opens at the first call.
    """

    # When one that hangs is called again (monotonic); 0: it answers.
    _again_at = 0.0

    def __init__(
        self, settings: FleetSettings, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        transport = _Transport(settings.places.socket, timeout_s)
        super().__init__("http://localhost", transport=transport)

    def version(self) -> object:
        """Return the version of our extension; 0 if no supervisord answers.

        Raises FleetError if it hangs, and OSError if we lack memory or a
        descriptor to see it: there must not be a second one.
        """
        try:
            return self.call("fleet.ping")
        except (AbsentError, NotADirectoryError, PermissionError):
            return 0

    def call(self, method: str, *args: object) -> Any:
        """Call METHOD (namespace.name) with ARGS; return the result.

        Raises AbsentError if supervisord does not listen, FleetError if it
        refuses, hangs, closes the connection or answers nonsense.
        """
        try:
            with self._waiting():
                return getattr(self, method)(*args)
        except TimeoutError:
            raise FleetError(
                "supervisord hangs; if this host is not overloaded, kill it: "
                "its haproxies still serve, and the next one takes them over"
            ) from None
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == Faults.UNKNOWN_METHOD:
                raise FleetError(OTHER_VERSION) from None
            raise FleetError(
                f"supervisord refuses {method}: {fault.faultString}"
            ) from None
        except http.client.HTTPException as error:
            raise FleetError(
                f"supervisord closed the connection: {sentence(error)}"
            ) from None
        except (ConnectionError, FileNotFoundError) as error:
            raise AbsentError(
                f"supervisord does not answer: {sentence(error)}"
            ) from None
        except (xmlrpc.client.Error, ExpatError) as error:
            raise FleetError(f"supervisord: {sentence(error)}") from None

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Let one caller at a time wait for a supervisord that hangs.

        All callers would take all threads of the daemon, and what needs no
        supervisord would hang as well.
        """
        again_at, now = Supervisord._again_at, time.monotonic()
        if now < again_at:
            raise TimeoutError
        Supervisord._again_at = again_at and now + self._timeout_s
        pause_s = 0.0
        try:
            yield
        except TimeoutError:
            # One that is only busy may not answer within a short time.
            if again_at or self._timeout_s == TIMEOUT_S:
                pause_s = self._timeout_s / 4
            raise
        finally:
            Supervisord._again_at = pause_s and time.monotonic() + pause_s
