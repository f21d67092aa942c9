"""Which parts of the agent are late."""

from __future__ import annotations

from ovn_metadata.agent.monitor.progress import Progress


def test_a_part_that_beats_is_not_late_and_one_that_stops_is():
    now = 0.0
    progress = Progress(lambda: now)
    beat = progress.beats("the service", 10)
    now = 9
    beat()
    now = 19
    assert progress.late() == {}
    assert progress.ages() == {"the service": 10}
    now = 19.5
    assert progress.late() == {"the service": 10.5}
    beat()
    assert progress.late() == {}


def test_a_part_may_tell_its_age():
    progress = Progress(lambda: 0.0)
    progress.expect("a", 5, lambda: 1.0)
    progress.expect("b", 5, lambda: 99.0)
    assert progress.ages() == {"a": 1.0, "b": 99.0}
    assert progress.late() == {"b": 99.0}
