"""When a Nova that fails is told, and when that is over."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy.nova_answers import NovaAnswers as Counted
from ovn_metadata.agent.nova_watch import NovaWatch
from ovn_metadata.agent.status import Status

FAILS, REFUSES = "does not answer", "metadata_proxy_shared_secret"


def problems(looks) -> list[tuple[str, ...]]:
    """Return what is told after each of LOOKS: (seconds, what is counted)."""
    status = Status("1")
    now = 0.0
    answer: Counted | Exception = Counted()

    def counted() -> Counted:
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = NovaWatch(counted, status, clock=lambda: now)
    found = []
    for now, answer in looks:  # noqa: B007 # both are read by the watch
        watch.look()
        texts = status.as_dict()["problems"]
        found.append(
            tuple(
                word
                for word in (FAILS, REFUSES)
                if any(word in text for text in texts)
            )
        )
    return found


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        pytest.param(
            [(0, Counted(failed=9, refused=9))], [()], id="before our time"
        ),
        pytest.param(
            [
                (0, Counted(told=5)),
                (5, Counted(told=5, failed=1)),
                (10, Counted(told=6, failed=1)),
            ],
            [(), (FAILS,), ()],
            id="fails, then answers",
        ),
        pytest.param(
            [
                (0, Counted()),
                (5, Counted(failed=1)),
                (60, Counted(failed=1)),
                (66, Counted(failed=1)),
            ],
            [(), (FAILS,), (FAILS,), ()],
            id="nobody asks any more",
        ),
        pytest.param(
            [
                (0, Counted()),
                (5, Counted(refused=1, told=1)),
                (10, Counted(refused=1, told=2)),
            ],
            [(), (REFUSES,), ()],
            id="refuses, then takes it",
        ),
        pytest.param(
            [(0, Counted()), (5, Counted(failed=1)), (9, Counted(1, 1, 1))],
            [(), (FAILS,), (REFUSES,)],
            id="is back, with another secret",
        ),
        pytest.param(
            [(0, Counted(is_down=True)), (9, Counted(is_down=True))],
            [(FAILS,), (FAILS,)],
            id="no server is up",
        ),
        pytest.param(
            [(0, Counted(failed=7)), (5, Counted(failed=2))],
            [(), (FAILS,)],
            id="a gateway that was started anew counts from 0",
        ),
        pytest.param(
            [
                (0, Counted()),
                (5, Counted(failed=1)),
                (9, HaproxyError("x")),
                (14, OSError("y")),
            ],
            [(), (FAILS,), (FAILS,), (FAILS,)],
            id="a gateway that does not answer",
        ),
    ],
)
def test_it_is_told_and_over(looks, told):
    assert problems(looks) == told
