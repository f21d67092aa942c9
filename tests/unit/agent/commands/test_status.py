"""`agent-status`: who answers, what it prints and what it exits with."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovn_metadata.agent.commands import client
from ovn_metadata.agent.commands import status as command
from ovn_metadata.agent.errors import AgentError
from ovn_metadata.agent.monitor import status_socket
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.monitor.status_socket import StatusServer

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


def ready_status() -> Status:
    status = Status("1.0")
    status.chassis("compute-1")
    status.rows(synced=True, problems={})
    status.served("gateway")
    status.served(
        NETWORK, addresses=("10.10.0.1/24",), instances=["i-1", "i-2"]
    )
    return status


@pytest.fixture
def answer(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that has a socket answer with TEXT, once."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "status.sock"))
    listener.listen(1)

    def serve(text: str) -> Path:
        def once() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                stream.readline()  # unread, it would reset the connection
                connection.sendall(text.encode())

        threading.Thread(target=once, daemon=True).start()
        return tmp_path / "status.sock"

    yield serve
    listener.close()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="it hangs up"),
        pytest.param("HTTP/1.1 400 Bad request\r\n", id="no JSON"),
        pytest.param("[1]", id="no object"),
        pytest.param('{"error": "x"}', id="another program's object"),
    ],
)
def test_something_else_answers(answer, text, capsys):
    assert command.main(["--socket", str(answer(text))]) == client.NO_ANSWER
    assert "does not answer" in capsys.readouterr().err


def test_nobody_answers(tmp_path, capsys):
    path = tmp_path / "absent"
    assert command.main(["--socket", str(path)]) == client.NO_ANSWER
    assert capsys.readouterr().err == (
        f"the agent does not answer: {path}: No such file or directory\n"
    )


def test_a_configuration_that_cannot_be_read_is_no_answer(tmp_path, capsys):
    file = tmp_path / "agent.conf"
    file.write_text("no section\n")
    assert command.main(["--config-file", str(file)]) == client.NO_ANSWER
    assert str(file) in capsys.readouterr().err


def test_the_socket_is_the_configured_one(tmp_path, capsys):
    file = tmp_path / "agent.conf"
    file.write_text("[DEFAULT]\nstate_path = /nowhere\n")
    assert command.main(["--config-file", str(file)]) == client.NO_ANSWER
    assert "/nowhere/ovn-metadata-agent.sock" in capsys.readouterr().err


def test_json_is_the_status_itself(answer, capsys):
    told = json.dumps(ready_status().as_dict())
    path = answer(told)
    assert command.main(["--socket", str(path), "--json"]) == client.OK
    assert json.loads(capsys.readouterr().out) == json.loads(told)


def not_ready(status: Status) -> None:
    status.waits_for("southbound", "tcp:192.0.2.1:6642: refused")
    status.failed(NETWORK, AgentError("disk full"))


def not_synced(status: Status) -> None:
    status.rows(synced=False, problems={})


def degraded(status: Status) -> None:
    status.failed(NETWORK, AgentError("disk full"))


def with_remarks(status: Status) -> None:
    status.served(NETWORK, conflicts=["10.10.0.5 claimed by ports a, b"])
    status.gone("gateway")
    status.rows(synced=True, problems={"x": "port 'x' skipped"})


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        pytest.param(
            not_ready,
            client.NOT_READY,
            "waiting: tcp:192.0.2.1:6642: refused",
            id="it waits for a database, whatever failed",
        ),
        pytest.param(
            not_synced, client.NOT_READY, "not ready", id="it has no rows yet"
        ),
        pytest.param(
            degraded,
            client.DEGRADED,
            "\n1 of 2 can't be served:\n"
            f"{NETWORK}: FAILED: disk full\ngateway: serves\n",
            id="a network fails and is named",
        ),
        pytest.param(
            with_remarks,
            client.DEGRADED,
            "error OVNMD-109: a row of OVN Southbound can't be used: port 'x' "
            "skipped\n"
            "  do: correct the port in Neutron, or run ",
            id="rows and conflicts are reported, the rest is served",
        ),
        pytest.param(
            lambda _status: None,
            client.OK,
            f"{NETWORK}: serves 2 instances on 10.10.0.1/24\n"
            "gateway: serves\n",
            id="all is served",
        ),
    ],
)
def test_text_and_exit_code(answer, capsys, change, code, text):
    status = ready_status()
    change(status)
    path = answer(json.dumps(status.as_dict()))
    assert command.main(["--socket", str(path)]) == code
    assert text in capsys.readouterr().out


def test_what_fails_is_told_before_what_is_served():
    status = ready_status()
    status.failed("ffff", AgentError("disk full"))
    status.rows(synced=True, problems={"x": "port 'x' skipped"})
    lines = command.render(status.as_dict()).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        *("error OVNMD-109", "  do", "error OVNMD-202", "  do"),
        *("1 of 3 can't be served", "ffff", NETWORK, "gateway"),
    ]


def test_who_is_over_a_share_is_named_and_the_networks_are_served():
    status = ready_status()
    sums = {"refused_connections": 7, "unlogged_requests": 0}
    status.shares(NETWORK, sums, over=["i-1"])
    status.shares("not there", sums, over=["i-1"])
    told = status.as_dict()
    assert command.exit_code(told) == client.WITH_PROBLEMS
    lines = command.render(told).splitlines()
    assert lines[-3:-1] == [
        "  beyond a share: 7 refused connections",
        "  over its share: i-1",
    ]
    assert told["networks"][NETWORK]["shares"] == sums


def test_requests_over_the_rate_limit_are_summed_for_the_host():
    status = ready_status()
    status.served("another")
    for network in (NETWORK, "another"):
        status.shares(network, {"rate_limited_requests": 3}, over=[])
    lines = command.render(status.as_dict()).splitlines()
    assert "6 requests over metadata_rate_limiting (429)" in lines
    assert lines.count("  beyond a share: 3 rate limited requests") == 2


# ---------------------------------------------------------------- --wait


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[Status, list[str]]]:
    """Provide the status of an agent that serves, and what to wait with."""
    status = ready_status()
    server = StatusServer(tmp_path / "agent.sock", status)
    server.start()
    yield status, ["--wait", "--socket", str(tmp_path / "agent.sock")]
    server.stop()


def all_failed(status: Status) -> None:
    degraded(status)
    status.failed("gateway", AgentError("x"))


NAMED = ["--network", NETWORK]
VM = ["--instance", "i-1"]


@pytest.mark.parametrize(
    ("change", "what", "code", "said"),
    [
        pytest.param(
            not_ready,
            [],
            client.NOT_READY,
            "every network is not served after 0 s: the agent is not ready: "
            "tcp:192.0.2.1:6642: refused",
            id="it waits for a database",
        ),
        pytest.param(
            not_synced,
            ["--instance", "i-3"],
            client.NOT_READY,
            "instance i-3 is not served after 0 s: the agent is not ready: it "
            "has no rows yet",
            id="it has no rows yet",
        ),
        pytest.param(
            degraded,
            NAMED,
            client.DEGRADED,
            f"network {NETWORK} is not served after 0 s: {NETWORK} can't be "
            f"served: disk full",
            id="the network fails",
        ),
        pytest.param(
            degraded,
            VM,
            client.DEGRADED,
            f"instance i-1 is not served after 0 s: {NETWORK} can't be "
            f"served: disk full",
            id="the instance's network fails",
        ),
        pytest.param(
            all_failed,
            [],
            client.DEGRADED,
            f"every network is not served after 0 s: {NETWORK} can't be "
            f"served: disk full (and 1 more)",
            id="several fail",
        ),
        pytest.param(
            lambda status: status.gone(NETWORK),
            NAMED,
            client.ABSENT,
            f"network {NETWORK} is not served after 0 s: the agent is ready "
            f"and has no such port on this host",
            id="the network is not here",
        ),
        pytest.param(
            lambda _status: None,
            ["--instance", "i-3"],
            client.ABSENT,
            "instance i-3 is not served after 0 s: the agent is ready and has "
            "no such port on this host",
            id="the instance is not here",
        ),
    ],
)
def test_wait_reports_how_it_stands(agent, capsys, change, what, code, said):
    status, wait = agent
    change(status)
    assert command.main([*wait, *what, "--timeout", "0"]) == code
    assert capsys.readouterr() == ("", f"{said}\n")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ([], "every network is served\n"),
        (NAMED, f"network {NETWORK} is served\n"),
        (["--network", NETWORK.upper()], f"network {NETWORK} is served\n"),
        (VM, "instance i-1 is served\n"),
    ],
)
def test_wait_returns_at_once_for_what_is_served(agent, capsys, what, said):
    _, wait = agent
    assert command.main([*wait, *what, "--timeout", "0"]) == client.OK
    assert capsys.readouterr() == (said, "")


def test_wait_returns_when_it_is_served(agent):
    status, wait = agent
    codes = []
    waiter = threading.Thread(
        target=lambda: codes.append(command.main([*wait, "--instance", "i-3"]))
    )
    waiter.start()
    status.served(NETWORK, instances=["i-3"])
    waiter.join(20)
    assert codes == [client.OK]


def test_wait_asks_again_after_the_longest_time_of_the_agent(
    agent, monkeypatch
):
    monkeypatch.setattr(status_socket, "MAX_WAIT_S", 0.05)
    monkeypatch.setattr(command, "MAX_WAIT_S", 0.05)
    test_wait_returns_when_it_is_served(agent)


def test_wait_for_an_agent_that_is_not_there(tmp_path, capsys):
    """Until the time is over, at least: it may be started yet."""
    path = tmp_path / "absent"
    began = time.monotonic()
    arguments = ["--wait", "--timeout", "0.5", "--socket", str(path)]
    assert command.main(arguments) == client.NO_ANSWER
    assert time.monotonic() - began >= 0.5
    assert capsys.readouterr().err == (
        f"every network is not served after 0.5 s: the agent does not answer: "
        f"{path}: No such file or directory\n"
    )


def test_wait_ends_when_the_agent_comes(tmp_path):
    path = tmp_path / "agent.sock"
    codes = []
    waiter = threading.Thread(
        target=lambda: codes.append(
            command.main(["--wait", "--socket", str(path)])
        )
    )
    waiter.start()
    server = StatusServer(path, ready_status())
    server.start()
    waiter.join(20)
    server.stop()
    assert codes == [client.OK]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--wait", "--network", "n1"], "'n1' is not a uuid"),
        (["--wait", "--network", "gateway"], "'gateway' is not a uuid"),
        (["--wait", "--network", ""], "'' is not a uuid"),
        (["--wait", "--instance", "a/b"], "'a/b' is not an id"),
        (["--wait", "--instance", "a" * 256], "is not an id"),
        (["--wait", *NAMED, *VM], "not allowed with"),
        (["--wait", "--json"], "not allowed with"),
        (["--wait", "--timeout", "nan"], "'nan' is not in seconds"),
        (["--wait", "--timeout", "-1"], "'-1' is not in seconds"),
        (["--wait", "--timeout", "1e3"], "'1e3' is not in seconds"),
        (["--wait", "i-1"], "unrecognized arguments"),
        (NAMED, "--network needs --wait"),
        (VM, "--instance needs --wait"),
        (["--timeout", "0"], "--timeout needs --wait"),
        (["reboot"], "unrecognized arguments: reboot"),
        (["--socket"], "expected one argument"),
    ],
)
def test_wrong_usage_is_one_line_and_the_usage(capsys, arguments, reason):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == client.USAGE
    line, usage, *_ = capsys.readouterr().err.splitlines()
    assert reason in line
    assert usage.startswith("usage: agent-status ")


# ---------------------------------------------------------------- words


def test_a_word_is_a_command_with_the_socket_and_its_own_arguments(
    tmp_path, monkeypatch
):
    calls = []

    def run(path: Path, argv: list[str]) -> int:
        calls.append((path, argv))
        return 5

    monkeypatch.setitem(command.COMMANDS, "why", run)
    path = tmp_path / "agent.sock"
    given = ["why", "--socket", str(path), "--json", "i-1", "i-2"]
    assert command.main(given) == 5
    assert calls == [(path, ["--json", "i-1", "i-2"])]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "is not the agent's socket"),
        ('{"error": "no such port"}', "no such port"),
        (json.dumps({"ready": True}), "older than this program"),
    ],
)
def test_a_handler_that_did_not_answer(answer, text, reason):
    with pytest.raises(ValueError, match=reason):
        client.ask_handler(answer(text), {"why": "i-1"}, timeout_s=5)


def test_an_answer_with_an_escape_sequence_is_printed_without_it(
    answer, capsys
):
    told = ready_status().as_dict()
    told["networks"][NETWORK]["conflicts"] = ["10.0.0.5 \x1b[2J"]
    command.main(["--socket", str(answer(json.dumps(told)))])
    assert "10.0.0.5 ?[2J" in capsys.readouterr().out
