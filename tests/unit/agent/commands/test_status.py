"""`agent-status`: who answers, what it prints and what it exits with."""

from __future__ import annotations

import errno
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ovn_metadata.agent import unixsocket
from ovn_metadata.agent.commands import client, status_text
from ovn_metadata.agent.commands import status as command
from ovn_metadata.agent.errors import AgentError, HaproxyError
from ovn_metadata.agent.haproxy.asks import SHIELD
from ovn_metadata.agent.monitor import status_socket
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.monitor.status_socket import StatusServer

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


def ready_status() -> Status:
    status = Status("1.0")
    status.chassis = "compute-1"
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
    ("text", "said"),
    [
        pytest.param("", "it closed the connection", id="it hangs up"),
        pytest.param(
            "HTTP/1.1 400 Bad request\r\n", "is not the agent's", id="no JSON"
        ),
        pytest.param("[1]", "is not the agent's", id="no object"),
        pytest.param(
            '{"ready": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "is not the agent's",
            id="too deep",
        ),
        pytest.param(
            '{"error": "x"}',
            "is not the agent's",
            id="another program's object",
        ),
    ],
)
def test_something_else_answers(answer, text, said, capsys):
    assert command.main(["--socket", str(answer(text))]) == client.NO_ANSWER
    shown = capsys.readouterr().err
    how = "the answer can't be used" if text else "the agent does not answer"
    assert shown.startswith(f"{how}: ")
    assert said in shown
    assert "start it" not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"ready": true}', "the agent is older than this program: restart"),
        ('{"error": "its disk is full"}', "its disk is full"),
    ],
)
def test_an_answer_is_not_called_none(answer, text, said, capsys):
    asked = ["--socket", str(answer(text)), "asks"]
    assert command.main(asked) == client.NO_ANSWER
    assert f"the answer can't be used: {said}" in capsys.readouterr().err


