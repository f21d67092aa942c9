"""Follow a database whose schema is converted, or which is made again.

An upgrade of OVN or Open vSwitch converts the schema, on a server that runs
or before it starts again. The library stays with the schema that it was
created with: it would not see new columns, and the server would refuse to let
it monitor a column that has gone.
"""

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ovs.db import idl
from ovs.jsonrpc import Message
from ovsdbapp.backend.ovs_idl import idlutils

from . import connect

LOG = logging.getLogger(__name__)


class FollowingIdl(connect.Idl):
    """The IDL of a database whose schema may change.

    `schema` is its name, and `columns` are those that are read, by table, if
    the server has them. While `tables` are being read again they are empty.
    """

    schema: ClassVar[str]
    columns: ClassVar[Mapping[str, Sequence[str]]]
    tables: dict[str, Any]

    def __init__(self, remote: str, **options: Any) -> None:
        """Fetch the schema; raise ConnectionError as `ask_first` does."""
        self._schema = connect.ask_first(remote, "get_schema", [self.schema])
        self._schema_request: object = None
        super().__init__(remote, self._register(), **options)
        # The IDL leaves messages for its next run if there are many.
        self._receive, self._session.recv = self._session.recv, self._note
        self._has_read_all = False

    def _register(self) -> Any:
        """Return ovsdbapp's helper with the columns that are read."""
        helper = idlutils.create_schema_helper(self._schema)
        tables = self._schema["tables"]
        for table in self.columns.keys() & tables.keys():
            names = tables[table]["columns"]
            known = [name for name in self.columns[table] if name in names]
            helper.register_columns(table, known)
        return helper

    def restart_fsm(self) -> None:
        """Start with a server; ask for its schema before anything else.

        The server's row about this database (in _Server) may still have the
        old one (ovsdb-server 3.1).
        """
        request = Message.create_request("get_schema", [self._db.name])
        self._schema_request = request.id
        self._session.send(request)
        super().restart_fsm()

    def _note(self) -> Any:
        """Return the next message; note whether there is none."""
        message = self._receive()
        self._has_read_all = message is None
        if message is None:
            return None
        if message.id is not None and message.id == self._schema_request:
            if message.result not in (None, self._schema):
                self._adopt(message.result)
            return self._note()
        # What was converted or removed is no longer monitored. python-ovs
        # 3.1 ignores that, and would never hear of a row again:
        # https://docs.openvswitch.org/en/latest/ref/ovsdb-server.7/
        cancels = message.method == "monitor_canceled"
        cancels = cancels and not hasattr(self, "handle_monitor_canceled")
        if cancels or self._is_refused(message):
            self.force_reconnect()
        return message

    def _is_refused(self, message: Any) -> bool:
        """Return whether MESSAGE refuses what the schema had changed before.

        A request to monitor, or to change the conditions of what was canceled
        meanwhile: the library waits, and would never hear of a row again.
        """
        if message.type != Message.T_ERROR or message.id is None:
            return False
        is_up = self.state == self.IDL_S_MONITORING
        asked = self._request_id if is_up else self._monitor_request_id
        return message.error != "unknown method" and bool(message.id == asked)

    def _adopt(self, schema: Any) -> None:
        """Use SCHEMA (JSON) and read everything again."""
        self._schema = schema
        self._db = self._register().get_idl_schema()
        self.readonly = self._db.readonly
        before = self.tables
        self.tables = idl.IdlTable.schema_tables(self, self._db)
        for name in before.keys() & self.tables.keys():
            known = {"_uuid", *self.tables[name].columns}
            clauses = [
                clause
                for clause in before[name].condition
                if isinstance(clause, bool) or clause[0] in known
            ]
            self.tables[name].condition_state.init(clauses or [False])
        self.last_id = str(uuid.UUID(int=0))  # else only changes are sent
        self.sync_conditions()
        LOG.warning(
            "the schema of %s is now version %s; all its rows are read again",
            self._db.name,
            self._db.version,
        )


def one(value: Any, default: Any) -> Any:
    """Return the VALUE of a column that has one, or none: DEFAULT.

    The schema decides which columns always have one. Another schema may
    decide otherwise.
    """
    is_one = isinstance(value, str | int | uuid.UUID)
    return value if is_one else next(iter(value), default)


def number(text: str) -> int | None:
    """Return TEXT as a number; None if it is no number, or a very long one."""
    return int(text) if text.isdecimal() and len(text) < 20 else None
