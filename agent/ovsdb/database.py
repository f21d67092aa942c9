"""ovsdbapp's commands and transactions on either database."""

from ovsdbapp import api
from ovsdbapp.backend import ovs_idl


class Database(ovs_idl.Backend, api.API):  # type: ignore[misc]  # untyped
    """A database behind a running connection.

    ovsdbapp's own APIs do not fit: both need every table monitored, and
    transactions of its Open_vSwitch API wait until ovs-vswitchd has done
    everything that was ever requested.
    """
