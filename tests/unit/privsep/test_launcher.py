"""The launcher: for one user, one command, whoever else knocks."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import select
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovn_metadata.privsep import launcher

REFUSED = "refused: not a socket of the agent's"
DEADLINE_S = 10


@pytest.fixture
def ran(monkeypatch):
    """Record what would be run; the exit code is `ran.exit_code`."""

    class Recorder:
        exit_code: int | Exception = 0
        command: list[str] | None = None
        options: dict[str, object]

        def __call__(self, command, *, stdin, **options):
            self.command, self.options = command, options
            # As privsep-helper does: it has the agent's socket as stdin.
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"/proc/self/fd/{stdin}")
            if isinstance(self.exit_code, Exception):
                raise self.exit_code
            return subprocess.CompletedProcess(command, self.exit_code)

    recorder = Recorder()
    monkeypatch.setattr(subprocess, "run", recorder)
    return recorder


@pytest.fixture
def agents() -> Iterator[Path]:
    """Provide the socket that an agent waits for its daemon at."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = Path(folder) / "privsep.sock"
        listener.bind(str(path))
        listener.listen(8)
        yield path


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


def ask(name: str, path: Path) -> int:
    options = ("--privsep_context", "any", "--privsep_sock_path", str(path))
    return launcher.main(["ask", name, *options])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def folder(where: Path) -> Path:
    return where


def file(where: Path) -> Path:
    (where / "file").touch()
    return where / "file"


def link_to_a_socket(where: Path) -> Path:
    (where / "link").symlink_to("privsep.sock")
    return where / "link"


@pytest.mark.parametrize("make", [folder, file, link_to_a_socket])
def test_what_is_no_socket_is_refused_and_nothing_run(
    ran, agents, capsys, make
):
    with serving() as name:
        assert ask(name, make(agents.parent)) == 1
    assert REFUSED in capsys.readouterr().err
    assert ran.command is None


def test_a_socket_of_another_user_is_refused(ran, agents, capsys):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, socket.socket() as other:
        socket.send_fds(theirs, [b"start"], [other.fileno()])
        uid = os.geteuid() + 1
        assert launcher._launch(ours, uid, "/helper", "") == REFUSED
    assert ran.command is None


def test_more_sockets_than_one_are_not_kept(ran, agents):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = descriptors()
    descriptor = os.open(agents, os.O_PATH)
    with ours, theirs:
        socket.send_fds(theirs, [b"start"], [descriptor] * 5)
        launcher._launch(ours, os.geteuid(), "/helper", "")
    os.close(descriptor)
    assert descriptors() == before - 2  # ours and theirs


def test_without_a_socket_nothing_is_run(ran):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(b"/tmp/tmpabcd_123/privsep.sock --config-file /tmp/x")
        uid = os.geteuid()
        assert launcher._launch(ours, uid, "/helper", "") == REFUSED
    assert ran.command is None


def test_another_user_is_not_answered(ran, agents, capsys):
    with serving(os.geteuid() + 1) as name:
        assert ask(name, agents) == 1
    assert "without an answer" in capsys.readouterr().err
    assert ran.command is None


def test_a_client_that_goes_away_does_not_end_the_launcher(ran, agents):
    with serving() as name:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(b"\0" + name.encode())
        assert ask(name, agents) == 0


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
def test_a_failure_is_told(ran, agents, capsys, exit_code, words):
    ran.exit_code = exit_code
    with serving() as name:
        assert ask(name, agents) == 1
    assert words in capsys.readouterr().err


def test_nobody_who_listens_is_told_in_one_line(agents, capsys):
    path = str(agents.parent / "nobody.sock")
    assert ask(path, agents) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: No such file" in line


