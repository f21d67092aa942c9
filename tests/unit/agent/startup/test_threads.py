"""A thread that fails ends the agent: nothing else would do its work."""

from __future__ import annotations

import threading

import pytest

from ovn_metadata.agent.startup import threads


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("reconcile-3", True),
        ("signals", True),
        ("Thread-8 (run)", True),  # a database's
        ("privsep_reader", True),  # no end of a daemon would be noticed
        ("Thread-9 (process_request_thread)", False),  # of one client
        ("report", False),
    ],
)
def test_a_thread_that_fails(monkeypatch, caplog, name, ends):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    reasons: list[str] = []
    threads.end_with(reasons.append)

    def work() -> None:
        raise ValueError("no such thing")

    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()
    assert len(reasons) == ends
    for reason in reasons:
        assert name in reason
        assert "no such thing" in reason
    assert "Traceback" in caplog.text
