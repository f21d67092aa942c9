"""The queue of keys: once each, one worker per key, retries with delay."""

from __future__ import annotations

import collections
import os
import random
import sys
import threading

import pytest

from ovn_metadata.agent.reconcile.workqueue import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    WorkQueue,
)

DEADLINE_S = 10.0


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock):
    """Make a queue that closes after a while; no test waits forever."""
    made = WorkQueue(clock=clock, jitter=lambda: 0.0)
    closing = threading.Timer(DEADLINE_S, made.close)
    closing.start()
    yield made
    closing.cancel()


@pytest.fixture
def frequent_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def drain(queue: WorkQueue) -> list[str]:
    """Take every key that waits now; none fails."""
    taken = []
    while not queue.is_idle():
        key = queue.get()
        assert key is not None
        taken.append(key)
        queue.done(key, failed=False)
    return taken


def test_the_delay_doubles_up_to_a_limit_and_ends_with_a_success(queue, clock):
    delays = []
    queue.add("a")
    for _ in range(9):
        assert queue.get() == "a"
        delays.append(queue.done("a", failed=True))
        assert queue.is_idle()
        clock.now += delays[-1]
    assert delays == [min(MAX_DELAY_S, FIRST_DELAY_S * 2**n) for n in range(9)]
    assert queue.get() == "a"
    assert queue.done("a", failed=False) is None
    queue.add("a")
    assert queue.get() == "a"
    assert queue.done("a", failed=True) == FIRST_DELAY_S


@pytest.mark.parametrize(
    ("jitter", "share"), [(0.0, 1.0), (0.5, 0.875), (1.0, 0.75)]
)
def test_the_delay_is_spread_by_up_to_a_quarter(clock, jitter, share):
    queue = WorkQueue(clock=clock, jitter=lambda: jitter)
    queue.add("a")
    queue.get()
    assert queue.done("a", failed=True) == FIRST_DELAY_S * share


def test_a_thousand_failures_have_a_finite_delay(queue, clock):
    queue.add("a")
    for _ in range(1000):
        queue.get()
        delay = queue.done("a", failed=True)
        clock.now += delay
    assert delay == MAX_DELAY_S


def test_failures_that_are_no_retries_lengthen_no_delay(queue, clock):
    """A hundred changes of its rows while supervisord is down."""
    for _ in range(100):
        queue.add("a")
        assert queue.get() == "a"
        assert queue.done("a", failed=True) == FIRST_DELAY_S
    clock.now += FIRST_DELAY_S
    assert queue.get() == "a"
    assert queue.done("a", failed=True) == 2 * FIRST_DELAY_S
    queue.add("a")
    assert queue.get() == "a"
    assert queue.done("a", failed=True) == 2 * FIRST_DELAY_S


def test_a_failing_key_does_not_delay_another(queue):
    queue.add("bad")
    assert queue.get() == "bad"
    queue.done("bad", failed=True)
    queue.add("good")
    assert drain(queue) == ["good"]


def test_a_change_during_a_failure_is_tried_at_once(queue):
    queue.add("a")
    queue.get()
    queue.add("a")
    queue.done("a", failed=True)
    assert queue.get() == "a"


def test_a_failing_key_that_is_added_too_has_one_retry(queue, clock):
    """Each resync adds it; that does not cause more retries."""
    tries = 0
    for _ in range(60):  # an hour of resyncs
        queue.add("a")
        for _ in range(60):
            clock.now += 1
            queue.add("awake")  # makes `get` return at once
            while (key := queue.get()) != "awake":
                tries += 1
                queue.done(key, failed=True)
            queue.done(key, failed=False)
    assert tries <= 60 + 7 + 60 + 1  # resyncs, first retries, one a minute


def test_keys_come_once_and_in_order_of_arrival(queue):
    for key in "abcab":
        queue.add(key)
    assert drain(queue) == ["a", "b", "c"]
    assert queue.is_idle()


def test_what_has_changed_does_not_wait_for_a_routine_pass(queue):
    for key in "abcd":
        queue.add(key, routine=True)
    queue.add("new")
    queue.add("c")
    assert drain(queue) == ["c", "new", "a", "b", "d"]


