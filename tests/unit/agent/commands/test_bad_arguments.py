"""Wrong arguments of agent-status and its commands: one line, usage, 64."""

from __future__ import annotations

import random
import re

import pytest

from ovn_metadata.agent.commands import cleanup, client, status
from ovn_metadata.agent.commands.client import USAGE, printable

COMMANDS = ((), ("dump",), *((word,) for word in sorted(status.COMMANDS)))
NONSENSE = (
    *("--nonsense", "-x", "--json=1", "--wait=", "--nonsense=\x1b[2J"),
    *("--socket", "--config-file", "--timeout"),
)
ODD = (
    *("", "-", "--", "---", "-h=", "=", "x" * 100_000, "-" + "x" * 100_000),
    *("\x1b[2J\x1b]0;title\x07", "\n\n", "\r", "\t", "\x9b", "\u202e", "é"),
    *("\udcff\udcfe", "--\udcff", "%s%n", "$(reboot)", "'\"", "\\", "*"),
    *("--json", "--wait", "--timeout", "-1", "1e9", "nan", "dump", "why"),
    *("--socket", "/nowhere", "--config-file", "/dev/null", "--instance"),
    *("--network", "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f", "--all", "asks"),
    *("--config-dir", "--help", "--live", "--watch", "--wide", "\x7f"),
)
CONTROL = re.compile(
    r"[^\n\x20-\x7e\xa1-\uffff]|[\x80-\x9f\u202e\ud800-\udfff]"
)


def outcome(argv: list[str], capsys) -> tuple[object, str]:
    """Return the exit code of agent-status with ARGV, and its stderr."""
    try:
        code: object = status.main(["--socket", "/nowhere", *argv])
    except SystemExit as end:
        code = end.code
    _, errors = capsys.readouterr()
    assert CONTROL.search(errors) is None, argv
    assert len(errors) < 6000, argv
    return code, errors


@pytest.mark.parametrize("option", NONSENSE)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_wrong_option_has_one_line_the_usage_and_64(command, option, capsys):
    code, errors = outcome([*command, option], capsys)
    assert code == USAGE
    first, _, usage = errors.partition("\n")
    assert first.startswith("agent-status")
    assert usage.startswith("usage: agent-status")


@pytest.mark.parametrize(
    "argv",
    [
        ["unknown"],
        ["json"],
        ["--wait", "--json"],
        ["--network", "x", "--wait"],
        ["--network", "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"],
        ["--instance", "a b", "--wait"],
        ["--instance", "\x1b[2J", "--wait"],
        ["--timeout", "1"],
        ["--timeout", "-1", "--wait"],
        ["--timeout", "nan", "--wait"],
        ["dump"],
        ["dump", ""],
        ["dump", "a", "b"],
        ["dump", "--wait", "/tmp"],
    ],
    ids=" ".join,
)
def test_a_wrong_combination_has_one_line_the_usage_and_64(argv, capsys):
    code, errors = outcome(argv, capsys)
    assert code == USAGE
    first, _, usage = errors.partition("\n")
    assert first.startswith("agent-status")
    assert usage.startswith("usage: agent-status")


def test_cleanup_has_the_same_code_for_a_wrong_option(capsys):
    """2 would mean that everything is removed which was found."""
    with pytest.raises(SystemExit) as end:
        cleanup.main(["--dry-run=1"])
    assert end.value.code == USAGE
    assert "usage: ovn-metadata-cleanup" in capsys.readouterr().err


def test_drawn_arguments_end_in_a_documented_way(
    capsys, monkeypatch, tmp_path
):
    """Whatever they are: no traceback, nothing raw on a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status, "_DEFAULT_WAIT_S", 0.0)
    random_ = random.Random(5)
    codes = set()
    for _ in range(2000):
        argv = random_.choices(ODD, k=random_.randint(1, 4))
        if "--watch" in argv or ("--timeout" in argv and "1e9" in argv):
            continue
        code, _ = outcome(argv, capsys)
        codes.add(code)
    assert codes <= {0, 1, 2, 64}
    assert {0, 1, 64} <= codes


def test_what_is_shown_of_an_argument_is_short_and_printable():
    assert printable("a\n\x1b[2J\udcff é \u202e") == (
        r"a \x1b[2J\udcff é \u202e"
    )
    assert len(printable("x" * 100_000)) < 1010


def test_no_text_of_an_answer_is_obeyed_by_the_terminal():
    """A host that was broken into chooses its name in Southbound."""
    answer = {"\x1b[2J": ["a\x9b\u202e\r", {"b": "é\nc"}, 1, None]}
    assert client.each_text(answer, client._visible) == {
        "?[2J": ["a???", {"b": "é?c"}, 1, None]
    }
