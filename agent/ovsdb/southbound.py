"""OVN's Southbound database: monitor what concerns this chassis, no more.

One thread of ovsdbapp runs the IDL. After each change it reads all monitored
rows (a few hundred at most, because of the conditions), makes one frozen
snapshot of them, and adjusts the conditions to it.
"""

import dataclasses
import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Collection
from typing import Any

from ..core import monitoring, port_rows
from ..model import ChassisSnapshot
from . import schemas

LOG = logging.getLogger(__name__)

SCHEMA = "OVN_Southbound"
# A changed condition has the server pass over every row, so changes are
# collected for this long after one was sent.
CONDITION_INTERVAL_S = 0.1
# What brings no row that is missing (a localport's name in place of its device
# id, less) waits this long for what does: it gains a pass in about that time.
TIDY_S = 300.0
# A server that accepts the connection and sends nothing is probed after this
# long and given up after twice that. The next server gets twice the time, and
# so on, so that one that is only busy gets enough.
_PATIENCE_MS = 2000
_MOST_PATIENCE_MS = 60000
# A member of a cluster that has seen less than another one before is left. If
# there is no other for this long, all were restored from a backup.
_BEHIND_S = 30.0
_NO_TRANSACTION = str(uuid.UUID(int=0))  # to have all rows sent again
# How often the server's messages are read, should none arrive.
_READ_MS = 500

_COLUMNS = {
    "SB_Global": ("nb_cfg", "options"),
    "Chassis": ("name",),
    "Chassis_Private": ("name", "external_ids", "nb_cfg"),
    "Datapath_Binding": ("external_ids",),
    "Port_Binding": port_rows.COLUMNS,
}


