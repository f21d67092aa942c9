"""How a copy of a database begins."""

from __future__ import annotations

from typing import Any

import pytest
from ovs.db.idl import Transaction
from ovsdbapp import exceptions
from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl

from ovn_metadata.agent.ovsdb import connect

LATE = exceptions.TimeoutException(commands=[], timeout=5, cause="")
OLD = Exception("Timeout")  # ovsdbapp 2.1, which Debian 12 has


@pytest.mark.parametrize("error", [LATE, OLD])
def test_a_server_that_takes_too_long_has_a_reason(error, monkeypatch):
    assert str(started(error, TimeoutError, monkeypatch)) == "x: it is silent"


def test_another_error_stays_as_it_is(monkeypatch):
    error = AssertionError("Timeouts")
    assert started(error, AssertionError, monkeypatch) is error


def started(error: Exception, kind: type[Exception], patch: Any) -> Exception:
    """Return what a start raises that ends in the library with ERROR."""
    idl: Any = connect.Idl.__new__(connect.Idl)
    idl.is_connected, idl._problems = lambda: False, {"x": "it is silent"}

    def start(_link: Connection) -> None:
        raise error

    patch.setattr(Connection, "start", start)
    with pytest.raises(kind) as raised:
        connect.start(idl, 5)
    return raised.value


def test_a_transaction_that_an_error_ended_stops_nothing(monkeypatch):
    """The library asserts that there is none, and ovsdbapp tries for ever."""
    idl: Any = connect.Idl.__new__(connect.Idl)
    idl.txn, idl._was_connected, idl._problems = None, False, {}
    idl.change_seqno, idl.cond_seqno, idl._published = 1, 1, (1, 1)
    idl.is_connected = lambda: False
    left = Transaction(idl)
    monkeypatch.setattr(OvsdbIdl, "run", lambda each: each.txn is None)
    assert idl.run()
    assert left.get_error() == "aborted"
