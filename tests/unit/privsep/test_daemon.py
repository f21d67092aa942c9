"""The daemon's start: whom it serves, and where it says why it does not."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import sys
from collections.abc import Iterator

import pytest
from oslo_config import cfg
from oslo_privsep import daemon as library

from ovn_metadata.privsep import context, daemon, rootfiles

OWN = pwd.getpwuid(os.geteuid()).pw_name
OTHER = next(
    user.pw_name for user in pwd.getpwall() if user.pw_uid != os.geteuid()
)


@pytest.fixture
def agent() -> Iterator[socket.socket]:
    """Have a connection as stdin; provide its other end."""
    saved = os.dup(0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.dup2(theirs.fileno(), 0)
        theirs.close()
        yield ours
        os.dup2(saved, 0)
        os.close(saved)


@pytest.fixture
def started(monkeypatch) -> Iterator[list[library.Daemon]]:
    """Record the daemons that would run from here on."""
    found: list[library.Daemon] = []

    def run(each: library.Daemon) -> None:
        found.append(each)
        each.channel.send("to the agent")

    monkeypatch.setattr(library.Daemon, "run", run)
    monkeypatch.setattr(library, "replace_logging", lambda _handler: None)
    monkeypatch.setenv("SUDO_UID", "4711")
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", root.level)
    yield found
    cfg.CONF([], default_config_files=[])


def serve(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ovn-metadata-privsep", *arguments])
    return daemon.main()


@pytest.mark.parametrize("arguments", [[], [OWN]], ids=["", "a user"])
def test_by_hand_it_says_who_starts_it(monkeypatch, capsys, arguments):
    with open(os.devnull) as nowhere:
        saved = os.dup(0)
        os.dup2(nowhere.fileno(), 0)
        try:
            assert serve(monkeypatch, *arguments) == 1
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    said = capsys.readouterr().err
    assert "systemd runs it: start ovn-metadata-privsep.socket" in said


def test_its_user_is_served_over_the_connection(agent, started, monkeypatch):
    assert serve(monkeypatch, OWN) == 0
    (served,) = started
    assert served.context is context.default
    assert b"to the agent" in agent.recv(100)
    assert rootfiles.caller_uid() == os.geteuid()


@pytest.mark.parametrize("user", [OTHER, "nobody-such"])
def test_another_user_is_refused(agent, started, monkeypatch, capsys, user):
    assert serve(monkeypatch, user) == 1
    said = capsys.readouterr().err
    assert f"refused: uid {os.geteuid()} is not {user}" in said
    assert started == []
    assert rootfiles.caller_uid() == 4711


def test_the_settings_are_roots(agent, started, monkeypatch, tmp_path):
    file = tmp_path / "privileged.conf"
    file.write_text("")
    assert serve(monkeypatch, OWN, str(file)) == 0
    assert cfg.CONF.config_file == [str(file)]


def test_why_it_does_not_start_is_sent_to_the_agent_too(
    agent, started, monkeypatch, capsys, tmp_path
):
    assert serve(monkeypatch, OWN, str(tmp_path / "none.conf")) == 1
    assert "none.conf" in capsys.readouterr().err


def test_an_agent_that_ends_at_once_is_no_failure(
    agent, started, monkeypatch, capsys
):
    def end(_daemon) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(library.Daemon, "run", end)
    assert serve(monkeypatch, OWN) == 0
    assert capsys.readouterr().err == ""


def test_capabilities_that_root_lacks_are_named(
    agent, started, monkeypatch, capsys
):
    """As in a container that may not have them."""

    def run(_daemon) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(library.Daemon, "run", run)
    assert serve(monkeypatch, OWN) == 1
    assert "root lacks one of CAP_CHOWN, " in capsys.readouterr().err
