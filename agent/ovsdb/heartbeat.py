"""Show Neutron that the agent is alive: Chassis_Private.external_ids.

This has a thread of its own, so that provisioning a thousand networks never
makes the agent look dead. Neutron's agents API defines and reads the keys.
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping

from .southbound import Southbound

LOG = logging.getLogger(__name__)

ID_KEY = "neutron:ovn-metadata-id"
HEARTBEAT_KEY = "neutron:ovn-metadata-sb-cfg"
BRIDGE_KEY = "neutron:ovn-bridge"
# Keys of neutron-ovn-agent, which has metadata as an extension.
SIBLING_KEYS = (
    "neutron:ovn-neutron-agent-id",
    "neutron:ovn-neutron-agent-sb-cfg",
    "neutron:description-neutron-agent",
)

# Neutron's namespace for chassis names that are no uuid.
_NAMESPACE = uuid.UUID("d34bf9f6-da32-4871-9af8-15a4626b41ab")
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


def changed_keys(
    present: Mapping[str, str], *, chassis_name: str, bridge: str, nb_cfg: int
) -> dict[str, str]:
    """Return the keys to write; the id, once there, is never changed."""
    wanted = {BRIDGE_KEY: bridge, HEARTBEAT_KEY: str(nb_cfg)}
    if not present.get(ID_KEY):
        wanted[ID_KEY] = agent_id(chassis_name)
    return {
        key: value
        for key, value in wanted.items()
        if present.get(key) != value
    }


def is_heartbeat_alone(missing: Collection[str]) -> bool:
    """Return whether the heartbeat is the only key in MISSING.

    Only that may wait: a registration or a changed bridge may not.
    """
    return set(missing) == {HEARTBEAT_KEY}


class Heartbeat:
    """Keeps the keys up to date, on its own thread.

    REPORT gets the reason why they can't be written ("" when they can) and
    returns whether that is new.
    """

    def __init__(
        self,
        southbound: Southbound,
        *,
        report: Callable[[str], bool],
        chassis_name: str,
        bridge: Callable[[], str],
        nb_cfg: Callable[[], int],
        agent_down_time_s: Callable[[], int],
    ) -> None:
        self._southbound = southbound
        self._report = report
        self._chassis_name = chassis_name
        self._bridge = bridge
        self._nb_cfg = nb_cfg
        self._agent_down_time_s = agent_down_time_s
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._is_first = True
        # The Chassis_Private row that the siblings' keys were removed from.
        self._cleared: uuid.UUID | None = None

    def start(self) -> None:
        """Write now, then whenever there is something to write."""
        threading.Thread(
            target=self._run, name="heartbeat", daemon=True
        ).start()

    def note(self) -> None:
        """Compare again (to be called after any change of the database)."""
        self._changed.set()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._changed.set()

    def _run(self) -> None:
        delay_s = _RETRY_S
        while not self._stop.is_set():
            self._changed.clear()
            try:
                self._delay_if_heartbeat()
                self._write()
            # Whatever the database raised, it is tried again.
            except Exception as error:  # noqa: BLE001
                problem = (
                    f"Neutron may show the agent dead, its heartbeat in "
                    f"Chassis_Private is not written: {error}"
                )
                if self._report(problem):
                    LOG.warning("%s", problem)
                self._stop.wait(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_S)
                continue
            self._report("")
            delay_s = _RETRY_S
            self._changed.wait()

    def _delay_if_heartbeat(self) -> None:
        """Wait for a random time before a heartbeat that may wait.

        The first one may not: it shows that the agent has started.
        """
        first, self._is_first = self._is_first, False
        found = self._row()
        if first or found is None:
            return
        if is_heartbeat_alone(self._missing(found[1])):
            # This spreads the load of many chassis; it is no secret.
            most_s = max_delay_s(self._agent_down_time_s())
            delay = random.uniform(0, most_s)  # noqa: S311
            self._stop.wait(delay)

    def _row(self) -> tuple[uuid.UUID, dict[str, str]] | None:
        """Return our row's uuid and external_ids; None without a row."""
        connection = self._southbound.ovsdb_connection
        with connection.lock:
            for row in connection.idl.tables["Chassis_Private"].rows.values():
                if row.name == self._chassis_name:
                    return row.uuid, dict(row.external_ids)
        return None

    def _missing(self, present: Mapping[str, str]) -> dict[str, str]:
        return changed_keys(
            present,
            chassis_name=self._chassis_name,
            bridge=self._bridge(),
            nb_cfg=self._nb_cfg(),
        )

    def _write(self) -> None:
        """Write the keys that differ, if our row exists."""
        found = self._row()
        if found is None:
            return
        row, present = found
        missing = self._missing(present)
        siblings = [key for key in SIBLING_KEYS if key in present]
        if row == self._cleared:
            # A sibling whose keys came back since then is alive.
            siblings = []
        if missing or siblings:
            self._send(row, missing, siblings)
        self._cleared = row

    def _send(
        self, row: uuid.UUID, missing: Mapping[str, str], gone: Iterable[str]
    ) -> None:
        with self._southbound.transaction(check_error=True) as txn:
            if missing:
                txn.add(
                    self._southbound.db_set(
                        "Chassis_Private",
                        row,
                        ("external_ids", missing),
                    )
                )
            for key in gone:
                txn.add(
                    self._southbound.db_remove(
                        "Chassis_Private", row, "external_ids", key
                    )
                )
