"""The keys that tell Neutron of the agent."""

from __future__ import annotations

import contextlib
import math
import queue
import random
import threading
import uuid
from types import SimpleNamespace

import pytest

from ovn_metadata.agent.ovsdb import heartbeat

NAME = "0c9f3c0e-5d0a-4c43-9f0e-7b5a52f0c001"
# What a real Neutron 29 wrote for that chassis (neutron-rows.md).
ID = "67a7a3ef-9e7c-551a-8014-c8dceb2795ab"
PRESENT = {
    "neutron:ovn-bridge": "br-int",
    "neutron:ovn-metadata-id": ID,
    "neutron:ovn-metadata-sb-cfg": "1",
}


def test_the_agents_id_is_neutrons():
    assert heartbeat.agent_id(NAME) == ID


def test_a_chassis_name_that_is_no_uuid_has_an_id_that_stays():
    first, second = (heartbeat.agent_id("compute-1") for _ in range(2))
    assert first == second
    assert uuid.UUID(first).version == 5
    assert first != heartbeat.agent_id("compute-2")


class Southbound:
    """A database with our row alone, which a test can change."""

    def __init__(self) -> None:
        self.keys = dict(PRESENT)
        self.bridge, self.nb_cfg = "br-int", 1
        self.written: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        row = SimpleNamespace(uuid=uuid.UUID(int=1), name=NAME)
        row.external_ids = self.keys
        tables = {"Chassis_Private": SimpleNamespace(rows={row.uuid: row})}
        self.ovsdb_connection = SimpleNamespace(
            lock=threading.Lock(), idl=SimpleNamespace(tables=tables)
        )

    @contextlib.contextmanager
    def transaction(self, **_options):
        yield SimpleNamespace(add=self.written.put)

    def db_set(self, _table, _row, pair):
        self.keys.update(pair[1])
        return pair[1]


@pytest.fixture
def southbound():
    return Southbound()


@pytest.fixture
def beats(southbound, monkeypatch):
    """Heartbeats of SOUTHBOUND, of which the first is written."""
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 600.0)
    southbound.keys.clear()
    problems: list[str] = []

    def tell(problem: str) -> None:
        problems.extend(filter(None, [problem]))

    made = heartbeat.Heartbeat(
        southbound,
        tell=tell,
        chassis_name=NAME,
        bridge=lambda: southbound.bridge,
        nb_cfg=lambda: southbound.nb_cfg,
        agent_down_time_s=lambda: 75,
    )
    made.start()
    assert southbound.written.get(timeout=10) == PRESENT
    yield made
    made.stop()
    assert not problems


@pytest.mark.parametrize("is_late", [False, True])
def test_a_changed_bridge_does_not_wait(southbound, beats, is_late):
    """LATE: while a heartbeat waits, so that many of them spread out."""
    southbound.nb_cfg = 2
    if is_late:
        beats.wake()
        with pytest.raises(queue.Empty):
            southbound.written.get(timeout=0.3)
    southbound.bridge = "br-new"
    beats.wake()
    assert southbound.written.get(timeout=10) == {
        heartbeat.BRIDGE_KEY: "br-new",
        heartbeat.HEARTBEAT_KEY: "2",
    }


def test_a_name_may_be_a_set_of_one(southbound, beats):
    """The schema decides that; every column may become one."""
    tables = southbound.ovsdb_connection.idl.tables
    (row,) = tables["Chassis_Private"].rows.values()
    row.name = [NAME]
    southbound.bridge = "br-new"
    beats.wake()
    written = southbound.written.get(timeout=10)
    assert written == {heartbeat.BRIDGE_KEY: "br-new"}


def test_a_registration_does_not_wait(southbound, beats):
    southbound.nb_cfg = 2
    beats.wake()
    with pytest.raises(queue.Empty):
        southbound.written.get(timeout=0.3)
    southbound.keys.clear()  # by hand, or the chassis was made again
    beats.wake()
    now = {**PRESENT, heartbeat.HEARTBEAT_KEY: "2"}
    assert southbound.written.get(timeout=10) == now


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param({}, PRESENT, id="a new chassis: all"),
        pytest.param(PRESENT, {}, id="all is there"),
        pytest.param(
            {**PRESENT, "neutron:ovn-metadata-id": "its-own"},
            {},
            id="an id that is there stays",
        ),
        pytest.param(
            {**PRESENT, "neutron:ovn-metadata-id": ""},
            {"neutron:ovn-metadata-id": ID},
            id="an empty id is none",
        ),
        pytest.param(
            {**PRESENT, "neutron:ovn-metadata-sb-cfg": "0", "other": "x"},
            {"neutron:ovn-metadata-sb-cfg": "1"},
            id="the heartbeat alone",
        ),
        pytest.param(
            {**PRESENT, "neutron:ovn-bridge": "br-old"},
            {"neutron:ovn-bridge": "br-int"},
            id="another bridge",
        ),
    ],
)
def test_keys_to_write(southbound, present, expected):
    beat = heartbeat.Heartbeat(
        southbound,
        tell=pytest.fail,
        chassis_name=NAME,
        bridge=lambda: "br-int",
        nb_cfg=lambda: 1,
        agent_down_time_s=int,
    )
    assert beat.missing(present) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([(0, "7", 7)], None, id="it is there"),
        pytest.param([(0, "7", 8), (99, "7", 8)], None, id="it may wait"),
        pytest.param([(0, "7", 9), (9, "7", 12)], 0, id="behind since"),
        pytest.param([(0, "7", 9), (9, "8", 12)], 9, id="it has moved"),
        pytest.param(
            [(0, "7", 9), (5, "9", 9), (9, "9", 12)], 9, id="it was there"
        ),
        pytest.param([(0, "", 1)], None, id="it may be starting"),
        pytest.param([(3, "", 2)], 3, id="an id alone"),
        pytest.param([(3, "x", 2)], 3, id="no number"),
        pytest.param([(3, "9" * 5000, 2)], 3, id="too many digits"),
        pytest.param([(0, "7", 1)], None, id="a new Northbound database"),
    ],
)
def test_since_when_a_sibling_is_behind(seen, expected):
    """SEEN: the time, its heartbeat and nb_cfg, one after the other."""
    state = "", math.inf
    for now, sb_cfg, nb_cfg in seen:
        state = heartbeat.behind_since(state, sb_cfg, nb_cfg=nb_cfg, now=now)
    assert state[1] == (math.inf if expected is None else expected)


@pytest.mark.parametrize(
    ("down_time_s", "delay_s"), [(0, 3), (9, 3), (15, 5), (30, 10), (75, 10)]
)
def test_a_heartbeat_waits_a_third_of_the_down_time(down_time_s, delay_s):
    assert heartbeat.max_delay_s(down_time_s) == delay_s
