"""The health in a word, and what counts as a change."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.core.health import health, version_of


@pytest.mark.parametrize(
    ("ready", "cutting", "word"),
    [
        (True, [], "healthy"),
        (True, [False], "with problems"),
        (True, [False, True], "degraded"),
        (False, [True], "not ready"),
        (False, [], "not ready"),
    ],
)
def test_health(ready, cutting, word):
    problems = [{"cuts_service": cuts} for cuts in cutting]
    assert health(problems, ready=ready) == word


BEFORE = {
    "now": 1.0,
    "queue": {"length": 0},
    "southbound": {"connected": True, "silent_s": 1.0, "rows": 3},
    "nova": [{"state": "up", "latency_ms": 2}],
    "networks": {"n": {"seen": 1.0}},
}


@pytest.mark.parametrize(
    ("after", "is_change"),
    [
        ({"now": 2.0, "queue": {"length": 3}}, False),
        ({"southbound": {"connected": True, "silent_s": 2, "rows": 4}}, False),
        ({"southbound": {"connected": False, "silent_s": 1.0}}, True),
        ({"nova": [{"state": "up", "latency_ms": 900}]}, False),
        ({"nova": [{"state": "down", "latency_ms": 2}]}, True),
        ({"networks": {"n": {"seen": 2.0}}}, False),
        ({"networks": {}}, True),
    ],
)
def test_only_states_are_changes(after, is_change):
    now = version_of({**BEFORE, **after})
    assert (now != version_of(BEFORE)) is is_change
