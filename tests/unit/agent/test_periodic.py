"""What is looked at again and again."""

from __future__ import annotations

import threading

from ovn_metadata.agent.periodic import Periodic


def test_a_look_that_raises_ends_neither_itself_nor_another():
    failed, seen, enough = [], [], threading.Event()

    def bad():
        failed.append(1)
        raise ValueError("a look that fails")

    def good():
        seen.append(1)
        if len(seen) == 3:
            enough.set()

    watch = Periodic(bad, good, name="watch", interval_s=0.001)
    watch.start()
    assert enough.wait(10)
    watch.stop()
    assert len(failed) >= 3


def test_it_ends_when_told_to():
    ended = threading.Event()
    watch = Periodic(ended.set, name="watch", interval_s=3600)
    watch.start()
    watch.stop()
    assert not ended.is_set()
