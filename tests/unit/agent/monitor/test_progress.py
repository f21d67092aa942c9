"""Which parts of the agent are late."""

from __future__ import annotations

from ovn_metadata.agent.monitor.progress import Progress


def test_a_part_is_late_after_more_than_its_time():
    progress = Progress()
    progress.expect("a", 5, lambda: 1.0)
    progress.expect("b", 5, lambda: 5.0)
    progress.expect("c", 5, lambda: 5.5)
    assert progress.ages() == {"a": 1.0, "b": 5.0, "c": 5.5}
    assert progress.late() == {"c": 5.5}
