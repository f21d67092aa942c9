"""Show Neutron that the agent is alive: Chassis_Private.external_ids.

This has a thread of its own, so that provisioning a thousand networks never
makes the agent look dead. Neutron's agents API defines and reads the keys.
"""

import dataclasses
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ...privsep.errors import sentence
from ..threads import Poller
from . import schemas
from .connect import Database

ID_KEY = "neutron:ovn-metadata-id"
HEARTBEAT_KEY = "neutron:ovn-metadata-sb-cfg"
BRIDGE_KEY = "neutron:ovn-bridge"
# Keys of neutron-ovn-agent. It may run here for something else than metadata.
# If it does not run, they hide this agent from Neutron's agents API.
SIBLING_HEARTBEAT_KEY = "neutron:ovn-neutron-agent-sb-cfg"
SIBLING_KEYS = (
    "neutron:ovn-neutron-agent-id",
    SIBLING_HEARTBEAT_KEY,
    "neutron:description-neutron-agent",
)
# They are removed after this many `agent_down_time`s without a heartbeat.
_DOWN_TIMES = 4

# Neutron's namespace for chassis names that are no uuid.
_NAMESPACE = uuid.UUID("d34bf9f6-da32-4871-9af8-15a4626b41ab")
_ALONE = {HEARTBEAT_KEY}  # the only key that may wait
_RETRY_S = 2.0
_MAX_RETRY_S = 60.0


def agent_id(chassis_name: str) -> str:
    """Return the agent's id in Neutron, derived from the chassis' name."""
    try:
        chassis = uuid.UUID(chassis_name)
    except ValueError:
        chassis = uuid.uuid5(_NAMESPACE, chassis_name)
    return str(uuid.uuid5(chassis, "metadata_agent"))


def max_delay_s(agent_down_time_s: int) -> int:
    """Return how long a heartbeat may be delayed, so that they spread out.

    It is a third of the time after which Neutron takes an agent for dead,
    but from 3 to 10 s.
    """
    return max(min(agent_down_time_s // 3, 10), 3)


def behind_since(
    last: tuple[str, float], sb_cfg: str, *, nb_cfg: int, now: float
) -> tuple[str, float]:
    """Return SB_CFG, and since when it has stayed the same behind NB_CFG.

    LAST is what was returned before. An agent that is one behind may be
    waiting, so that heartbeats spread out; Neutron has the same limit.
    """
    known, since = last
    if nb_cfg - (schemas.number(sb_cfg) or 0) <= 1:
        return sb_cfg, math.inf
    return sb_cfg, min(since, now) if sb_cfg == known else now


@dataclasses.dataclass(eq=False)
class Heartbeat(Poller):
    """Keeps the keys up to date: `wake` it after any change of the database.

    Without a change it writes nothing.
    """

    southbound: Database
    # Gets the reason why they can't be written, "" when they can.
    tell: Callable[[str], object]
    chassis_name: str
    bridge: Callable[[], str]
    nb_cfg: Callable[[], int]
    agent_down_time_s: Callable[[], int]

    def __post_init__(self) -> None:
        super().__init__("heartbeat", 0)  # the first is written at once
        # When the keys were last up to date, in Unix time.
        self._written_at: float | None = None
        self._is_first = True
        self._pause_s = _RETRY_S
        self._sibling = "", math.inf  # see `behind_since`

    def report(self) -> dict[str, Any]:
        """Return our id, and when the keys were last written."""
        return {
            "agent_id": agent_id(self.chassis_name),
            "heartbeat": self._written_at,
        }

    def poll(self) -> None:
        """Write the keys that have to be written; pause if that fails."""
        self._interval_s = threading.TIMEOUT_MAX
        try:
            self._delay_if_heartbeat()
            self._write()
        # Whatever the database raised, it is tried again.
        except Exception as error:  # noqa: BLE001
            what = "the heartbeat in Chassis_Private is not written"
            self.tell(f"{what}: {sentence(error)}")
            self._stop.wait(self._pause_s)  # also if rows change
            self._pause_s = min(2 * self._pause_s, _MAX_RETRY_S)
            self.wake()
            return
        self.tell("")
        self._pause_s = _RETRY_S

    def _delay_if_heartbeat(self) -> None:
        """Wait for a random time before a heartbeat that may wait.

        The first one may not: it shows that the agent has started. Nor may a
        registration or a changed bridge, also if they come meanwhile.
        """
        first, self._is_first = self._is_first, False
        # This spreads the load of many chassis; it is no secret.
        most_s = max_delay_s(self.agent_down_time_s())
        end = time.monotonic() + random.uniform(0, most_s)  # noqa: S311
        while not first and not self._stop.is_set():
            found = self._row()
            if found is None or self.missing(found[1]).keys() != _ALONE:
                return
            if not self._wake.wait(max(0, end - time.monotonic())):
                return
            self._wake.clear()

    def _row(self) -> tuple[uuid.UUID, dict[str, str]] | None:
        """Return our row's uuid and external_ids; None without a row."""
        connection = self.southbound.ovsdb_connection
        with connection.lock:
            for row in connection.idl.tables["Chassis_Private"].rows.values():
                if schemas.one(row.name, "") == self.chassis_name:
                    return row.uuid, dict(row.external_ids)
        return None

    def missing(self, present: Mapping[str, str]) -> dict[str, str]:
        """Return the keys to write; the id, once there, is never changed."""
        wanted = {BRIDGE_KEY: self.bridge(), HEARTBEAT_KEY: str(self.nb_cfg())}
        if not present.get(ID_KEY):
            wanted[ID_KEY] = agent_id(self.chassis_name)
        return dict(wanted.items() - present.items())

    def _write(self) -> None:
        """Write the keys that differ, if our row exists."""
        found = self._row()
        if found is None:
            return
        row, present = found
        missing = self.missing(present)
        gone = self._sibling_keys(present)
        ours, database = ("Chassis_Private", row), self.southbound
        if missing or gone:
            with database.transaction(
                check_error=True, log_errors=False
            ) as txn:
                if missing:
                    txn.add(database.db_set(*ours, ("external_ids", missing)))
                if gone:
                    txn.add(database.db_remove(*ours, "external_ids", *gone))
        self._written_at = time.time()

    def _sibling_keys(self, present: Mapping[str, str]) -> list[str]:
        """Return the keys in PRESENT of a sibling that has long been dead."""
        self._sibling = behind_since(
            self._sibling,
            present.get(SIBLING_HEARTBEAT_KEY, ""),
            nb_cfg=self.nb_cfg(),
            now=time.monotonic(),
        )
        ends_at = self._sibling[1] + _DOWN_TIMES * self.agent_down_time_s()
        is_dead = time.monotonic() >= ends_at
        return [key for key in SIBLING_KEYS if is_dead and key in present]
