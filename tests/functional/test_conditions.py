"""How often the agent has the Southbound server pass over all rows.

Each changed condition is one pass. The server has rows and nothing else; the
agent is its IDL.
"""

from __future__ import annotations

import dataclasses
import json
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.model import NetworkSnapshot
from ovn_metadata.agent.ovsdb import southbound
from sandbox import bare_southbound, ovsdb, wait_for
from sandbox.bare_southbound import (
    SCHEMA,
    Network,
    by_ids,
    insert_chassis,
    insert_network,
    insert_port,
    new_id,
)
from sandbox.daemons import Daemon

CHASSIS = new_id()


@dataclasses.dataclass
class Session:
    """The agent's IDL with the changes of conditions that it has sent."""

    server: ovsdb.Ovsdb
    idl: southbound.SouthboundIdl
    changes: list[Any]
    daemon: Daemon  # the server's
    earlier: socket.socket  # a client that the server reads first

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Run the IDL until CONDITION is true."""

        def holds() -> object:
            self.idl.run()
            return condition()

        wait_for(holds, timeout_s=60, what=what)

    def network(self, network: Network) -> NetworkSnapshot | None:
        return self.idl.snapshot.networks.get(network.id)

    def localport(self, network: Network) -> object:
        """Return the localport of NETWORK, once it came."""
        return (known := self.network(network)) and known.localport

    def comes(self, network: Network) -> str:
        """Add a port of NETWORK here; return it once its localport came."""
        port = new_id()
        self.server.transact([insert_port(network, port, CHASSIS)])
        self.until(lambda: self.localport(network), "localport")
        return port

    def goes(self, network: Network, port: str) -> None:
        self.server.transact(by_ids([port]))
        self.until(lambda: not self.network(network), "network that is gone")

    def condition(self, table: str = "Port_Binding") -> list[Any]:
        return list(self.idl.tables[table].condition_state.acked)

    def names(self) -> set[str]:
        """Return the localports that are asked for by name."""
        return {
            value
            for column, _, value in self.condition()
            if column == "logical_port"
        }


@pytest.fixture
def networks() -> list[Network]:
    return [Network() for _ in range(3)]


@pytest.fixture
def session(tmp_path: Path, networks: list[Network]) -> Iterator[Session]:
    with (
        bare_southbound.southbound(tmp_path) as daemon,
        socket.socket(socket.AF_UNIX) as earlier,
    ):
        server = bare_southbound.at(tmp_path)
        earlier.connect(str(server.path))
        rows = [row for each in networks for row in insert_network(each)]
        server.transact([*insert_chassis(CHASSIS), *rows])
        remote = f"unix:{server.path}"
        idl = southbound.SouthboundIdl(
            remote,
            chassis_name=CHASSIS,
            on_snapshot=lambda _snapshot: None,
            max_backoff_ms=1000,
        )
        changes: list[Any] = []
        send = idl._session.send

        def note(message: Any) -> Any:
            if message.method == "monitor_cond_change":
                changes.append(message.params[2])
            return send(message)

        idl._session.send = note
        session = Session(server, idl, changes, daemon, earlier)
        session.until(lambda: idl.snapshot.synced, "first snapshot")
        changes.clear()
        yield session
        idl.close()


def test_one_change_when_a_network_comes_and_none_when_it_goes(
    session: Session, networks: list[Network]
):
    first, second, _ = networks
    port = session.comes(first)
    assert len(session.changes) == 1
    session.comes(second)
    # What the first is called by now goes along with it.
    assert len(session.changes) == 2
    # The answer comes after the rows that it brings.
    session.until(lambda: session.names() == {first.localport}, "its answer")
    session.goes(first, port)
    session.comes(first)
    assert len(session.changes) == 2


def test_networks_that_come_at_once_are_gathered(
    session: Session, networks: list[Network], monkeypatch
):
    """All that come while the one before is answered, and a moment more."""
    first, *others = networks
    session.comes(first)
    # Not over before both have come, however slow this machine is.
    monkeypatch.setattr(southbound, "CONDITION_INTERVAL_S", 3600.0)
    for other in others:
        session.server.transact([insert_port(other, new_id(), CHASSIS)])
        session.until(lambda each=other: session.network(each), "network")
    assert len(session.changes) == 1
    monkeypatch.setattr(southbound, "CONDITION_INTERVAL_S", 0.0)
    for other in others:
        session.until(lambda each=other: session.localport(each), "localport")
    assert len(session.changes) == 2


def test_what_is_left_is_tidied_in_the_end(
    session: Session, networks: list[Network], monkeypatch
):
    """Names, which the server looks up fast, and nothing that has gone."""
    first, second, _ = networks
    port = session.comes(first)
    session.comes(second)
    session.goes(first, port)
    monkeypatch.setattr(southbound, "TIDY_S", 0.0)
    session.until(lambda: len(session.changes) == 3, "third change")
    session.until(lambda: session.names() == {second.localport}, "its answer")
    assert {operator for _, operator, _ in session.condition()} == {"=="}
    datapaths = session.condition("Datapath_Binding")
    assert datapaths == [["_uuid", "==", ["uuid", second.datapath]]]
    session.until(
        lambda: len(session.idl.tables["Port_Binding"].rows) == 2,
        "rows of one network",
    )
    assert len(session.changes) == 3


def test_a_new_connection_asks_by_name_at_once(
    session: Session, networks: list[Network]
):
    """A server that many come back to does not try each row with each id."""
    first, second, _ = networks
    session.comes(first)
    session.comes(second)
    session.until(lambda: session.names() == {first.localport}, "its answer")
    both = {first.localport, second.localport}
    session.idl.force_reconnect()
    session.until(lambda: session.names() == both, "another connection")
    session.until(lambda: session.localport(second), "localport again")
    assert {operator for _, operator, _ in session.condition()} == {"=="}
    session.until(lambda: session.localport(first), "the other one")
    assert len(session.changes) == 2


def test_a_change_that_the_server_refuses_is_made_anew(
    session: Session, networks: list[Network]
):
    """It is sent before the agent hears that its monitor was canceled."""
    first, second, third = networks
    session.comes(first)
    session.until(lambda: session.idl._request_id is None, "its answer")
    schema = json.loads(SCHEMA.read_text())
    del schema["cksum"]
    schema["version"] = "99.0.0"
    schema["tables"]["Port_Binding"]["columns"]["more"] = {"type": "string"}
    request = {"method": "convert", "params": [schema["name"], schema]}
    session.server.transact([insert_port(second, new_id(), CHASSIS)])
    # The server has sent its row, and the IDL has not read it.
    stream = session.idl._session.rpc.stream
    assert select.select([stream.socket], [], [], 60)[0]
    session.daemon.signal(signal.SIGSTOP)
    try:
        session.earlier.sendall(json.dumps({**request, "id": 1}).encode())
        sent = len(session.changes)
        session.until(lambda: len(session.changes) > sent, "a change")
    finally:
        session.daemon.signal(signal.SIGCONT)
    session.until(lambda: session.localport(second), "second network")
    session.comes(third)
    assert session.idl._db.version == "99.0.0"