def test_who_may_not_ask_need_not_start_it(tmp_path, monkeypatch, capsys):
    def refuse(*_: object, **_more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(unixsocket, "exchange", refuse)
    asked = ["--socket", str(tmp_path / "agent.sock")]
    for more in ((), ("why", "vm-1")):
        assert command.main([*asked, *more]) == client.NO_ANSWER
        shown = "".join(capsys.readouterr())
        assert "use sudo" in shown
        assert "start" not in shown


def test_nobody_answers(tmp_path, capsys):
    path = tmp_path / "absent"
    assert command.main(["--socket", str(path)]) == client.NO_ANSWER
    assert capsys.readouterr().err == (
        f"the agent does not answer: {path}: No such file or directory; "
        f"start it: the networks are still served (OVNMD-407)\n"
    )


@pytest.mark.parametrize(
    "more",
    [(), ("--live",), ("--wait", "--timeout", "0"), ("asks",), ("why", "x")],
)
def test_a_configuration_that_cannot_be_read(
    answer, tmp_path, monkeypatch, capsys, more
):
    """The agent may have started before it was edited: a probe asks it."""
    file = tmp_path / "agent.conf"
    file.write_text("no section\n")
    asked = ["--config-file", str(file), *more]
    monkeypatch.setattr(client, "DEFAULT_SOCKET", tmp_path / "absent")
    assert command.main(asked) == client.NO_ANSWER
    assert str(file) in capsys.readouterr().err
    if not more:
        path = answer(json.dumps(ready_status().as_dict()))
        monkeypatch.setattr(client, "DEFAULT_SOCKET", path)
        assert command.main(asked) == client.OK


def test_a_name_has_letters_that_the_locale_has_not(answer, monkeypatch):
    status = ready_status()
    status.names = {NETWORK: "\u2603"}
    path = answer(json.dumps(status.as_dict()))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "latin-1"))
    assert command.main(["--socket", str(path)]) == client.OK
    sys.stdout.flush()
    assert rb"\u2603" in shown.getvalue()


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
            f"\n{NETWORK}: FAILED for 0 s, OVNMD-202: disk full\n"
            "gateway: serves\n",
            id="a network fails and is named",
        ),
        pytest.param(
            with_remarks,
            client.DEGRADED,
            "  port 'x' skipped\n  do: do what the reason says, or correct ",
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
    lines = status_text.render(status.as_dict()).splitlines()
    firsts = [line.partition(" ")[0] for line in lines if line[:1] != " "]
    assert firsts == [
        *("degraded:", "ERROR", "ERROR"),
        *("", "agent:", "OVN", "Open", ""),
        *("ffff:", f"{NETWORK}:", "gateway:"),
    ]


def test_who_is_over_a_share_is_named_and_the_networks_are_served():
    status = ready_status()
    sums = {"refused_connections": 7, "unlogged_requests": 0}
    status.shares(NETWORK, sums, over=["i-1"])
    status.shares("not there", sums, over=["i-1"])
    told = status.as_dict()
    assert command._CODES[told["health"]] == client.WITH_PROBLEMS
    lines = status_text.render(told).splitlines()
    assert lines[-3:-1] == [
        "  over a share: 7 refused connections",
        "  over its share: i-1",
    ]
    assert told["networks"][NETWORK]["shares"] == sums


def test_what_the_shield_counted_has_a_line_of_its_own():
    status = ready_status()
    first, second, _ = SHIELD
    sums = {"unlogged_requests": 2, first: 3, second: 0}
    status.shares(NETWORK, sums, over=[])
    lines = status_text.render(status.as_dict()).splitlines()
    assert lines[-3:-1] == [
        "  over a share: 2 unlogged requests",
        "  shield: 3 forwarded requests",
    ]


def test_requests_over_the_rate_limit_are_summed_for_the_host():
    status = ready_status()
    status.served("another")
    for network in (NETWORK, "another"):
        status.shares(network, {"rate_limited_requests": 3}, over=[])
    lines = status_text.render(status.as_dict()).splitlines()
    assert "6 requests over metadata_rate_limiting (429)" in lines
    assert lines.count("  over a share: 3 rate limited requests") == 2


# ---------------------------------------------------------------- the text


def full_status() -> Status:
    """Return a status of which every part is known."""
    status = ready_status()
    status.names = {NETWORK: "blue", "i-1": "web-0", "i-2": ""}
    idl = {
        "remote": "tcp:192.0.2.1:6642",
        "connected": True,
        "since": time.time() - 7300,
        "changed": time.time() - 125,
        "silent_s": 3.2,
        "rows": 812,
    }
    process = {
        "state": "running",
        "pid": 7,
        "since": time.time() - 90,
        "restarts": 2,
    }
    nova = {
        "address": "192.0.2.7:8775",
        "state": "up",
        "latency_ms": 12.4,
    }
    registration = {"agent_id": "a-1", "heartbeat": time.time() - 12}
    status.parts |= {
        "southbound": lambda: idl,
        "vswitch": lambda: {**idl, "connected": False},
        "registration": lambda: registration,
        "fleet": lambda: {"supervisord": process, "polled": time.time()},
        "nova": lambda: [nova],
        "progress": lambda: {"the service": 1.0},
    }
    status.process = lambda _network: {**process, "digest": "abc"}
    status.queue = lambda: {NETWORK: 2.0}
    return status


def test_the_text_of_a_healthy_agent():
    report = {**full_status().as_dict(), "version": "1.0", "pid": 32}
    assert status_text.render(report).splitlines() == [
        "healthy: 1 of 1 network served",
        "",
        "agent: 1.0, pid 32, up 0 s, catching up, chassis compute-1",
        "registration: a-1, heartbeat 12 s ago",
        "OVN Southbound: tcp:192.0.2.1:6642 connected for 2 h, heard 3 s ago, "
        "changed 2 min ago, 812 rows",
        "Open vSwitch: tcp:192.0.2.1:6642 DISCONNECTED for 2 h, heard 3 s "
        "ago, changed 2 min ago, 812 rows",
        "queue: 1 network, the oldest for 2 s",
        "supervisord: running, pid 7, up 90 s, 2 restarts",
        "Nova: 192.0.2.7:8775 up, answers in 12 ms",
        "",
        f"{NETWORK} (blue): serves 2 instances on 10.10.0.1/24",
        "gateway: serves",
    ]


def test_a_server_of_nova_that_is_down_answers_in_no_time():
    report = full_status().as_dict()
    report["nova"][0]["state"] = "down"
    lines = status_text.render(report).splitlines()
    assert "Nova: 192.0.2.7:8775 down" in lines


def test_the_wide_text_has_processes_and_instances():
    text = status_text.render(full_status().as_dict(), wide=True)
    assert text.splitlines()[-9:-4] == [
        "  haproxy: running, pid 7, up 90 s, 2 restarts",
        "  configuration: abc, wanted ",
        "  reconciled 1 times, failed 0, repaired 0",
        "  instance i-1 (port web-0)",
        "  instance i-2",
    ]


def test_a_problem_says_what_is_wrong_where_and_what_to_do():
    status = full_status()
    status.failed(NETWORK, HaproxyError("its haproxy ends at once"))
    lines = status_text.render(status.as_dict(), colour=True).splitlines()
    assert lines[0] == "\x1b[31mdegraded: 0 of 1 network served\x1b[0m"
    began = time.strftime("%d %b %H:%M")
    assert lines[1].startswith(
        f"\x1b[31mERROR OVNMD-301\x1b[0m a network's haproxy does not work, "
        f"network {NETWORK} (blue) (since {began}"
    )
    assert lines[2] == "  its haproxy ends at once"
    assert lines[3].startswith("  do: read its log")
    assert lines[4] == "  see: docs/how-to/troubleshoot.md#ovnmd-301"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (200000, "2 d"),
    ],
)
def test_a_span_of_time(seconds, text):
    assert status_text.span(seconds) == text