def test_a_key_added_while_held_comes_once_more_afterwards(queue):
    queue.add("a")
    queue.get()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert queue.get() == "b"  # not "a": it is held
    queue.done("a", failed=False)
    queue.done("b", failed=False)
    assert drain(queue) == ["a"]


def test_delayed_keys_come_when_due_and_by_time(queue, clock):
    queue.add_later("late", 5)
    queue.add_later("soon", 2)
    queue.add_later("same", 2)
    queue.add("now")
    assert drain(queue) == ["now"]
    clock.now += 2
    assert queue.get() == "soon"
    assert queue.get() == "same"
    clock.now += 3
    assert queue.get() == "late"


@pytest.mark.parametrize("wake", ["close", "add", "add_later"])
def test_a_waiting_worker_is_woken(queue, wake):
    taken = []
    worker = threading.Thread(
        target=lambda: taken.append(queue.get()), daemon=True
    )
    worker.start()
    calls = {"add": ("a",), "add_later": ("a", 0.0), "close": ()}
    getattr(queue, wake)(*calls[wake])
    worker.join(DEADLINE_S)
    assert taken == [None if wake == "close" else "a"]


def test_a_closed_queue_hands_out_nothing(queue):
    queue.add("a")
    queue.close()
    assert queue.get() is None


def test_never_two_workers_on_one_key_and_no_change_is_missed(
    queue, frequent_switches
):
    keys = [f"network-{number}" for number in range(50)]
    locks = {key: threading.Lock() for key in keys}
    version = dict.fromkeys(keys, 0)
    seen = dict.fromkeys(keys, 0)
    handed_out: collections.Counter[str] = collections.Counter()
    overlaps = []

    def work() -> None:
        while (key := queue.get()) is not None:
            if not locks[key].acquire(blocking=False):
                overlaps.append(key)
                continue
            seen[key] = version[key]
            handed_out[key] += 1
            os.sched_yield()  # long enough for another to come in
            fails = handed_out[key] % 97 == 0
            locks[key].release()
            queue.done(key, failed=fails)
            if queue.is_idle():
                idle.set()

    idle = threading.Event()
    workers = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for worker in workers:
        worker.start()
    choose = random.Random(0)
    for _ in range(20_000):
        key = choose.choice(keys)
        version[key] += 1
        queue.add(key)
    while not queue.is_idle():
        idle.clear()
        assert queue.is_idle() or idle.wait(DEADLINE_S)
    queue.close()
    for worker in workers:
        worker.join(DEADLINE_S)
    assert not overlaps
    assert seen == version
    assert sum(handed_out.values()) <= 20_000


def test_a_key_waits_until_a_run_of_it_succeeds(queue, clock):
    queue.add("a")
    clock.now += 1
    assert queue.get() == "a"
    clock.now += 1
    assert queue.waiting() == {"a": 2}
    queue.done("a", failed=True)
    clock.now += FIRST_DELAY_S
    assert queue.get() == "a"
    assert queue.waiting() == {"a": 2 + FIRST_DELAY_S}
    queue.done("a", failed=False)
    assert queue.waiting() == {}


def test_a_key_that_changes_during_its_run_waits_since_then(queue, clock):
    queue.add("a")
    queue.get()
    clock.now += 1
    queue.add("a")
    clock.now += 1
    queue.done("a", failed=False)
    assert queue.waiting() == {"a": 1}


def test_a_routine_run_waits_for_nothing(queue, clock):
    queue.add("a", routine=True)
    queue.get()
    queue.done("a", failed=True)
    clock.now += FIRST_DELAY_S
    assert queue.get() == "a"
    assert queue.waiting() == {}


def test_how_long_a_worker_has_had_a_key(queue, clock):
    assert queue.longest_s() == 0
    queue.add("a")
    clock.now += 5
    assert queue.longest_s() == 0  # no worker has it
    queue.get()
    clock.now += 3
    queue.add("b")
    queue.get()
    clock.now += 4
    assert queue.longest_s() == 7
    queue.done("a", failed=False)
    assert queue.longest_s() == 4
    queue.done("b", failed=True)
    assert queue.longest_s() == 0
