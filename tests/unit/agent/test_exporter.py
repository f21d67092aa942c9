"""Who gets what on the metrics' sockets."""

from __future__ import annotations

import contextlib
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ovn_metadata.agent import exporter
from ovn_metadata.agent.exporter import Exporter
from ovn_metadata.agent.metrics import COUNTERS
from ovn_metadata.agent.metrics.meter import Meter
from sandbox.waiting import wait_for

ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Counting(Collector):
    """Shows how often it was collected."""

    times = 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.times += 1
        yield GaugeMetricFamily("scrapes", "How many.", self.times)


def site_at(folder: Path, path: Path | None = None) -> Any:
    """Return a site that keeps its counters in FOLDER, with its reports."""
    settings = SimpleNamespace(
        state_path=folder, metrics_socket=path, metrics_address=None
    )
    reports: list[str] = []

    def note(code: str, reason: str) -> None:
        assert code == "OVNMD-408"
        reports.append(reason)

    return SimpleNamespace(
        settings=lambda: settings,
        meter=Meter(),
        status=SimpleNamespace(note=note),
        reports=reports,
    )


@contextlib.contextmanager
def exporting(
    folder: Path,
    path: Path | None = None,
) -> Iterator[list[str]]:
    """Run an exporter; give what it reports."""
    site = site_at(folder, path)
    made = Exporter(site, Counting())
    made.start()
    try:
        yield site.reports
    finally:
        made.stop()


def ask(path: str, question: bytes = ASK) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        client.sendall(question)
        with client.makefile("rb") as stream:
            return stream.read()


def test_the_agent_s_group_gets_the_metrics(tmp_path):
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path) as reports:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        head, _, body = ask(str(path)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"Content-Type: text/plain; version=0.0.4" in head
        assert f"Content-Length: {len(body)}".encode() in head
        assert body.endswith(b"\nscrapes 1.0\n")
        assert reports == [""]
    assert not path.exists()


def test_a_socket_that_is_removed_is_made_again(tmp_path):
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path):
        path.unlink()
        wait_for(path.exists, timeout_s=20, what="the socket")
        wait_for(
            lambda: b" 200 OK" in ask(str(path)),
            timeout_s=20,
            what="an answer",
        )


def test_the_counters_are_kept_before_they_are_shown(tmp_path):
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path):
        assert not (tmp_path / COUNTERS).exists()
        ask(str(path))
        assert (tmp_path / COUNTERS).exists()
    (tmp_path / COUNTERS).unlink()
    with exporting(tmp_path):
        pass
    assert (tmp_path / COUNTERS).exists()  # at its end


def test_clients_that_ask_often_get_the_same_answer(tmp_path):
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path):
        answers = {ask(str(path)) for _ in range(20)}
        assert len(answers) <= 3


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (b"GET /metrics?name=x HTTP/1.1\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"404"),
        (b"\xff" * 8192, b"404"),
    ],
)
def test_only_metrics_are_there(tmp_path, question, status):
    with exporting(tmp_path, tmp_path / "m.sock"):
        assert ask(str(tmp_path / "m.sock"), question)[9:12] == status


def test_a_slow_client_delays_no_other_and_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "_CLIENT_S", 0.5)
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path), socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(path))
        slow.sendall(b"GET /met")
        assert b"200 OK" in ask(str(path))
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            while time.monotonic() < began + 5:
                slow.sendall(b"r")
                time.sleep(0.05)
        assert time.monotonic() < began + 5


def test_more_clients_than_there_are_places_for_are_closed(tmp_path):
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path), contextlib.ExitStack() as stack:
        for _ in range(exporter._CLIENTS):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
        wait_for(
            lambda: ask(str(path), b"") == b"", timeout_s=5, what="a refusal"
        )
        stack.close()
        wait_for(
            lambda: b"200 OK" in ask(str(path)), timeout_s=5, what="places"
        )


def fails(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_it_listens_once_a_thread_can_be_started(tmp_path, monkeypatch):
    path = tmp_path / "m.sock"
    made = Exporter(site_at(tmp_path, path), Counting())
    with (
        monkeypatch.context() as patch,
        contextlib.suppress(RuntimeError),  # a poll's is logged
    ):
        patch.setattr(threading.Thread, "start", fails)
        made.poll()
    made.poll()
    assert b"200 OK" in ask(str(path))
    for server in made._servers:
        server.stop()


def test_it_answers_again_when_threads_can_be_started(tmp_path, monkeypatch):
    path = tmp_path / "m.sock"
    with exporting(tmp_path, path):
        assert b"200 OK" in ask(str(path))
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fails)
            for _ in range(exporter._CLIENTS + 1):
                with contextlib.suppress(ConnectionError):
                    assert ask(str(path)) == b""
        assert b"200 OK" in ask(str(path))


def test_what_an_agent_left_that_was_killed_is_replaced(tmp_path):
    path = tmp_path / "m.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with exporting(tmp_path, path) as reports:
        assert b"200 OK" in ask(str(path))
        assert reports == [""]


def test_anything_else_at_the_socket_s_path_stays(tmp_path):
    path = tmp_path / "m.sock"
    path.write_text("precious")
    with exporting(tmp_path, path) as reports:
        (report,) = reports
        assert report == (
            f"{path} (metrics_socket): it is there and is not a socket; "
            f"move it away"
        )
    assert path.read_text() == "precious"


def test_a_socket_that_somebody_serves_stays(tmp_path):
    path = tmp_path / "m.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with exporting(tmp_path, path) as reports:
            assert "another process listens" in reports[0]
        assert path.exists()


def test_a_full_disk_is_reported_and_the_metrics_are_shown(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(exporter, "_RETRY_S", 0.05)
    path = tmp_path / "m.sock"
    missing = tmp_path / "missing"
    with exporting(missing, path) as reports:
        assert b"200 OK" in ask(str(path))
        wait_for(
            lambda: reports[-1].startswith("counters not kept: "),
            timeout_s=5,
            what="a word",
        )
        missing.mkdir()

        def over() -> bool:
            ask(str(path))
            return reports[-1] == ""

        wait_for(over, timeout_s=5, what="its end")