# ---------------------------------------------------------------- the schema

SCHEMA = json.loads(
    (
        Path(__file__).parents[4] / "docs/reference/status.schema.json"
    ).read_text()
)


def closed(schema: Any) -> Any:
    """Return SCHEMA such that it refuses what it does not describe."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(each) for key, each in schema.items()}
    if "properties" in schema:
        made.setdefault("additionalProperties", False)
    return made


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(Status("1.0"), id="just started"),
        pytest.param(ready_status(), id="ready"),
        pytest.param(full_status(), id="all is known"),
    ],
)
def test_the_report_is_as_the_schema_describes_it(status):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    check = jsonschema.Draft202012Validator(closed(SCHEMA)).validate
    report = json.loads(json.dumps(status.as_dict()))
    report["networks"].get(NETWORK, {}).setdefault("process", {})
    for entry in report["networks"].values():
        entry["process"] = entry["process"] or {
            **dict.fromkeys(("pid", "since", "restarts"), 0),
            **dict.fromkeys(("state", "digest"), ""),
        }
    check(report)
    status.failed(NETWORK, HaproxyError("x"))
    status.note("OVNMD-305", "i-1", about=NETWORK)
    report = json.loads(json.dumps(status.as_dict()))
    jsonschema.Draft202012Validator(
        closed(SCHEMA["properties"]["problems"])
    ).validate(report["problems"])


# ---------------------------------------------------------------- --wait


@pytest.fixture
def agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Status, list[str]]]:
    """Provide the status of an agent that serves, and what to wait with."""
    # Both are threads of one process here, on a machine that may be busy.
    monkeypatch.setattr("ovn_metadata.agent.commands.status._PATIENCE_S", 20)
    status = ready_status()
    server = StatusServer(tmp_path / "agent.sock", status)
    server.start("status")
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
        f"{path}: No such file or directory; start it: the networks are still "
        f"served (OVNMD-407)\n"
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
    server.start("status")
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
        (["--wait", "--json"], "--json: not allowed with --wait"),
        (["--live", "--json"], "not allowed with"),
        (["--wide", "--json"], "not allowed with"),
        (["--watch", "--wide", "--json"], "not allowed with"),
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


# ---------------------------------------------------------------- a hang


def test_an_agent_that_hangs_is_reported_within_a_second(tmp_path, capsys):
    """It is stopped, say: the kernel takes its clients for it."""
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        for arguments in ([], ["--json"], ["--live"], [], ["--live"]):
            given = ["--socket", str(path), *arguments]
            for _ in range(3):
                began = time.monotonic()
                assert command.main(given) == client.NO_ANSWER
                took_s = time.monotonic() - began
                said = capsys.readouterr().err
                assert said.startswith("the agent hangs (OVNMD-407): ")
                assert "restart it: the networks are still served" in said
                if took_s < 1:  # else a busy machine took the rest
                    break
            assert took_s < 1


def test_a_locked_status_is_a_hang(agent, capsys):
    status, (_, *source) = agent
    with status._lock:
        assert command.main(source) == client.NO_ANSWER
        assert "the agent hangs" in capsys.readouterr().err


def test_live_is_whether_the_parts_make_progress(agent, capsys):
    status, (_, *source) = agent
    with status._lock:  # other threads find out if it lasts
        assert command.main([*source, "--live"]) == client.OK
    age_s = 61.2
    status.expect("the service", 60, lambda: age_s)
    assert command.main([*source, "--live"]) == client.NO_ANSWER
    assert capsys.readouterr().err == "the agent hangs: the service for 61 s\n"
    status.failed(NETWORK, AgentError("x"))
    age_s = 0
    assert command.main([*source, "--live"]) == client.OK


def test_200_networks_take_less_than_0_3_s(agent, capsys):
    status, (_, *source) = agent
    for number in range(200):
        network = NETWORK[:-4] + f"{number:04d}"
        addresses = [f"10.{number}.0.1/24", "169.254.169.254/32"]
        ids = [f"{network[:-1]}{each}" for each in range(9)]
        status.served(network, addresses=addresses, instances=ids)
        if number % 2:
            status.failed(network, HaproxyError("its haproxy ends at once"))
    began = time.process_time()
    assert command.main([*source, "--wide"]) == client.DEGRADED
    assert time.process_time() - began < 0.3
    assert len(capsys.readouterr().out.splitlines()) > 400


def test_ready_is_whether_all_is_served(agent, capsys):
    status, (_, *source) = agent
    assert command.main([*source, "--ready"]) == client.OK
    status.note("OVNMD-305", "i-1", about=NETWORK)
    assert command.main([*source, "--ready"]) == client.OK
    assert capsys.readouterr().out == (
        "healthy: 1 of 1 network served\n"
        "served, with problems: 1 of 1 network served\n"
    )
    degraded(status)
    assert command.main([*source, "--ready"]) == client.DEGRADED
    not_synced(status)
    assert command.main([*source, "--ready"]) == client.NOT_READY


# ---------------------------------------------------------------- --watch


class Pipe:
    """Standard output to a reader that leaves when it has seen ENOUGH."""

    def __init__(self, on_state: Callable[[str], bool]) -> None:
        self._on_state = on_state
        self.is_enough = False

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise io.UnsupportedOperation

    def flush(self) -> None:
        if self.is_enough:
            raise BrokenPipeError

    def write(self, text: str) -> None:
        if text.startswith("{"):
            assert "\n" not in text
            self.is_enough = self._on_state(json.loads(text)["health"])
        elif " served" in text:
            self.is_enough = self._on_state(text.partition(":")[0])


@pytest.mark.parametrize("how", [["--json"], []])
def test_watch_prints_each_change_once(agent, monkeypatch, how):
    status, (_, *source) = agent
    states = []

    def on_state(state: str) -> bool:
        states.append(state)
        if len(states) == 1:
            ids = ["i-1", "i-2"]
            status.served(NETWORK, addresses=["10.10.0.1/24"], instances=ids)
            status.failed(NETWORK, HaproxyError("x"))
        elif len(states) == 2:
            status.served(NETWORK, instances=["i-1"])
        return len(states) == 3

    monkeypatch.setattr(sys, "stdout", Pipe(on_state))
    assert command.main(["--watch", *source, *how]) == client.OK
    assert states == ["healthy", "degraded", "healthy"]


def test_colour_is_for_terminals_that_want_it(answer, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for terminal, no_colour, coloured in (
        (True, "", True),
        (True, "1", False),
        (False, "", False),
    ):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)  # noqa: B023
        monkeypatch.setenv("NO_COLOR", no_colour)
        path = answer(json.dumps(ready_status().as_dict()))
        command.main(["--socket", str(path)])
        assert ("\x1b[" in capsys.readouterr().out) is coloured


def test_an_agent_of_another_version_is_no_answer(answer, capsys):
    path = answer('{"ready": true, "problems": []}')
    assert command.main(["--socket", str(path)]) == client.NO_ANSWER
    assert "another version: restart it" in capsys.readouterr().err
