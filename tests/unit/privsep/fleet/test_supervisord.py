"""What supervisord answers, and what is made of it."""

from __future__ import annotations

import errno
import socket
import socketserver
import threading
import time
import xmlrpc.client
import xmlrpc.server
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from supervisor.xmlrpc import Faults

from ovn_metadata.privsep import names
from ovn_metadata.privsep.errors import FleetError
from ovn_metadata.privsep.fleet import start, supervisord
from ovn_metadata.privsep.fleet.supervisord import Supervisord
from ovn_metadata.privsep.settings import FleetSettings


class Handler(xmlrpc.server.SimpleXMLRPCRequestHandler):
    disable_nagle_algorithm = False  # not of a unix socket

    def log_message(self, format, *args):  # noqa: A002 # its name
        """Say nothing."""


class Server(
    socketserver.UnixStreamServer, xmlrpc.server.SimpleXMLRPCDispatcher
):
    """Answers as supervisord does, method -> answers in order."""

    logRequests = False  # noqa: N815 # its name

    def __init__(self, path: Path) -> None:
        xmlrpc.server.SimpleXMLRPCDispatcher.__init__(self)
        socketserver.UnixStreamServer.__init__(self, str(path), Handler)
        self.answers: dict[str, list[object]] = {}

    def _dispatch(self, method, params):
        answer = self.answers[method].pop(0)
        if isinstance(answer, xmlrpc.client.Fault):
            raise answer
        return answer


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    """Provide what stands in for supervisord, on its socket."""
    with Server(settings(tmp_path).places.socket) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def rpc(tmp_path) -> Iterator[Supervisord]:
    with Supervisord(settings(tmp_path)) as made:
        yield made


def settings(run_dir: Path) -> FleetSettings:
    return FleetSettings("/h", "nobody", 1, 1, run_dir)


@pytest.mark.parametrize(
    "answer", [True, names.FLEET_PROTOCOL + 1, "7.1", [], [7]]
)
def test_another_version_is_refused_with_the_remedy(server, tmp_path, answer):
    server.answers = {"fleet.ping": [answer]}
    with pytest.raises(FleetError, match="kill -9"):
        start.ensure_supervisord(settings(tmp_path))


def test_our_own_version_is_taken(server, tmp_path):
    server.answers = {"fleet.ping": [names.FLEET_PROTOCOL]}
    start.ensure_supervisord(settings(tmp_path))


def test_without_a_supervisord_there_is_no_answer(rpc):
    assert rpc.version() == 0


@pytest.mark.parametrize(
    ("number", "is_seen"),
    [(errno.EACCES, True), (errno.ENOMEM, False), (errno.EMFILE, False)],
)
def test_one_that_cannot_be_seen_is_not_absent(
    rpc, monkeypatch, number, is_seen
):
    """A second one would be started, and name another reason."""

    def refuse(*_args: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    if is_seen:
        assert rpc.version() == 0
        return
    with pytest.raises(OSError, match=f"Errno {number}"):
        rpc.version()


def took_s(run_dir: Path, timeout_s: float = 0.4) -> float:
    """Return what a call to a supervisord that hangs takes."""
    begun = time.monotonic()
    with (
        Supervisord(settings(run_dir), timeout_s=timeout_s) as rpc,
        pytest.raises(FleetError, match="supervisord hangs; if this"),
    ):
        rpc.call("fleet.ping")
    return time.monotonic() - begun


@pytest.fixture
def hangs(tmp_path, monkeypatch) -> Iterator[None]:
    """Provide a supervisord that hangs; a call is to wait for 0.4 s."""
    monkeypatch.setattr(supervisord, "TIMEOUT_S", 0.4)
    monkeypatch.setattr(Supervisord, "_again_at", 0.0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(settings(tmp_path).places.socket))
        listener.listen()
        yield


def test_one_caller_at_a_time_waits_for_one_that_hangs(
    tmp_path, monkeypatch, hangs
):
    """All of them would take all threads of the daemon."""
    begun = time.monotonic()
    assert took_s(tmp_path) >= 0.4
    assert Supervisord._again_at > begun + 0.4
    monkeypatch.setattr(Supervisord, "_again_at", time.monotonic() + 60)
    assert min(took_s(tmp_path) for _ in range(20)) < 0.1
    assert Supervisord._again_at > begun + 60
    monkeypatch.setattr(Supervisord, "_again_at", time.monotonic())
    with ThreadPoolExecutor(8) as pool:
        together = [pool.submit(took_s, tmp_path) for _ in range(8)]
    waited = sorted(each.result() for each in together)
    assert waited[-1] >= 0.4 > waited[-2]
    settings(tmp_path).places.socket.unlink()
    monkeypatch.setattr(Supervisord, "_again_at", time.monotonic())
    with Supervisord(settings(tmp_path)) as rpc:
        assert rpc.version() == 0
    assert Supervisord._again_at == 0.0


def test_a_short_look_finds_no_hang(tmp_path, monkeypatch, hangs):
    """One that has many haproxies to start is only busy."""
    assert took_s(tmp_path, 0.1) >= 0.1
    assert Supervisord._again_at == 0.0
    monkeypatch.setattr(Supervisord, "_again_at", time.monotonic())
    assert took_s(tmp_path, 0.1) >= 0.1
    assert Supervisord._again_at > 0.0  # it still hangs


def test_a_refusal_crosses_to_the_agent_with_its_words(server, rpc):
    """oslo.privsep rebuilds an error as `cls(*args)`."""
    fault = xmlrpc.client.Fault(Faults.NO_FILE, "no such file")
    server.answers = {"fleet.add": [fault]}
    with pytest.raises(FleetError) as raised:
        rpc.call("fleet.add", "haproxy-x")
    error = raised.value
    assert str(error) == "supervisord refuses fleet.add: no such file"
    assert str(type(error)(*error.args)) == str(error)


def test_an_answer_that_is_no_xml_is_reported(server, rpc, monkeypatch):
    monkeypatch.setattr(server, "_marshaled_dispatch", lambda *_: b"<")
    with pytest.raises(FleetError, match="unclosed token"):
        rpc.call("fleet.add", "haproxy-x")


def test_another_server_is_reported(server, rpc, monkeypatch):
    def refuse(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.send_error(404)

    monkeypatch.setattr(Handler, "do_POST", refuse)
    with pytest.raises(FleetError, match="404"):
        rpc.call("fleet.add", "haproxy-x")
