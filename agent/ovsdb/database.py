"""ovsdbapp's commands and transactions on either database."""

from typing import Any

from ovsdbapp import api
from ovsdbapp.backend import ovs_idl
from ovsdbapp.backend.ovs_idl import transaction


class Database(ovs_idl.Backend, api.API):  # type: ignore[misc]  # untyped
    """A database behind a running connection.

    ovsdbapp's own APIs do not fit: both need every table monitored, and
    transactions of its Open_vSwitch API wait until ovs-vswitchd has done
    everything that was ever requested.
    """

    def create_transaction(
        self, *_: Any, **__: Any
    ) -> transaction.Transaction:
        """Return a transaction for ovsdbapp's `execute`.

        Errors are raised and not logged: the caller logs them.
        """
        return transaction.Transaction(
            self, self.ovsdb_connection, check_error=True, log_errors=False
        )
