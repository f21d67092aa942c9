"""What is said on haproxy's stats socket, to a socket that records it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from ovn_metadata.agent import unixsocket
from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy import runtime
from ovn_metadata.agent.haproxy.runtime import Stats

FILE = Path("/var/lib/x.map")
STARTED = "Start_time_sec: {}\n"


class Haproxy:
    """Answers each command line with `answer`; keeps what was asked.

    As haproxy's, an answer ends with an empty line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stats = Stats(path, os.geteuid())
        self.answer, self.end = "", "\n"
        self.pause_s = 0.0  # before each answer
        self.asked: list[str] = []
        self.ends = threading.Event()  # whether it closes after an answer
        self.ends.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(5)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as stream:
                line = stream.readline().decode()
                if not line:
                    return
                self.asked.append(line.rstrip("\n"))
                time.sleep(self.pause_s)
                # In two parts: an answer may come in any number of them.
                answer = (self.answer + self.end).encode()
                half = len(answer) // 2
                connection.sendall(answer[:half])
                connection.sendall(answer[half:])
                self.ends.wait(10)

    def close(self) -> None:
        self.ends.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def haproxy(tmp_path):
    server = Haproxy(tmp_path / "stats.sock")
    yield server
    server.close()


def test_nobody_listens(tmp_path):
    absent = Stats(tmp_path / "absent", os.geteuid())
    assert runtime.running_digest(absent, FILE) is None
    with pytest.raises(FileNotFoundError):
        runtime.read_map(absent, FILE)


@pytest.mark.parametrize(
    ("answer", "digest"),
    [
        pytest.param("", "", id="no answer"),
        pytest.param("Name: HAProxy\nPid: 7\n\n", "", id="not one of ours"),
        pytest.param("description: \n", "", id="an empty description"),
        pytest.param(
            "Name: HAProxy\ndescription: 0a1b\nTasks: 3\n\n",
            "0a1b",
            id="one of ours",
        ),
    ],
)
def test_running_digest(haproxy, answer, digest, tmp_path):
    haproxy.answer = STARTED.format(int(time.time())) + answer
    config = tmp_path / "config"
    config.touch()
    assert runtime.running_digest(haproxy.stats, config) == digest
    assert haproxy.asked == ["show info"]


@pytest.mark.parametrize("older_s", [3, 0, -3])
def test_a_digest_is_not_believed_if_the_file_has_changed_since(
    haproxy, tmp_path, older_s
):
    config = tmp_path / "config"
    assert runtime.running_digest(haproxy.stats, config) == ""
    config.touch()
    started = int(config.stat().st_ctime) - older_s
    haproxy.answer = f"{STARTED.format(started)}description: 0a1b\n"
    expected = "" if older_s > 1 else "0a1b"
    assert runtime.running_digest(haproxy.stats, config) == expected


def test_an_answer_of_a_haproxy_that_was_broken_into_takes_no_memory(tmp_path):
    answer = "".join(f"{number:x}\n" for number in range(150_000))
    tracemalloc.start()
    try:
        assert runtime.digest_in(answer, tmp_path) == ""
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * len(answer)


def test_read_map(haproxy):
    haproxy.answer = "0x55d 10.0.0.1 i|p|s\n0x55e fd00::1 j|p|s\n\n"
    assert runtime.read_map(haproxy.stats, FILE) == {
        "10.0.0.1": "i|p|s",
        "fd00::1": "j|p|s",
    }
    assert haproxy.asked == [f"show map {FILE}"]


@pytest.mark.parametrize("answer", ["", "0x55d 10.0.0.1 i|p|s\n0x55e f"])
def test_an_answer_that_is_cut_off_is_none(haproxy, answer):
    """The process was killed: its map may have more than that."""
    haproxy.answer, haproxy.end = answer, ""
    with pytest.raises(ConnectionError, match="before it had answered"):
        runtime.read_map(haproxy.stats, FILE)
    assert runtime.running_digest(haproxy.stats, FILE) is None


def test_an_answer_with_a_variable_has_no_empty_line(haproxy):
    haproxy.answer = "proc.n: type=sint value=<1>"
    assert runtime.ask(haproxy.stats, "show stat; get var proc.n")
    with pytest.raises(ConnectionError, match="before it had answered"):
        runtime.ask(haproxy.stats, "get var proc.n; show stat")
    haproxy.end = ""
    with pytest.raises(ConnectionError, match="before it had answered"):
        runtime.ask(haproxy.stats, "get var proc.n")


def test_a_map_may_have_many_more_entries_than_it_should(haproxy):
    """All networks may have waited for a confirmation, and one does now."""
    keys = [f"fd00::{number:x}" for number in range(1, 2001)]
    haproxy.answer = "".join(f"0x55d {key} {'0' * 140}\n" for key in keys)
    found = runtime.read_map(haproxy.stats, FILE)
    assert found.keys() == {*keys}


def test_a_map_with_more_entries_than_any_has_is_refused(haproxy):
    """Of a haproxy that was broken into: each costs a command."""
    haproxy.answer = "0x1 a b\n" * 70_000
    with pytest.raises(HaproxyError, match="too many entries"):
        runtime.read_map(haproxy.stats, FILE)


