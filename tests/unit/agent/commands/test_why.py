"""`agent-status why`: arguments, what is printed, the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovn_metadata.agent.commands import why

OK = {
    "step": "map",
    "state": "ok",
    "text": "10.0.0.5 is vm-1",
    "code": "",
    "remedy": "",
    "detail": "",
}
WARN = {**OK, "state": "warn", "code": "OVNMD-507", "remedy": "start it"}
FAIL = {**OK, "state": "fail", "code": "OVNMD-309", "remedy": "leave it"}
PORT = {
    "network": "n",
    "network_name": "blue",
    "instance": "vm-1",
    "port": "p",
    "port_name": "",
    "address": "10.0.0.5",
}


def said(verdict: str, *hops: dict[str, str], behind: tuple[str, ...] = ()):
    return {
        "version": 1,
        "verdict": verdict,
        "name": "vm-1",
        **PORT,
        "hops": list(hops),
        "behind": list(behind),
        "hint": {"code": "OVNMD-601", "text": "datasource_list"}
        if verdict == "whole"
        else {},
        "commands": ["ovn-trace x"],
        "candidates": [],
    }


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ("whole", 0),
        ("no answer", 1),
        ("broken", 3),
        ("not here", 4),
        ("unseen", 5),
        ("warnings", 5),
        ("ambiguous", 64),
    ],
)
def test_exit_code_is_the_verdicts(verdict, code):
    assert why.exit_code({"verdict": verdict}) == code


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        (["whole"], 0),
        (["whole", "warnings"], 5),
        (["broken", "whole", "warnings"], 3),
    ],
)
def test_exit_code_of_all_is_the_worst(verdicts, code):
    networks = [{"verdict": each} for each in verdicts]
    assert why.exit_code({"networks": networks}) == code


def test_whole_path_ends_with_the_guest():
    lines = [*why.render(said("whole", OK))]
    assert "[ OK ]   map: 10.0.0.5 is vm-1" in lines
    assert any("datasource_list" in line for line in lines)
    assert "    ovn-trace x" in lines


def test_broken_hop_has_its_remedy_and_what_is_unknown():
    lines = [*why.render(said("broken", OK, FAIL, behind=("Nova",)))]
    text = "\n".join(lines)
    assert "[ FAIL ] map: OVNMD-309: 10.0.0.5 is vm-1" in lines
    assert "         do: leave it" in lines
    assert "#ovnmd-309" in text
    assert "Unknown, because it lies behind: Nova." in lines
    assert "datasource_list" not in text


def test_all_shows_in_full_what_is_broken_only():
    answer = {
        "networks": [said("whole", OK), said("warnings", OK, WARN)],
    }
    lines = [*why.render(answer)]
    assert lines[0].startswith("[ OK ]   network n")
    assert lines[1].startswith("[ WARN ] network n")
    assert lines[2].startswith("[ WARN ] map: OVNMD-507")
    assert lines[-1].startswith("2 networks, 0 broken, 1 with warnings; ")
    assert "ovn-trace" not in "".join(lines)
    answer["networks"].append(said("broken", FAIL))
    assert "    ovn-trace x" in [*why.render(answer)]


def test_agent_that_does_not_answer_is_the_first_broken_hop(
    tmp_path: Path, capsys
):
    assert why.main(tmp_path / "none.sock", ["vm-1"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("[ FAIL ] agent: OVNMD-407: the agent does not ans")
    assert "do: systemctl start ovn-metadata-agent" in text
    assert why.main(tmp_path / "none.sock", ["--all", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "no answer"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["a", "b"],
        ["a", "--all"],
        [""],
        [" "],
        ["a\nb"],
        ["--al"],
        ["x" * 300],
    ],
    ids=repr,
)
def test_wrong_argument_gets_one_line_and_the_usage(argv, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        why.main(tmp_path / "none.sock", argv)
    assert ended.value.code == 64
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("agent-status why: ")
    assert lines[1].startswith("usage: ")


def test_the_longest_name_that_neutron_has_is_one(tmp_path: Path, capsys):
    assert why.main(tmp_path / "none.sock", ["x" * 255]) == 1
    assert "OVNMD-407" in capsys.readouterr().out


def test_networks_without_time_are_counted():
    answer = {"networks": [said("whole", OK)], "late": 3}
    assert why.exit_code(answer) == 5
    *_, last = why.render(answer)
    assert last == "3 more networks: there was no time to look at them"
