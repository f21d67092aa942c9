"""A copy of a database that follows it; single questions to a server."""

import errno
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ovs import jsonrpc, poller, timeval
from ovs.stream import Stream
from ovsdbapp import api, exceptions
from ovsdbapp.backend import ovs_idl
from ovsdbapp.backend.ovs_idl import connection

from ..config.settings import Southbound
from .streams import NAMES, host_of, words

_POLL_MS = 500
# A server that accepts connections may be busy for longer than this. So it
# gets twice as long the next time.
_PATIENCE_MS = 5000
_MOST_PATIENCE_MS = 40_000
_SILENT = "it accepts connections and does not answer"
_patience_ms: dict[str, int] = {}  # remote -> what it gets the next time
# The first copy of the rows may take this long over a slow link.
_START_TIMEOUT_S = 180
# How often an IDL's thread runs, should nothing arrive.
_RUN_MS = 5000


def transact(
    remote: str, schema: str, operations: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """Return the results of OPERATIONS on SCHEMA, in one transaction.

    The first of REMOTE (comma-separated) that answers carries them out.
    Nothing is monitored and no connection is kept. Values of columns have
    Python's types. Raises OSError.
    """
    answer = ask_first(remote, "transact", [schema, *operations])
    results = [_plain(result) for result in answer]
    for result in results:
        if result and "error" in result:
            details = result.get("details", "")
            raise ConnectionError(f"{result['error']}: {details}")
    return results


def _plain(value: Any) -> Any:
    """Return VALUE, of RFC 7047's notation (5.1), in Python's types."""
    match value:
        case ["uuid", inner]:
            return inner
        case ["map", pairs]:
            return {_plain(key): _plain(each) for key, each in pairs}
        case ["set", list(several)] | list(several):
            return [_plain(each) for each in several]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
    return value


def select(
    table: str, columns: Sequence[str], *, where: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the operation that reads COLUMNS of TABLE (RFC 7047, 5.2.2).

    It reads all rows, or those that meet the condition WHERE.
    """
    return {
        "op": "select",
        "table": table,
        "where": [where] if where else [],
        "columns": columns,
    }


def ask_first(remote: str, method: str, parameters: list[Any]) -> Any:
    """Return the answer of the first of REMOTE (comma-separated).

    A server that does not answer in time is skipped (ovsdbapp would wait for
    it for ever). Raises ConnectionError with the reason of each.
    """
    reasons = []
    for one in remote.split(","):
        # A name has several addresses, which are tried in turn.
        for _ in range(NAMES.look_up(host_of(one)) or 1):
            patience_ms = _patience_ms.get(one, _PATIENCE_MS)
            try:
                return _ask(one, method, parameters, patience_ms)
            except OSError as error:
                if isinstance(error, TimeoutError):
                    twice_ms = min(2 * patience_ms, _MOST_PATIENCE_MS)
                    _patience_ms[one] = twice_ms
                reasons.append(
                    f"{one}: {error}" if "," in remote else str(error)
                )
    raise ConnectionError("; ".join(dict.fromkeys(reasons)))


def _ask(
    remote: str, method: str, parameters: list[Any], patience_ms: int
) -> Any:
    """Return what the server at REMOTE answers to one request (RFC 7047)."""
    deadline = time.monotonic() + patience_ms / 1000
    begun = Stream.open(remote)
    error, opened = Stream.open_block(begun, patience_ms)
    if error == errno.EACCES and remote.startswith("unix:"):
        raise PermissionError(
            error,
            "Permission denied; let the agent's user connect there, or make "
            "the server listen on TCP as well (ovs-vsctl set-manager "
            "ptcp:6640:127.0.0.1) and configure that",
        )
    if error == errno.ETIMEDOUT and getattr(begun[1], "is_reached", False):
        raise TimeoutError(_SILENT)
    if error:
        raise ConnectionError(words(error))
    rpc = jsonrpc.Connection(opened)
    try:
        request = jsonrpc.Message.create_request(method, parameters)
        rpc.send(request)
        while time.monotonic() < deadline:
            rpc.run()
            error, reply = rpc.recv()
            if reply is not None and reply.id == request.id:
                if reply.error:
                    raise ConnectionError(f"it has no {parameters[0]}")
                return reply.result
            if error not in (0, errno.EAGAIN):
                raise ConnectionError(words(error))
            waiter = poller.Poller()
            rpc.wait(waiter)
            rpc.recv_wait(waiter)
            waiter.timer_wait(_POLL_MS)
            waiter.block()
        raise TimeoutError(_SILENT)
    finally:
        rpc.close()


def use_certificates(files: Southbound) -> None:
    """Use the files of these settings for connections to `ssl:` remotes."""
    Stream.ssl_set_private_key_file(str(files.private_key))
    Stream.ssl_set_certificate_file(str(files.certificate))
    Stream.ssl_set_ca_cert_file(str(files.ca_cert))


class Idl(connection.OvsdbIdl):  # type: ignore[misc]  # untyped
    """The IDL of a database: its copy of the rows."""

    def __init__(self, remote: str, helper: Any, **options: Any) -> None:
        super().__init__(remote, helper, **options)
        # Remote -> why its last connection failed, until there are rows.
        self._problems: dict[str, str] = {}
        self._ran_at = time.monotonic()
        # Since the epoch: the last change of `is_connected`, and of a row.
        self._was_connected = False
        self._since = self._changed = time.time()
        self._published = self.change_seqno, self.cond_seqno
        reconnect = self._session.reconnect
        # The library calls it for each failure and keeps no reason.
        self._disconnected = reconnect.disconnected
        reconnect.disconnected = self._note_failure

    def _note_failure(self, now: int, error: int) -> None:
        why = words(error)
        # The IDL leaves a server without the database, or out of its cluster.
        if not error and self._session.reconnect.state.name == "RECONNECT":
            why = self._left()
        remote = self._session.get_name()
        self._problems[remote] = why
        NAMES.refresh(host_of(remote))
        self._disconnected(now, error)

    def _left(self) -> str:
        """Note that a server that answers is left for another; return why."""
        return "it does not serve the database now"

    def run(self) -> Any:
        """Process what arrived, then publish the new rows."""
        if self.txn is not None:
            # An error ended it, and its caller has that. The library would
            # refuse to run, and ovsdbapp try again at once, for ever.
            self.txn.abort()
        changed = super().run()
        if changed:
            self._changed = time.time()
        if self.is_connected() is not self._was_connected:
            self._was_connected = not self._was_connected
            self._since = time.time()
        if self._problems and self.is_connected():
            self._problems = {}
        self._ran_at = time.monotonic()
        # Compared with what was published: a run that raised published
        # nothing.
        seen = self.change_seqno, self.cond_seqno
        if seen != self._published:
            self._publish()
            self._published = seen
        return changed

    def _publish(self) -> None:
        """Make known that the rows, or the answered conditions, changed."""

    def wait(self, poller: Any) -> None:
        """Wake up for the server, and to show that the thread runs."""
        super().wait(poller)
        poller.timer_wait(_RUN_MS)

    def stands_s(self) -> float:
        """Return for how long the IDL's thread has processed nothing."""
        return time.monotonic() - self._ran_at

    def report(self) -> dict[str, Any]:
        """Return how it is, in the types of JSON."""
        heard_ms = self._session.reconnect.last_activity  # from a server
        return {
            "remote": self._session.get_name(),
            "connected": self.is_connected(),
            "since": self._since,
            "changed": self._changed,
            "silent_s": (timeval.msec() - heard_ms) / 1000,
            "rows": sum(len(table.rows) for table in self.tables.values()),
        }

    def problem(self) -> str:
        """Return why it is disconnected; "" if it is connected."""
        if self.is_connected():
            return ""
        found = self._problems.copy().items()  # its thread adds some
        texts = [f"{remote}: {why}" for remote, why in found]
        return "; ".join(texts) or "it has sent no rows yet"

    def is_connected(self) -> bool:
        """Return whether the server is connected and has sent its rows.

        A server that hangs still accepts connections.
        """
        connected = bool(self._session.is_connected())
        return connected and self.state == self.IDL_S_MONITORING


class Database(ovs_idl.Backend, api.API):  # type: ignore[misc]  # untyped
    """ovsdbapp's commands and transactions, behind a running connection.

    ovsdbapp's own APIs do not fit: both need every table monitored, and
    transactions of its Open_vSwitch API wait until ovs-vswitchd has done
    everything that was ever requested.
    """


def start(idl: Idl, timeout_s: int) -> connection.Connection:
    """Return a running connection of IDL, after its first full read.

    Raises TimeoutError if that takes too long: IDL may be started again.
    """
    link = connection.Connection(idl, timeout=min(timeout_s, _START_TIMEOUT_S))
    try:
        link.start()
    except Exception as error:
        is_late = isinstance(error, exceptions.TimeoutException)
        if is_late or str(error) == "Timeout":  # a bare one of ovsdbapp 2.1
            raise TimeoutError(idl.problem()) from None
        raise
    return link
