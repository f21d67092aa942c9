"""The launcher: for one user, one command, whoever else knocks."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from ovn_metadata.privsep import launcher

GOOD = "/tmp/tmpabcd_123/privsep.sock"
REFUSED = "refused: not a socket path of oslo.privsep's form"
DEADLINE_S = 10


@pytest.fixture
def ran(monkeypatch):
    """Record what would be run; the exit code is `ran.exit_code`."""

    class Recorder:
        exit_code: int | Exception = 0
        command: list[str] | None = None
        options: dict[str, object]

        def __call__(self, command, **options):
            self.command, self.options = command, options
            if isinstance(self.exit_code, Exception):
                raise self.exit_code
            return subprocess.CompletedProcess(command, self.exit_code)

    recorder = Recorder()
    monkeypatch.setattr(subprocess, "run", recorder)
    return recorder


@contextlib.contextmanager
def serving(uid: int = os.geteuid()) -> Iterator[str]:
    """Have a launcher serve UID; give its socket's name.

    It speaks on its descriptors 0 and 1: for as long as this lasts they
    are pipes. Not a fixture: pytest turns them between its phases.
    """
    name = f"test-launcher-{secrets.token_hex(8)}"
    saved = [os.dup(0), os.dup(1)]
    stdin, keep = os.pipe()
    ready, stdout = os.pipe()
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    thread = threading.Thread(
        target=launcher.main,
        args=(["serve", name, str(uid), "/helper", "/x.conf"],),
        daemon=True,
    )
    try:
        thread.start()
        assert os.read(ready, 100) == b"ready\n"
        yield name
    finally:
        os.close(keep)  # as the agent's end does
        thread.join(DEADLINE_S)
        for number, descriptor in enumerate(saved):
            os.dup2(descriptor, number)
        for descriptor in (stdin, ready, stdout, *saved):
            os.close(descriptor)
    assert not thread.is_alive()


def ask(name: str, path: str) -> int:
    return launcher.main(
        [
            "ask",
            name,
            "--privsep_context",
            "anything",
            "--privsep_sock_path",
            path,
        ]
    )


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "--help",
        "/etc/privsep.sock",
        "/tmp/privsep.sock",
        "/tmp/../etc/privsep.sock",
        "/tmp/a/../privsep.sock",
        f"{GOOD}\n",
        f"{GOOD} --config-file /tmp/x",
        "/tmp/$(id)/privsep.sock",
        GOOD * 200,
    ],
)
def test_any_other_path_is_refused_and_nothing_run(ran, capsys, path):
    with serving() as name:
        assert ask(name, path) == 1
    assert capsys.readouterr().err.strip().endswith(REFUSED)
    assert ran.command is None


def test_another_user_is_not_answered(ran):
    with (
        serving(os.geteuid() + 1) as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        client.settimeout(DEADLINE_S)
        client.connect(b"\0" + name.encode())
        assert client.recv(100) == b""
    assert ran.command is None


def test_a_client_that_goes_away_does_not_end_the_launcher(ran):
    with serving() as name:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(b"\0" + name.encode())
        assert ask(name, GOOD) == 0


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        pytest.param(3, "exit 3", id="the helper fails"),
        pytest.param(OSError(2, "not there"), "not there", id="no helper"),
        pytest.param(
            subprocess.TimeoutExpired("/helper", 20),
            "timed out",
            id="the helper hangs",
        ),
    ],
)
def test_a_failure_is_told(ran, capsys, exit_code, words):
    ran.exit_code = exit_code
    with serving() as name:
        assert ask(name, GOOD) == 1
    assert words in capsys.readouterr().err


def test_runs_the_helper_with_fixed_arguments_and_a_clean_environment(
    ran, monkeypatch
):
    monkeypatch.setenv("LD_PRELOAD_X", "evil")
    with serving() as name:
        assert ask(name, GOOD) == 0
        assert ask(name, GOOD) == 0  # and again: daemons may die
    assert ran.command == [
        "/helper",
        "--config-file",
        "/x.conf",
        "--privsep_context",
        "ovn_metadata.privsep.context.default",
        "--privsep_sock_path",
        GOOD,
    ]
    assert ran.options["env"] == {
        "PATH": os.defpath,
        "SUDO_UID": str(os.geteuid()),
    }
    assert ran.options["stdin"] == subprocess.DEVNULL


def test_without_a_configuration_the_helper_is_given_none(ran):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(GOOD.encode())
        assert launcher._launch(ours, "990", "/helper", "") == "ok"
    assert ran.command is not None
    assert "--config-file" not in ran.command