def test_runs_the_helper_with_fixed_arguments_and_a_clean_environment(
    ran, agents, monkeypatch
):
    monkeypatch.setenv("LD_PRELOAD_X", "evil")
    with serving() as name:
        assert ask(name, agents) == 0
        assert ask(name, agents) == 0  # and again: daemons may die
    assert ran.command == [
        "/helper",
        "--config-file",
        "/x.conf",
        "--privsep_context",
        "ovn_metadata.privsep.context.default",
        "--privsep_sock_path",
        "/proc/self/fd/0",
    ]
    assert ran.options["env"] == {
        "PATH": os.defpath,
        "SUDO_UID": str(os.geteuid()),
    }


def test_without_a_configuration_the_helper_is_given_none(ran, agents):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = os.open(agents, os.O_PATH)
    with ours, theirs:
        socket.send_fds(theirs, [b"start"], [descriptor])
        assert launcher._launch(ours, os.geteuid(), "/helper", "") == "ok"
    os.close(descriptor)
    assert ran.command is not None
    assert "--config-file" not in ran.command


def test_root_without_a_capability_gets_at_the_socket_and_nobody_else(
    ran, agents
):
    """Everybody may write to it, in a folder of the agent's alone."""
    with serving() as name:
        assert ask(name, agents) == 0
    assert stat.S_IMODE(agents.stat().st_mode) == 0o666
    assert stat.S_IMODE(agents.parent.stat().st_mode) == 0o700


# ------------------------------------------- one connection, from systemd


def serve_one(connection: socket.socket, user: str) -> int:
    """Have the unit's program answer CONNECTION, which is its stdin."""
    saved, arguments = os.dup(0), sys.argv
    os.dup2(connection.fileno(), 0)
    sys.argv = ["ovn-metadata-privsep", user, "/helper", "/x.conf"]
    try:
        return launcher.serve_one()
    finally:
        sys.argv = arguments
        os.dup2(saved, 0)
        os.close(saved)


@contextlib.contextmanager
def asking(agents: Path, answers: list[int]) -> Iterator[socket.socket]:
    """Give the connection of an agent that asks at a socket of systemd's."""
    path = str(agents.parent / "unit.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(1)
        thread = threading.Thread(
            target=lambda: answers.append(ask(path, agents)), daemon=True
        )
        thread.start()
        connection, _ = listener.accept()
        with connection:
            yield connection
        thread.join(DEADLINE_S)


def test_the_unit_answers_its_user_and_ends(ran, agents):
    answers: list[int] = []
    own = pwd.getpwuid(os.geteuid()).pw_name
    with asking(agents, answers) as connection:
        assert serve_one(connection, own) == 0
    assert answers == [0]
    assert ran.command is not None
    assert ran.options["env"]["SUDO_UID"] == str(os.geteuid())


def test_the_unit_fails_for_another_user(ran, agents, capsys):
    answers: list[int] = []
    other = next(u for u in pwd.getpwall() if u.pw_uid != os.geteuid())
    with asking(agents, answers) as connection:
        assert serve_one(connection, other.pw_name) == 1
    assert answers == [1]
    said = capsys.readouterr().err
    assert f"refused: uid {os.geteuid()} is not {other.pw_name}" in said
    assert "its unit's journal has why" in said
    assert ran.command is None


def test_the_unit_may_end_before_it_is_asked(agents, capsys, monkeypatch):
    class Late(socket.socket):
        """Connected when the other end is gone."""

        def connect(self, address):
            super().connect(address)
            poll = select.poll()
            poll.register(self, select.POLLHUP)
            assert poll.poll(DEADLINE_S * 1000)

    answers: list[int] = []
    monkeypatch.setattr(socket, "socket", Late)
    with asking(agents, answers) as connection:
        connection.close()
    assert answers == [1]
    assert "its unit's journal has why" in capsys.readouterr().err


def test_the_unit_fails_when_the_helper_does(ran, agents):
    ran.exit_code = 3
    answers: list[int] = []
    own = pwd.getpwuid(os.geteuid()).pw_name
    with asking(agents, answers) as connection:
        assert serve_one(connection, own) == 1
    assert answers == [1]
