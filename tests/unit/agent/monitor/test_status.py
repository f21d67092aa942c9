"""What `Status.wait` takes for served, and when it returns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from ovn_metadata.agent.errors import AgentError, HaproxyError
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.privsep.fleet.supervisord import AbsentError

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
OTHER = "5c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
ALL = ("", "")


def served_status() -> Status:
    status = Status("1.0")
    status.rows(synced=True, problems={})
    status.served("gateway")
    status.served(NETWORK, instances=["i-1"])
    status.served(OTHER, instances=["i-1", "i-2"])
    return status


def not_ready(status: Status) -> None:
    status.waits_for("southbound", "refused")


def without_gateway(status: Status) -> None:
    status.gone("gateway")


def failed_gateway(status: Status) -> None:
    status.failed("gateway", AgentError("no name"))


def failed_network(status: Status) -> None:
    status.failed(NETWORK, AgentError("disk full"))


def failed_from_the_start(status: Status) -> None:
    status.gone(NETWORK)
    status.failed(NETWORK, AgentError("disk full"))


def gone_network(status: Status) -> None:
    status.gone(NETWORK)


def gone_instance(status: Status) -> None:
    status.served(NETWORK)
    status.served(OTHER, instances=["i-2"])


def nothing(_status: Status) -> None:
    """Leave it."""


@pytest.mark.parametrize(
    ("change", "asked", "is_served", "reasons"),
    [
        (nothing, ALL, True, set()),
        (nothing, (NETWORK, ""), True, {NETWORK, "gateway"}),
        (nothing, ("", "i-2"), True, {OTHER}),
        (nothing, ("", "i-3"), False, set()),
        (nothing, ("gone", ""), False, {"gateway"}),
        (not_ready, ALL, False, set()),
        (not_ready, (NETWORK, ""), True, {NETWORK, "gateway"}),
        (without_gateway, ALL, True, set()),
        (without_gateway, (NETWORK, ""), False, {NETWORK}),
        (without_gateway, ("", "i-1"), False, {NETWORK, OTHER}),
        (failed_gateway, ALL, False, {"gateway"}),
        (failed_gateway, (NETWORK, ""), False, {NETWORK, "gateway"}),
        (failed_gateway, ("", "i-2"), False, {OTHER, "gateway"}),
        (failed_network, ALL, False, {NETWORK}),
        (failed_network, (NETWORK, ""), False, {NETWORK, "gateway"}),
        (failed_network, (OTHER, ""), True, {OTHER, "gateway"}),
        (failed_network, ("", "i-1"), True, {NETWORK, OTHER}),
        (failed_network, ("", "i-2"), True, {NETWORK, OTHER}),
        (failed_from_the_start, ("", "i-3"), False, {NETWORK}),
        (gone_network, ALL, True, set()),
        (gone_network, (NETWORK, ""), False, {"gateway"}),
        (gone_network, ("", "i-1"), True, {OTHER}),
        (gone_instance, ("", "i-1"), False, set()),
    ],
)
def test_what_is_served_and_what_else_is_reported(
    change: Callable[[Status], None],
    asked: tuple[str, str],
    is_served: bool,
    reasons: set[str],
):
    status = served_status()
    change(status)
    report = status.wait(*asked, 0)
    assert report["served"] is is_served
    assert set(report["networks"]) == reasons


def mended(status: Status) -> None:
    status.served("gateway")


@pytest.mark.parametrize(
    ("before", "asked", "then"),
    [
        pytest.param(
            not_ready,
            ALL,
            lambda status: status.waits_for("southbound", ""),
            id="the agent is ready",
        ),
        pytest.param(
            lambda status: status.rows(synced=False, problems={}),
            ALL,
            lambda status: status.rows(synced=True, problems={}),
            id="the rows are there",
        ),
        pytest.param(failed_gateway, (NETWORK, ""), mended, id="a gateway"),
        pytest.param(
            gone_network,
            (NETWORK, ""),
            lambda status: status.served(NETWORK),
            id="a network",
        ),
        pytest.param(
            nothing,
            ("", "i-3"),
            lambda status: status.served(NETWORK, instances=["i-1", "i-3"]),
            id="an instance more",
        ),
        pytest.param(
            failed_from_the_start, ALL, gone_network, id="what failed is gone"
        ),
    ],
)
def test_wait_returns_when_that_changes(
    before: Callable[[Status], None],
    asked: tuple[str, str],
    then: Callable[[Status], None],
):
    status = served_status()
    before(status)
    assert status.wait(*asked, 0)["served"] is False
    reports = []
    waiter = threading.Thread(
        target=lambda: reports.append(status.wait(*asked, 60)), daemon=True
    )
    waiter.start()
    then(status)
    waiter.join(5)
    assert [report["served"] for report in reports] == [True]


def test_wait_waits_for_what_was_never_reconciled():
    status = served_status()
    status.queue = lambda: {"new": 1.0}
    assert status.wait("", "", 0)["served"] is False
    status.queue = dict
    assert status.wait("", "", 0)["served"] is True


def test_wait_ends_when_its_time_is_over():
    status = served_status()
    began = time.monotonic()
    assert status.wait("", "i-3", 0.1)["served"] is False
    assert 0.1 <= time.monotonic() - began < 20


def test_instances_are_counted_and_listed_with_the_names_of_ports():
    status = served_status()
    status.names = {OTHER: "blue", "i-2": "web-0"}
    entry = status.as_dict()["networks"][OTHER]
    assert (entry["instances"], entry["name"]) == (2, "blue")
    assert entry["instance_names"] == {"i-1": "", "i-2": "web-0"}


def one_waits(status: Status) -> None:
    status.queue = lambda: {OTHER: 1.0}


def one_failed_and_waits(status: Status) -> None:
    status.failed(OTHER, AgentError("x"))
    one_waits(status)


def a_part_hangs(status: Status) -> None:
    status.expect("a part", 60, lambda: 61.0)


@pytest.mark.parametrize(
    ("change", "pace"),
    [
        pytest.param(nothing, "caught up", id="nothing waits"),
        pytest.param(not_ready, "catching up", id="not ready"),
        pytest.param(
            one_waits,
            "catching up",
            id="a network waits",
        ),
        pytest.param(
            one_failed_and_waits,
            "caught up",
            id="what waits has failed and is tried again",
        ),
        pytest.param(
            a_part_hangs,
            "stuck",
            id="a part makes no progress",
        ),
    ],
)
def test_the_pace(change, pace):
    status = served_status()
    change(status)
    assert status.as_dict()["pace"] == pace


def test_watch_returns_at_a_change_and_not_for_numbers():
    status = served_status()
    seen = status.as_dict()["change"]
    status.served(OTHER, instances=["i-1", "i-2"])
    status.repaired(OTHER)
    status.shares(OTHER, {"refused_connections": 3}, over=())
    assert status.watch(seen, 0)["change"] == seen
    reports = []
    waiter = threading.Thread(
        target=lambda: reports.append(status.watch(seen, 20))
    )
    waiter.start()
    status.served(OTHER, instances=["i-1"])
    waiter.join(20)
    assert reports[0]["change"] != seen


def test_a_failure_is_a_problem_with_its_code_until_it_is_over():
    status = served_status()
    status.failed(OTHER, OSError(28, "No space left on device"))
    status.failed(OTHER, HaproxyError("it ends at once"))
    (problem,) = status.problems()
    assert (problem["code"], problem["about"]) == ("OVNMD-301", OTHER)
    assert status.as_dict()["networks"][OTHER]["code"] == "OVNMD-301"
    status.served(OTHER)
    assert status.problems() == []


def test_a_network_that_was_never_served_cuts_the_service():
    """Whatever its kind; one that was served has a haproxy that still does."""
    status = served_status()
    refused = AbsentError("supervisord refuses it")
    status.failed(OTHER, refused)
    status.failed("5c3e1f64-f4d0-4eb0-a542-a05e03a1141e", refused)
    status._problems.clock = lambda: time.monotonic() + 60
    assert [each["cuts_service"] for each in status.problems()] == [True]
    status.gone("5c3e1f64-f4d0-4eb0-a542-a05e03a1141e")
    assert [each["cuts_service"] for each in status.problems()] == [False]


def test_a_part_is_late_after_more_than_its_time():
    status = Status("1")
    status.expect("a", 5, lambda: 1.0)
    status.expect("b", 5, lambda: 5.0)
    status.expect("c", 5, lambda: 5.5)
    assert status.as_dict()["progress"] == {"a": 1.0, "b": 5.0, "c": 5.5}
    assert status.late() == {"c": 5.5}
