"""A thread that fails ends the agent: nothing else would do its work."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent import main


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("reconcile-3", True),
        ("signals", True),
        ("Thread-8 (run)", True),  # a database's
        ("privsep_reader", False),  # it ends with its daemon
        ("report", False),
    ],
)
def test_a_thread_that_fails(monkeypatch, caplog, name, ends):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    reasons: list[str] = []
    service: Any = SimpleNamespace(fail=reasons.append)
    main._end_with_threads(service)

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
