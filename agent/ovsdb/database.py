"""ovsdbapp's commands and transactions, on any of our databases."""

from __future__ import annotations

from typing import Any

from ovsdbapp import api
from ovsdbapp.backend import ovs_idl
from ovsdbapp.backend.ovs_idl import transaction


class Database(ovs_idl.Backend, api.API):  # type: ignore[misc]  # untyped
    """A database behind a running connection.

    Not ovsdbapp's own Open_vSwitch and Southbound APIs: the first one's
    transactions wait until ovs-vswitchd has done all that was ever asked
    of it, and both want every table monitored.
    """

    def create_transaction(
        self, *_: Any, **__: Any
    ) -> transaction.Transaction:
        """Return a transaction, as ovsdbapp's `execute` asks for one.

        Errors are raised and not logged: who catches them knows more.
        """
        return transaction.Transaction(
            self, self.ovsdb_connection, check_error=True, log_errors=False
        )