def test_commands_are_sent_in_order_in_one_line(haproxy):
    runtime.change_map(haproxy.stats, ["del map x a", "set map x b i|p|s"])
    assert haproxy.asked == ["del map x a; set map x b i|p|s"]


def test_nothing_is_sent_for_no_change(haproxy):
    runtime.change_map(haproxy.stats, [])
    assert not haproxy.asked


@pytest.mark.parametrize("letters", [36, 255])
def test_a_large_change_goes_in_lines_that_fit_haproxys_buffer(
    haproxy, letters
):
    """Version 3.2 refuses a longer line; older ones read it in parts."""
    value = f"{'0' * letters}|{'0' * 32}|{'0' * 64}|required||{'0' * 64}"
    keys = [f"fd00::{number:x}" for number in range(1000)]
    commands = [f"add map {FILE} {key} {value}" for key in keys]
    runtime.change_map(haproxy.stats, commands)
    assert max(map(len, haproxy.asked)) <= 8 * 1024 + 2
    assert "; ".join(haproxy.asked).split("; ") == commands


def test_a_haproxy_that_is_slow_at_each_command_is_given_up(
    haproxy, monkeypatch
):
    """One that was broken into: it would hold a worker for hours."""
    monkeypatch.setattr(runtime, "_CHANGE_S", 0.2)
    haproxy.pause_s = 0.15
    commands = [f"del map {FILE} fd00::{number:x}" for number in range(1200)]
    with pytest.raises(HaproxyError, match="takes too long"):
        runtime.change_map(haproxy.stats, commands)
    assert len(haproxy.asked) < 4


def test_a_refused_change_is_an_error_with_haproxys_words(haproxy):
    haproxy.answer = "Unknown map identifier.\n\n"
    with pytest.raises(HaproxyError, match=r"Unknown map identifier\.$"):
        runtime.change_map(haproxy.stats, [f"del map {FILE} a"])


def test_socket_of_another_user_is_not_spoken_to(haproxy):
    """Nor one that a link leads to: it may be another haproxy's."""
    other = Stats(haproxy.path, os.geteuid() + 1)
    link = haproxy.path.with_name("link.sock")
    link.symlink_to(haproxy.path)
    for wrong in (other, Stats(link, os.geteuid())):
        with pytest.raises(FileNotFoundError, match="no socket of"):
            runtime.read_map(wrong, FILE)
    assert haproxy.asked == []


@pytest.mark.parametrize(
    ("mode", "is_absent"),
    [
        pytest.param(0o666, False, id="by the kernel, say SELinux"),
        pytest.param(0o600, True, id="by the haproxy: it was broken into"),
    ],
)
def test_what_can_not_be_asked_does_not_pass_for_absent(
    haproxy, monkeypatch, mode, is_absent
):
    """It would be replaced, though it serves, and so would the next one."""

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(unixsocket, "_connect", refuse)
    haproxy.path.chmod(mode)
    refused = pytest.raises(PermissionError, match=str(haproxy.path))
    with contextlib.nullcontext() if is_absent else refused:
        assert runtime.running_digest(haproxy.stats, FILE) is None


def test_lack_of_descriptors_does_not_pass_for_a_haproxy_that_is_gone(
    tmp_path,
):
    """It would be replaced, though it serves.

    No thread accepts here: that takes a descriptor too, and at any time.
    """
    path = tmp_path / "stats.sock"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                runtime.running_digest(Stats(path, os.geteuid()), path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    ("answer", "status", "is_from_nova"),
    [
        ("HTTP/1.1 200 OK\r\n\r\n1.0\n", 200, True),
        ("HTTP/1.1 404 Not Found\r\n\r\n", 404, True),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 503, True),
        ("HTTP/1.1 503 X\r\n\r\nNo Nova metadata API answers.\n", 503, False),
        ("HTTP/1.1 502 X\r\n\r\nNova gave no complete answer.\n", 502, False),
        ("HTTP/1.1 504 X\r\n\r\nNova did not answer in time.\n", 504, False),
        # A balancer's, behind which is no Nova.
        ("HTTP/1.1 504 Gateway Time-out\r\n\r\n", 504, True),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, True),
        ("", 0, False),
        ("nonsense", 0, False),
        ("x" * 100_000, 0, False),
        # Another web server's page.
        ("HTTP/1.1 200 OK\r\n\r\n" + "x" * 100_000, 200, True),
    ],
)
def test_what_nova_answers_to_the_agent(haproxy, answer, status, is_from_nova):
    haproxy.answer = answer
    found = runtime.ask_nova(haproxy.path, "/", "agent", "none", 0)
    assert found[:2] == (status, is_from_nova)
    assert haproxy.asked == ["GET / HTTP/1.1\r"]


def test_a_page_that_does_not_end_is_seen_before_the_time_is_over(
    haproxy, monkeypatch
):
    monkeypatch.setattr(runtime, "NOVA_TIMEOUT_S", 0.5)
    haproxy.ends.clear()
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    haproxy.answer = head + "x" * 100_000
    found = runtime.ask_nova(haproxy.path, "/", "agent", "none", 0)
    assert (found.status, found.is_page) == (200, True)


def test_a_gateway_that_is_not_there_is_no_answer(tmp_path):
    answer = runtime.ask_nova(
        tmp_path / "nothing.sock", "/", "agent", "none", 0
    )
    assert answer[:2] == (0, False)
