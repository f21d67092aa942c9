"""What the agent says when it can't go on."""

from __future__ import annotations

import faulthandler

import pytest

from ovn_metadata.agent import main
from ovn_metadata.privsep import context


@pytest.fixture
def fail(monkeypatch):
    """Have the agent fail after its start, by an error of the caller's."""

    def fail(error: Exception) -> None:
        def serve(*_: object) -> None:
            raise error

        monkeypatch.setattr(main, "_serve", serve)

    monkeypatch.setattr("sys.argv", ["ovn-metadata-agent"])
    monkeypatch.setattr(main, "Signals", object)
    monkeypatch.setattr(faulthandler, "enable", lambda **_: None)
    monkeypatch.setattr(main, "begin", lambda _argv: (None, None, None))
    monkeypatch.setattr(context, "stop_daemon", lambda: None)
    return fail


def test_a_limit_of_threads_is_told_in_a_sentence(fail, capsys):
    fail(RuntimeError("can't start new thread"))
    assert main.main() == 1
    assert capsys.readouterr().err == (
        "ovn-metadata-agent: can't start new thread; raise TasksMax of its "
        "unit\n"
    )


def test_what_the_system_refuses_before_the_log_is_a_sentence(
    fail, monkeypatch, capsys
):
    """As where the fleet's folder is a file."""

    def begin(_argv: list[str]) -> None:
        raise NotADirectoryError(20, "Not a directory", "/run/x/agent.lock")

    monkeypatch.setattr(main, "begin", begin)
    assert main.main() == 1
    assert capsys.readouterr().err == (
        "ovn-metadata-agent: /run/x/agent.lock: Not a directory; a folder "
        "belongs there: move the file away\n"
    )


def test_a_mistake_of_ours_has_its_traceback(fail):
    fail(RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        main.main()
