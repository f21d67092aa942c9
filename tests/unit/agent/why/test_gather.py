"""What is looked at, and for how long."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ovn_metadata.agent.why import gather
from ovn_metadata.agent.why.facts import Unseen


def test_what_hangs_or_fails_is_unseen_and_costs_nothing_else():
    """The reason has the seconds that were really waited."""
    hung = threading.Event()
    found = gather._look(
        0.25, hangs=hung.wait, fails=lambda: 1 // 0, good=lambda: 1
    )
    hung.set()
    assert found["good"] == 1
    assert isinstance(found["hangs"], Unseen)
    assert found["hangs"].reason == "no answer within 0.25 s"
    assert isinstance(found["fails"], Unseen)
    assert "ZeroDivisionError" in found["fails"].reason


def test_a_haproxy_that_was_broken_into_does_not_end_the_search():
    haproxies = SimpleNamespace(
        places=SimpleNamespace(config=lambda _key: Path("/nonexistent")),
        read=lambda _key, _command: f"Name: HAProxy\nPid: {'9' * 5000}\n\n",
    )
    one: Any = SimpleNamespace(site=SimpleNamespace(haproxies=haproxies))
    found = gather.Gather._haproxy(one, "gateway")
    assert found.running == ""
