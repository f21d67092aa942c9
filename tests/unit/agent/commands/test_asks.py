"""`agent-status asks`: its text and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovn_metadata.agent.commands import asks, status
from ovn_metadata.agent.commands.client import (
    ABSENT,
    NO_ANSWER,
    OK,
    USAGE,
)

ENTRY = {
    "instance": "6b1d2c1e",
    "port_name": "web-1",
    "network": "n-1",
    "network_name": "",
    "last_seen": 990,
    "requests": 12,
    "paths": {"meta_data": 3, "user_data": 0, "ec2": 9, "other": 0},
    "clients": {"cloud-init": 12, "other": 0},
    "answers": {"404": 2, "good": 10},
    "forwarded": 0,
}
TEXT = """\
6b1d2c1e (web-1), network n-1
  12 requests, last 10 s ago
  paths: 3 meta_data, 9 ec2
  clients: 12 cloud-init
  answers: 2 404, 10 good"""


def test_text():
    answer = {"asks": [ENTRY], "unknown": ["n-2"], "is_known": True}
    said = asks.render(answer, 1000.0)
    assert said == f"{TEXT}\nn-2: its haproxy does not answer"
    forwarded = {**ENTRY, "forwarded": 3}
    said = asks.render({**answer, "asks": [forwarded], "unknown": []}, 1000.0)
    assert said == f"{TEXT}\n  forwarded for somebody else: 3"
    said = asks.render({**answer, "asks": [{**ENTRY, "requests": 1}]}, 1000.0)
    assert "  1 request, last" in said
    nothing = {"asks": [], "unknown": [], "is_known": True}
    assert asks.render(nothing, 0).startswith("nothing asked")
    assert "has this name" in asks.render({**nothing, "is_known": False}, 0)


@pytest.mark.parametrize(("found", "code"), [([ENTRY], OK), ([], ABSENT)])
def test_json_and_exit_code(monkeypatch, capsys, found, code):
    answer = {"asks": found, "unknown": []}
    asked = []

    def ask(path, question, *, timeout_s):
        asked.append((path, question, timeout_s))
        return answer

    monkeypatch.setattr(asks, "ask_handler", ask)
    assert asks.run(Path("/s"), ["--json", "web-1"]) == code
    assert json.loads(capsys.readouterr().out) == answer
    assert asked[0][:2] == (Path("/s"), {"asks": "web-1"})


def test_an_agent_that_does_not_answer(capsys):
    assert status.main(["--socket", "/no/such/socket", "asks"]) == NO_ANSWER
    said = capsys.readouterr().err
    assert "No such file" in said
    assert "start it" in said


@pytest.mark.parametrize("argv", [["a", "b"], ["--no"], ["x" * 256]])
def test_wrong_arguments(capsys, argv):
    with pytest.raises(SystemExit) as ended:
        asks.run(Path("/s"), argv)
    assert ended.value.code == USAGE
    assert "usage: agent-status asks" in capsys.readouterr().err
