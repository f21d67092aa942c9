"""Entrypoints: what crosses to the agent, and which calls wait."""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import sys
import threading
import types
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pyroute2.netlink.exceptions
import pytest
from oslo_privsep import comm, daemon, priv_context

from ovn_metadata.privsep import context, signals
from ovn_metadata.privsep.errors import (
    InvalidArgumentError,
    PrivilegedError,
    sentence,
)
from ovn_metadata.privsep.namespace import calls as network

MODULE = f"{context.__package__}.of_a_test"
DEADLINE_S = 10


@pytest.fixture
def channel(monkeypatch) -> Iterator[daemon._ClientChannel]:
    """Provide the agent's end of a daemon that runs in a thread."""
    monkeypatch.setattr(context.default, "client_mode", False)
    monkeypatch.setattr(signals, "survive", lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = daemon.Daemon(comm.ServerChannel(theirs), context.default)
        thread = threading.Thread(target=server.loop, daemon=True)
        thread.start()
        client = daemon._ClientChannel(ours, context.default)
        yield client
        client.writer.close()
        thread.join(DEADLINE_S)
        theirs.close()
        client.reader_thread.join(DEADLINE_S)


def failing(monkeypatch, error: BaseException) -> str:
    """Make an entrypoint that raises ERROR; return its name."""

    def fail() -> None:
        raise error

    fail.__module__, fail.__qualname__ = MODULE, "fail"
    module = types.ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(context, "of_a_test", module, raising=False)
    module.fail = context.entrypoint(subject=None)(fail)  # type: ignore[attr-defined]
    return f"{MODULE}.fail"


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("not so"),
        TypeError("remove() got an unexpected keyword argument 'x'"),
        OSError(16, "setns: busy"),
        pyroute2.netlink.exceptions.NetlinkError(17, "exists"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        KeyError("a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was(channel, monkeypatch, error):
    name = failing(monkeypatch, error)
    with pytest.raises(type(error)) as raised:
        channel.remote_call(name, (), {}, DEADLINE_S)
    assert str(raised.value) == str(error)


def test_an_error_of_a_file_arrives_with_its_number(channel, monkeypatch):
    error = PermissionError(13, "Permission denied", "/run/x")
    name = failing(monkeypatch, error)
    with pytest.raises(PermissionError) as raised:
        channel.remote_call(name, (), {}, DEADLINE_S)
    assert raised.value.args == (13, "/run/x: Permission denied")
    assert sentence(raised.value) == sentence(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (subprocess.TimeoutExpired(["a"], 15), "timed out after 15 seconds"),
        (xmlrpc.client.Fault(10, "BAD_NAME: x"), "BAD_NAME: x"),
        (xmlrpc.client.ProtocolError("u", 500, "why", {}), "500 why"),
        (
            pyroute2.netlink.exceptions.NetlinkDecodeError(ValueError("bad")),
            "bad",
        ),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be_rebuilt_arrives_as_its_words(
    channel, monkeypatch, error, words
):
    """Its class takes other arguments than it keeps, or keeps no text."""
    name = failing(monkeypatch, error)
    with pytest.raises(PrivilegedError) as raised:
        channel.remote_call(name, (), {}, DEADLINE_S)
    assert words in str(raised.value)


def test_no_module_of_others_is_imported_for_a_call(
    channel, monkeypatch, tmp_path
):
    """One may do anything as it is imported, before it is refused."""
    (tmp_path / "module_that_acts.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="Empty module name"):
        channel.remote_call("module_that_acts.x", (), {}, DEADLINE_S)
    assert "module_that_acts" not in sys.modules


def test_a_call_that_hangs_fails_with_the_remedy(monkeypatch):
    """The library's own exception has no text."""
    ours, theirs = socket.socketpair()
    server = comm.ServerChannel(theirs)

    def answer_the_ping_only() -> None:
        number, _ = next(server)
        server.send((number, (comm.Message.PONG.value,)))

    thread = threading.Thread(target=answer_the_ping_only, daemon=True)
    thread.start()
    with ours, theirs:
        client = context._Channel(ours, context.default)
        thread.join(DEADLINE_S)
        monkeypatch.setattr(context.default, "channel", client)
        monkeypatch.setattr(context.default, "timeout", 0.01)
        with pytest.raises(PrivilegedError, match=r"did not answer.*kill it"):
            network.list_networks()
        client.writer.close()
        theirs.close()
        client.reader_thread.join(DEADLINE_S)


def test_a_daemon_that_hangs_at_its_start_is_reported_too(monkeypatch):
    """Then it is the library's question whether it is there that fails."""
    ours, theirs = socket.socketpair()

    def start() -> None:
        context._Channel(ours, context.default)

    monkeypatch.setattr(context, "CALL_TIMEOUT_S", 0.01)
    monkeypatch.setattr(context.default, "channel", None)
    monkeypatch.setattr(context.default, "start", start)
    with theirs:
        with pytest.raises(PrivilegedError, match=r"did not answer.*kill it"):
            network.list_networks()
        theirs.close()


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.ENOMEM])
def test_a_connection_that_fails_is_at_its_end(number):
    """The next call starts another daemon; the agent need not end."""

    class Broken(socket.socket):
        def recv(self, *_args: int) -> bytes:
            raise OSError(number, "")

    with Broken() as connection:
        assert [*context._messages(comm.Deserializer(connection))] == []


def test_what_a_library_leaves_half_made_prints_nothing(monkeypatch):
    """pyroute2 without a descriptor: 17 lines at each try."""
    monkeypatch.setattr(sys, "unraisablehook", None)
    monkeypatch.setattr(signals, "survive", lambda: None)
    parent = priv_context.PrivContext
    monkeypatch.setattr(parent, "set_client_mode", lambda *_: None)
    object.__new__(context._Context).set_client_mode(enabled=False)
    hook: Any = sys.unraisablehook
    assert hook(None) is None


def test_where_no_daemon_can_be_started_is_named(tmp_path, monkeypatch):
    """Its unit is stopped, for example, or somebody has emptied /run."""
    path = str(tmp_path / "privsep.sock")
    monkeypatch.setattr(context.default, "channel", None)
    monkeypatch.setattr(context.default, "address", path)
    with pytest.raises(PrivilegedError, match=f"started by {path}: No such"):
        network.list_networks()


def test_a_daemon_that_is_killed_before_it_answers_keeps_no_connection():
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(PrivilegedError, match="ended before it answered"):
        context._Channel(ours, context.default)
    assert ours.fileno() == -1


# -------------------------------------------------------- which calls wait


@pytest.fixture
def held(monkeypatch) -> list[str]:
    """Record what calls hold a lock of; they run here, not in a daemon."""
    keys: list[str] = []

    class Recorder:
        @staticmethod
        @contextlib.contextmanager
        def held(key: str, _timeout_s: float) -> Iterator[None]:
            keys.append(key)
            yield

    monkeypatch.setattr(context.default, "client_mode", False)
    monkeypatch.setattr(context, "_subjects", Recorder)
    return keys


def test_a_call_by_keyword_holds_what_a_positional_one_does(held):
    with pytest.raises(InvalidArgumentError):
        network.remove("x")
    with pytest.raises(InvalidArgumentError):
        network.remove(network="x")
    assert held == ["x", "x"]


def test_a_call_holds_its_subject_wherever_it_stands(held):
    def share(state_path: str, network: str) -> str:
        return state_path + network

    share.__module__ = MODULE
    call = context.entrypoint(subject="network")(share)
    assert call("/s", "n") == "/sn"
    assert call(network="n", state_path="/s") == "/sn"
    assert held == ["n", "n"]


def test_a_call_without_a_subject_waits_for_none(held):
    def look(network: str) -> str:
        return network

    look.__module__ = MODULE
    assert context.entrypoint(subject=None)(look)("n") == "n"
    assert held == []


def test_a_call_waits_for_another_as_long_as_its_caller_does(monkeypatch):
    """Else calls for one network take all threads of the daemon."""

    def share(network: str) -> str:
        return network

    share.__module__ = MODULE
    call = context.entrypoint(subject="network")(share)
    monkeypatch.setattr(context.default, "client_mode", False)
    monkeypatch.setattr(context, "CALL_TIMEOUT_S", 0.01)
    with context._subjects.held("n"), pytest.raises(TimeoutError, match="n"):
        call("n")
    assert call("n") == "n"


def test_a_subject_that_is_no_parameter_is_a_mistake():
    def remove(network: str) -> str:
        return network

    remove.__module__ = MODULE
    with pytest.raises(TypeError, match="no parameter networks"):
        context.entrypoint(subject="networks")(remove)
