"""The status socket: who gets what answer, and how soon."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.monitor import status_socket
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.monitor.status_socket import StatusServer
from sandbox.waiting import wait_for

QUESTION = {"network": "", "instance": "", "wait_s": 60}


@pytest.fixture
def status() -> Status:
    made = Status("1.0")
    made.served("gateway")
    return made


@pytest.fixture
def server(tmp_path: Path, status: Status) -> Iterator[StatusServer]:
    server = StatusServer(tmp_path / "status.sock", status)
    server.start("status")
    yield server
    server.stop()


@pytest.fixture
def path(tmp_path: Path, server: StatusServer) -> Path:
    """Provide the path on which SERVER listens."""
    return tmp_path / "status.sock"


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(path))
    return client


def answer(client: socket.socket) -> dict[str, Any]:
    with client, client.makefile("rb") as stream:
        made: dict[str, Any] = json.loads(stream.read())
    made.pop("now", None)  # no two answers have the same
    return made


def plain(status: Status) -> dict[str, Any]:
    """Return the whole STATUS, as it is after JSON."""
    made: dict[str, Any] = json.loads(json.dumps(status.as_dict()))
    del made["now"]
    return made


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="it closes its side"),
        pytest.param(b"\n", id="an empty line"),
        pytest.param(b"\xff\n", id="no text"),
        pytest.param(b"status\n", id="no JSON"),
        pytest.param(b"[" * 512, id="deep"),
        pytest.param(b'{"network": "x"}\n', id="not all of it"),
        pytest.param(b'["network", "instance", "wait_s"]\n', id="a list"),
        pytest.param(
            b'{"network": "", "instance": "", "wait_s": {}}\n', id="no number"
        ),
        pytest.param(
            b'{"network": "", "instance": "", "wait_s": 1%s}\n' % (b"0" * 400),
            id="no number that can be used",
        ),
        pytest.param(b"x" * 512, id="no line"),
    ],
)
def test_without_a_question_a_client_gets_all(path, status, line):
    client = connected(path)
    client.sendall(line)
    client.shutdown(socket.SHUT_WR)
    assert answer(client) == plain(status)


def test_a_client_that_says_nothing_gets_all(path, status):
    assert answer(connected(path)) == plain(status)


def test_a_socket_that_is_removed_is_made_again(path, status):
    """As often as that happens; a folder that is gone as well."""
    for remove in (Path.unlink, lambda path: shutil.rmtree(path.parent)):
        remove(path)
        wait_for(path.exists, timeout_s=20, what="the socket")
        wait_for(
            lambda: answer(connected(path)) == plain(status),
            timeout_s=20,
            what="an answer",
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_socket_of_another_process_stays(path, server, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        (tmp_path / "other.sock").replace(path)
        before = path.stat().st_ino
        server.service_actions()
        assert path.stat().st_ino == before


def test_a_client_waits_until_it_is_served(path, status):
    """And others are answered meanwhile."""
    client = connected(path)
    client.sendall(json.dumps(QUESTION).encode() + b"\n")
    other = connected(path)
    other.shutdown(socket.SHUT_WR)
    assert answer(other)["ready"] is False
    status.rows(synced=True, problems={})
    assert answer(client)["served"] is True


def test_nobody_waits_for_longer_than_the_limit(path, monkeypatch):
    """Or a thread could wait for ever for a client that is gone."""
    monkeypatch.setattr(status_socket, "MAX_WAIT_S", 0.1)
    client = connected(path)
    client.sendall(json.dumps(QUESTION).encode() + b"\n")
    assert answer(client)["served"] is False


def test_one_too_many_is_answered_at_once(tmp_path, status, monkeypatch):
    """Each that waits has a thread and a descriptor of the agent."""
    monkeypatch.setattr(status_socket, "_MAX_WAITING", 1)
    server = StatusServer(tmp_path / "few.sock", status)
    server.start("status")
    first = connected(tmp_path / "few.sock")
    first.sendall(json.dumps(QUESTION).encode() + b"\n")
    wait_for(
        lambda: server._may_wait._value == 0, timeout_s=20, what="the first"
    )
    second = connected(tmp_path / "few.sock")
    second.sendall(json.dumps(QUESTION).encode() + b"\n")
    assert answer(second)["served"] is False
    status.rows(synced=True, problems={})
    assert answer(first)["served"] is True
    assert server._may_wait.acquire(timeout=20)  # given back
    server.stop()


def ask(path: Path, question: object) -> dict[str, Any]:
    client = connected(path)
    client.sendall(json.dumps(question).encode() + b"\n")
    return answer(client)


def test_a_handler_answers_the_questions_with_its_key(path, server, status):
    server.handlers["why"] = lambda asked: {"hops": [asked["why"]]}
    assert ask(path, {"why": "i-1"}) == {"hops": ["i-1"]}
    assert ask(path, {"dump": ""}) == plain(status)


def test_what_a_handler_raises_is_its_answer(path, server):
    def broken(_asked: dict[str, Any]) -> dict[str, Any]:
        raise PermissionError(13, "Permission denied", "/proc/1/root")

    server.handlers["why"] = broken
    told = ask(path, {"why": "i-1"})["error"]
    assert told.startswith("/proc/1/root: Permission denied; ")


def test_only_so_many_handlers_work_at_a_time(path, server):
    begun, go = threading.Semaphore(0), threading.Event()

    def slow(_asked: dict[str, Any]) -> dict[str, Any]:
        begun.release()
        go.wait(20)
        return {"done": True}

    server.handlers["why"] = slow
    clients = [connected(path) for _ in range(8)]
    for client in clients:
        client.sendall(b'{"why": ""}\n')
    assert all(begun.acquire(timeout=20) for _ in clients)
    assert "at a time" in ask(path, {"why": ""})["error"]
    go.set()
    assert [answer(client) for client in clients] == [{"done": True}] * 8
    assert ask(path, {"why": ""}) == {"done": True}
