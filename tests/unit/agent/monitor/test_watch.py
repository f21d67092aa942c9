"""When a problem of Nova's or of a client is reported, and when it is over."""

from __future__ import annotations

import logging

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy.counters import Counted
from ovn_metadata.agent.haproxy.counters import NovaCounted as Nova
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.monitor.watch import _TURNS as TURNS
from ovn_metadata.agent.monitor.watch import Watch

FAILS, REFUSES = "does not answer", "metadata_proxy_shared_secret"


def problems(polls, *, answers: bool = False) -> list[tuple[str, ...]]:
    """Return what is reported after each of POLLS: (seconds, counters).

    ANSWERS tells whether Nova answers the agent.
    """
    status = Status("1")
    now = 0.0
    answer: Nova | Exception = Nova()

    def counted() -> Nova:
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = Watch(
        status,
        read=lambda network: Counted(),
        read_nova=counted,
        nova_answers=lambda: answers,
        on_silence=lambda network: None,
        clock=lambda: now,
    )
    found = []
    for now, answer in polls:  # noqa: B007 # both are read by the watch
        for _ in range(TURNS):
            watch.poll()
        texts = [each.reason for each in status.problems()]
        found.append(
            tuple(
                word
                for word in (FAILS, REFUSES)
                if any(word in text for text in texts)
            )
        )
    return found


@pytest.mark.parametrize(
    ("polls", "reported"),
    [
        pytest.param(
            [(0, Nova(failed=9, refused=9))], [()], id="before our time"
        ),
        pytest.param(
            [
                (0, Nova(answered=5)),
                (5, Nova(answered=5, failed=1)),
                (10, Nova(answered=6, failed=1)),
            ],
            [(), (FAILS,), ()],
            id="fails, then answers",
        ),
        pytest.param(
            [
                (0, Nova()),
                (5, Nova(failed=1)),
                (60, Nova(failed=1)),
                (66, Nova(failed=1)),
            ],
            [(), (FAILS,), (FAILS,), ()],
            id="no request any more",
        ),
        pytest.param(
            [
                (0, Nova()),
                (5, Nova(refused=1, answered=1)),
                (10, Nova(refused=1, answered=2)),
            ],
            [(), (REFUSES,), ()],
            id="refuses, then accepts",
        ),
        pytest.param(
            [(0, Nova()), (5, Nova(refused=2, answered=5))],
            [(), ()],
            id="accepts another instance's signature",
        ),
        pytest.param(
            [(0, Nova()), (5, Nova(refused=9, answered=10))],
            [(), (REFUSES,)],
            id="lists its versions, for which no signature is needed",
        ),
        pytest.param(
            [(0, Nova()), (5, Nova(failed=1)), (9, Nova(1, 0, 1, 1))],
            [(), (FAILS,), (REFUSES,)],
            id="is back, with another secret",
        ),
        pytest.param(
            [(0, Nova(is_down=True)), (9, Nova(is_down=True))],
            [(FAILS,), (FAILS,)],
            id="no server is up",
        ),
        pytest.param(
            [(0, Nova(failed=7)), (5, Nova(failed=2))],
            [(), (FAILS,)],
            id="a gateway that was started again counts from 0",
        ),
        pytest.param(
            [
                (0, Nova()),
                (5, Nova(failed=1)),
                (9, HaproxyError("x")),
                (14, OSError("y")),
            ],
            [(), (FAILS,), (FAILS,), (FAILS,)],
            id="a gateway that does not answer",
        ),
    ],
)
def test_a_problem_of_nova_is_reported_until_it_is_over(polls, reported):
    assert problems(polls) == reported


def test_what_one_instance_sends_is_no_problem_of_nova():
    """Its server closed the connection, and answers us."""
    polls = [(0, Nova()), (5, Nova(failed=5)), (10, Nova(failed=9))]
    assert problems(polls, answers=True) == [(), (), ()]
    polls = [(0, Nova()), (5, Nova(unconnected=1))]
    assert problems(polls, answers=True) == [(), (FAILS,)]


def test_clients_over_their_share_are_named_once(caplog):
    status = Status("1")
    for network in ("bad", "good"):
        status.served(network)

    def read(network: str) -> Counted:
        if network == "bad":
            raise OSError("it does not answer")
        return Counted(0, {"greedy": (3, 0, 2)})

    silent: list[str] = []
    watch = Watch(
        status,
        read=read,
        read_nova=Nova,
        nova_answers=lambda: True,
        on_silence=silent.append,
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * TURNS):
            watch.poll()
    assert [record.getMessage() for record in caplog.records] == [
        "network=good over its share: greedy; refused_connections=3 "
        "unlogged_requests=0 rate_limited_requests=2 incomplete_requests=0"
    ]
    assert silent == ["bad", "bad"]
    good = status.as_dict()["networks"]["good"]
    assert good["over_share"] == ("greedy",)
    status.gone("good")
    watch.poll()
    assert not watch._sums


def test_it_ends_at_once():
    watch = Watch(
        Status("1"),
        read=lambda _: Counted(),
        read_nova=Nova,
        nova_answers=lambda: True,
        on_silence=lambda _: None,
    )
    watch.start()
    watch.stop()
    assert not watch._thread.is_alive()
