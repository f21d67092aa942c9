"""The connections to both databases, as they are looked at."""

from __future__ import annotations

import types
from typing import Any

from ovn_metadata.agent.databases import SOUTHBOUND, VSWITCH, Databases
from ovn_metadata.agent.model import VswitchPort, VswitchSnapshot
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.ovsdb import connect
from ovn_metadata.agent.reconcile.snapshots import Snapshots
from ovn_metadata.agent.reconcile.workqueue import Queues


def site(settings: Any = None) -> Any:
    return types.SimpleNamespace(
        status=Status("1"), queues=Queues(), settings=lambda: settings
    )


def test_a_database_may_come_while_outages_are_looked_for():
    """Southbound is connected by a thread of its own."""
    databases: Any = Databases.__new__(Databases)
    databases.site, databases._outages = site(), {}
    idl = types.SimpleNamespace(problem=lambda: "it is down")

    def problem() -> str:
        databases._idls[SOUTHBOUND] = idl
        return "it is down"

    first = types.SimpleNamespace(problem=problem)
    databases._idls = {VSWITCH: first}
    databases.report_lost()
    assert databases._idls.keys() == {VSWITCH, SOUTHBOUND}


def test_a_server_that_is_back_meanwhile_is_not_reported_as_lost(monkeypatch):
    """It may come between two questions to the IDL."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    databases: Any = Databases.__new__(Databases)
    databases.site, databases._outages = site(), {}
    answers = [False, False, True]
    idl: Any = connect.Idl.__new__(connect.Idl)
    idl._problems, idl.is_connected = {}, lambda: answers.pop(0)
    databases._idls = {SOUTHBOUND: idl}
    databases.report_lost()
    assert databases.site.status.as_dict()["waiting"] == {}
    now[0] += 5
    databases.report_lost()
    lost = f"connection to {SOUTHBOUND} lost: it has sent no rows yet"
    assert databases.site.status.as_dict()["waiting"] == {SOUTHBOUND: lost}
    databases.report_lost()
    assert databases.site.status.as_dict()["waiting"] == {}


def test_only_another_bridge_of_open_vswitch_moves_the_heartbeat():
    """Its time shows whether Southbound's rows arrive."""
    databases: Any = Databases.__new__(Databases)
    settings: Any = types.SimpleNamespace(
        shield=types.SimpleNamespace(boot_window_s=0)
    )
    databases.snapshots = Snapshots(site(settings))
    notes: list[str] = []
    databases._heartbeat = types.SimpleNamespace(
        wake=lambda: notes.append(databases.snapshots.vswitch.bridge)
    )
    port = VswitchPort("br-int", "localport-1")
    databases._take_vswitch(VswitchSnapshot(ports={"tap0": port}))
    assert notes == []
    databases._take_vswitch(VswitchSnapshot(bridge="br-new"))
    assert notes == ["br-new"]


def test_an_attempt_that_took_too_long_is_gone_on_with(monkeypatch):
    """The IDL gives a server more time from one connection to the next."""
    databases: Any = Databases.__new__(Databases)
    databases.site = site()
    databases._idls = {}
    failures: list[Exception] = [TimeoutError(), OSError(), TimeoutError()]
    made: list[object] = []
    started: list[object] = []

    def make() -> object:
        made.append(types.SimpleNamespace(stands_s=float, report=dict))
        return made[-1]

    def start(idl: object, _timeout_s: int) -> object:
        started.append(idl)
        if failures:
            raise failures.pop(0)
        return "the link"

    monkeypatch.setattr(connect, "start", start)
    monkeypatch.setattr("ovn_metadata.agent.databases._RETRY_S", 0.0)
    assert databases._connect(SOUTHBOUND, "tcp:x:1", make, 5) == "the link"
    first, second = made
    assert started == [first, first, second, second]
    assert databases._idls == {SOUTHBOUND: second}