class SouthboundIdl(schemas.FollowingIdl):
    """The IDL that follows one chassis.

    `snapshot` is the newest. It has all rows that the server had sent until
    `read_until_ms` (since the epoch). ON_SNAPSHOT is called after each change
    on the IDL's thread: it must not block. PLUGGED returns the names of the
    metadata ports on the bridge.
    """

    schema = SCHEMA
    columns = _COLUMNS

    def __init__(
        self,
        remote: str,
        *,
        chassis_name: str,
        on_snapshot: Callable[[ChassisSnapshot], None],
        plugged: Callable[[], Collection[str]] = frozenset,
        max_backoff_ms: int,
        **options: Any,
    ) -> None:
        super().__init__(remote, leader_only=False, **options)
        # No parameter of the IDL. All agents of a cloud may lose their server
        # at once; they connect to the next one at different times.
        reconnect = self._session.reconnect
        first_ms = random.randint(1000, 2000)  # noqa: S311 # no secret
        reconnect.set_backoff(first_ms, max(first_ms, max_backoff_ms))
        self._probe_ms = reconnect.get_probe_interval()
        self._patience_ms = _PATIENCE_MS
        self.snapshot = ChassisSnapshot(None, {})
        self.read_until_ms = 0
        self._chassis_name = chassis_name
        self._on_snapshot = on_snapshot
        self._plugged = plugged
        self._differs_since = 0.0
        self._is_missing_rows = False
        self._cluster: uuid.UUID | None = None
        self._restored, self._behind_since = 0, math.inf
        if monitoring.REQUESTED not in self.tables["Port_Binding"].columns:
            LOG.info(
                "%s has no Port_Binding.%s (OVN before 21.12): a network is "
                "served only once its port is bound",
                SCHEMA,
                monitoring.REQUESTED,
            )
        self._wanted: dict[str, list[monitoring.Clause]] = {
            **monitoring.chassis_conditions(chassis_name),
            "Port_Binding": [],
            "Datapath_Binding": [],
        }
        self._send_conditions()
        self._sent_at = 0.0  # the next ones need not wait
        # The IDL sends them when it connects. Until then this flag would
        # keep it from sleeping.
        self.cond_changed = False

    def restart_fsm(self) -> None:
        """Start with a server, which may be one that does not answer.

        Conditions that are due later cost nothing with a new connection. The
        server passes over all rows once, to look them up by their names; by
        device id it tries each row with each clause.
        """
        if self._wanted:
            self._send_conditions()
            self.last_id = _NO_TRANSACTION  # else they are sent afterwards
        super().restart_fsm()
        self._session.reconnect.set_probe_interval(self._patience_ms)
        self._patience_ms = min(2 * self._patience_ms, _MOST_PATIENCE_MS)

    def run(self) -> Any:
        """Process and publish what arrived; note until when all is read."""
        begun_ms = time.time_ns() // 1_000_000
        self._has_read_all = False
        changed = super().run()
        self._note_cluster()
        if self.state == self.IDL_S_MONITORING:
            self._session.reconnect.set_probe_interval(self._probe_ms)
            self._patience_ms = _PATIENCE_MS
            self._behind_since = math.inf
        # In this state it has not answered a probe yet.
        is_silent = self._session.reconnect.state.name == "IDLE"
        if self._has_read_all and self.is_connected() and not is_silent:
            self.read_until_ms = begun_ms
        if self._can_send() and time.monotonic() >= self._due_at():
            self._send_conditions()
        return changed

    def _adopt(self, schema: Any) -> None:
        """Forget conditions that were meant for the old schema."""
        super()._adopt(schema)
        self._wanted = {}

    def _member(self) -> Any:
        """Return the server's row about this database, if in a cluster."""
        tables = self.server_tables  # of _Server; None until first connected
        for row in tables["Database"].rows.values() if tables else ():
            if row.name == SCHEMA and row.cid:
                return row
        return None

    def _note_cluster(self) -> None:
        """Accept a cluster that was created again in place of the old one.

        The IDL skips every server whose log is shorter than the one it has
        seen. A new cluster's log is, so the IDL would never connect again.
        """
        if (member := self._member()) is None:
            return
        (cluster,) = member.cid
        if self._cluster not in (None, cluster):
            LOG.warning("%s is another cluster now: %s", SCHEMA, cluster)
            self._min_index = 0
        self._cluster = cluster

    def _left(self) -> str:
        """Return why; if no server has more for a while, accept less.

        The log of a cluster that was restored from a backup is shorter too.
        """
        member, now = self._member(), time.monotonic()
        index = member.index if member and member.connected else []
        if not index or index[0] >= self._min_index:
            return super()._left()
        self._behind_since = min(self._behind_since, now)
        if now >= self._behind_since + _BEHIND_S:
            LOG.warning(
                "%s is taken as restored from a backup: no server has more",
                SCHEMA,
            )
            self._min_index = 0
            self._restored += 1
        return "its data is older than what was seen of this cluster"

    def _can_send(self) -> bool:
        """Return whether there are conditions to send and a free connection.

        Without a free one the IDL would keep them, and never sleep.
        """
        free = self._session.is_connected() and self._request_id is None
        return bool(self._wanted) and free

    def wait(self, poller: Any) -> None:
        """Wake up for the server, for conditions that are due, and to read."""
        super().wait(poller)
        poller.timer_wait(_READ_MS)
        if self._can_send():
            seconds = max(0.0, self._due_at() - time.monotonic())
            poller.timer_wait(int(seconds * 1000) + 1)

    def _publish(self) -> None:
        chassis, whole = self._own("Chassis", "uuid"), self._rows("SB_Global")
        snapshot, asked = port_rows.chassis_snapshot(
            [self._port_row(row) for row in self._rows("Port_Binding")],
            chassis=chassis,
            answered=self.tables["Port_Binding"].condition_state.acked,
            plugged=self._plugged(),
            # ovn-northd writes them with all else. Old schemas have none.
            is_filled=any(getattr(row, "options", True) for row in whole),
        )
        wanted = monitoring.port_conditions(
            chassis, asked, columns=self.tables["Port_Binding"].columns
        )
        if not self._wanted:
            self._differs_since = time.monotonic()
        current = {table: self.tables[table].condition for table in wanted}
        # For no clause the IDL has [False].
        self._wanted = {
            table: clauses
            for table, clauses in wanted.items()
            if clauses != [each for each in current[table] if each]
        }
        self._is_missing_rows = not monitoring.brings(
            current, self._wanted, asked
        )
        self.snapshot = dataclasses.replace(
            snapshot,
            nb_cfg=max(
                (schemas.one(row.nb_cfg, 0) for row in whole), default=0
            ),
            followed=self._own("Chassis_Private", "nb_cfg"),
            restored=self._restored,
        )
        self._on_snapshot(self.snapshot)

    def _due_at(self) -> float:
        if self._is_missing_rows:
            return self._sent_at + CONDITION_INTERVAL_S
        return self._differs_since + TIDY_S

    def _send_conditions(self) -> None:
        for condition in self._wanted.items():
            self.cond_change(*condition)
        self._wanted = {}
        self._sent_at = time.monotonic()

    def _rows(self, table: str) -> list[Any]:
        return list(self.tables[table].rows.values())

    def _own(self, table: str, column: str) -> Any:
        """Return COLUMN of this chassis' row in TABLE; None without one."""
        for row in self._rows(table):
            if schemas.one(row.name, "") == self._chassis_name:
                return schemas.one(getattr(row, column), None)
        return None

    def _port_row(self, row: Any) -> port_rows.PortRow:
        def uuids(column: str) -> frozenset[uuid.UUID]:
            """Return those in COLUMN; none if the schema lacks it.

            The attributes of ROW have only those whose rows are here, and of
            the chassis only this one's row is monitored.
            """
            datum = row._data.get(column)
            values = () if datum is None else datum.values
            return frozenset(key.value for key in values)

        datapath_id = schemas.one(uuids("datapath"), None)
        known = self.tables["Datapath_Binding"].rows.get(datapath_id)
        return port_rows.PortRow(
            row=row.uuid,
            logical_port=schemas.one(row.logical_port, ""),
            type=schemas.one(row.type, ""),
            mac=[row.mac] if isinstance(row.mac, str) else list(row.mac),
            external_ids=dict(row.external_ids),
            datapath=datapath_id,
            datapath_ids=dict(known.external_ids) if known else None,
            parent_port=schemas.one(row.parent_port, ""),
            tag=schemas.one(row.tag, 0),
            chassis=schemas.one(uuids("chassis"), None),
            additional_chassis=uuids("additional_chassis"),
            requested_chassis=schemas.one(uuids("requested_chassis"), None),
            requested_additional_chassis=uuids("requested_additional_chassis"),
            # Old schemas have neither.
            port_security=list(getattr(row, "port_security", ())),
            virtual_parent=schemas.one(getattr(row, "virtual_parent", ""), ""),
        )
