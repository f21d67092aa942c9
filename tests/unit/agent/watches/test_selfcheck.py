"""What the agent reports of its own requests in the namespaces."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.core import selfcheck as core
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.watches import selfcheck
from ovn_metadata.agent.watches.nova_watch import NovaWatch
from ovn_metadata.agent.watches.selfcheck import SelfCheck
from ovn_metadata.privsep.errors import AskError, PrivilegedError
from ovn_metadata.privsep.names import GATEWAY

NETWORK = "11111111-1111-4111-8111-111111111111"


class Nova(NovaWatch):
    """Counts the rounds."""

    def __init__(self) -> None:
        self.rounds = 0

    def ask(self) -> None:
        self.rounds += 1


class World:
    """A host whose network answers what `answers` has, the last for ever."""

    def __init__(self, monkeypatch, *answers: Any) -> None:
        self.answers = [*answers]
        self.status = Status("1")
        self.status.served(NETWORK)
        self.visited: list[str] = []
        self.plugged_again: list[str] = []
        self.every_s = 30
        self.has_flows = True
        self.nova = Nova()
        self.sources: Callable[[int], list[str]] = lambda _number: ["10.0.0.5"]
        site: Any = SimpleNamespace(
            status=self.status,
            settings=lambda: SimpleNamespace(
                selfcheck_interval_s=self.every_s
            ),
            desired=lambda _chassis, _network: None,
            privileged=SimpleNamespace(
                status_of=lambda _network, source: self.ask(source)
            ),
            queues=SimpleNamespace(visit=self.visited.append),
        )
        snapshots: Any = SimpleNamespace(
            chassis=None,
            to_replug=SimpleNamespace(add=self.plugged_again.append),
        )
        self.check = SelfCheck(site, snapshots, self.nova)
        monkeypatch.setattr(selfcheck, "_AGAIN_S", 0.0)
        monkeypatch.setattr(
            core, "sources", lambda _, number: self.sources(number)
        )
        monkeypatch.setattr(
            SelfCheck, "_has_flows", lambda *_args: self.has_flows
        )

    def ask(self, _source: str) -> int:
        answer = self.answers[0]
        if len(self.answers) > 1:
            del self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    def codes(self) -> list[str]:
        """Return the codes that are noted, however young."""
        return sorted(code for code, _ in self.status._problems._entries)

    def seen(self) -> float:
        return float(self.status.as_dict()["networks"][NETWORK]["seen"])


def test_an_answer_is_seen(monkeypatch):
    world = World(monkeypatch, 200)
    world.check.poll()
    assert world.seen() > 0
    assert world.nova.rounds == 1
    # For what is not seen so: addresses, neighbours, the map.
    assert (world.codes(), world.visited) == ([], [NETWORK, GATEWAY])


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (AskError("no answer within 3 s"), "OVNMD-306"),
        (404, "OVNMD-309"),
        (503, "OVNMD-307"),
    ],
)
def test_a_failure_is_reported_and_visited(monkeypatch, answer, code):
    world = World(monkeypatch, answer)
    world.check.poll()
    assert world.codes() == [code]
    assert world.visited == [NETWORK, NETWORK, GATEWAY]
    assert world.seen() == 0
    assert world.check._interval_s < 30  # it is asked again soon


def test_a_failure_of_one_instance_is_reported_as_long_as_it_lasts(
    monkeypatch,
):
    """Others are served; each network has its own turns."""
    world, asked = World(monkeypatch, 200), []

    def ask(source: str) -> int:
        asked.append(source)
        return 404 if source == "10.0.0.1" and broken else 200

    monkeypatch.setattr(world, "ask", ask)
    world.sources = lambda number: [f"10.0.0.{number % 3}"]
    broken = True
    for _ in range(5):
        world.check.poll()
    assert world.status.reason("OVNMD-309", NETWORK)
    broken = False
    for _ in range(3):
        world.check.poll()
    assert not world.status.reason("OVNMD-309", NETWORK)
    assert {*asked} == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}


def test_missing_flows_are_reported(monkeypatch):
    world = World(monkeypatch, 200)
    world.has_flows = False
    world.check.poll()
    assert world.codes() == ["OVNMD-206"]
    world.has_flows = True
    world.check.poll()
    (entry,) = world.status._problems._entries.values()
    assert entry.ended is not None


def test_a_port_without_flows_is_plugged_again_ever_less_often(monkeypatch):
    """Nothing else may mend it, and the port may be disabled."""
    world = World(monkeypatch, 200)
    world.has_flows = False
    counts = []
    for _ in range(16):
        world.check.poll()
        counts.append(len(world.plugged_again))
    assert counts == [0, 1, 1, *[2] * 4, *[3] * 8, 4]
    for has_flows, count in ((True, 4), (False, 4), (False, 5)):
        world.has_flows = has_flows
        world.check.poll()
        assert len(world.plugged_again) == count
    assert {*world.plugged_again} <= {*world.visited} & {NETWORK}


def test_who_knows_more_of_missing_flows_names_them(monkeypatch, caplog):
    """Two who note another reason in turn would fill the log."""
    world = World(monkeypatch, 200)
    world.has_flows = False
    world.check.poll()
    for _ in range(3):  # as `OvnWatch` does
        world.status.tell("OVNMD-206", "port p", about=NETWORK)
        world.check.poll()
    assert world.status.reason("OVNMD-206", NETWORK) == "port p"
    assert len(caplog.records) == 2
    world.status.tell("OVNMD-206", "", about=NETWORK)
    assert not world.status.reason("OVNMD-206", NETWORK)
    world.check.poll()
    assert "no flow" in world.status.reason("OVNMD-206", NETWORK)
    assert world.check._interval_s < 30


def test_what_is_over_when_it_is_asked_again_is_no_problem(monkeypatch):
    """A port was removed from the map while it was asked for."""
    world = World(monkeypatch, 404, 200)
    world.check.poll()
    assert world.codes() == []


@pytest.mark.parametrize("problem", [PrivilegedError("it hangs"), OSError()])
def test_a_privileged_daemon_that_hangs_says_nothing(monkeypatch, problem):
    """Neither that the network is well nor that it is not."""
    world = World(monkeypatch, problem)
    world.check.poll()
    assert (world.codes(), world.seen()) == ([], 0)
    world.answers = [503]
    world.check.poll()
    world.answers = [problem]
    world.check.poll()
    (entry,) = world.status._problems._entries.values()
    assert (entry.ended, world.seen()) == (None, 0)
    assert world.check._interval_s < 30


def test_a_network_that_fails_and_is_not_asked_again_is_asked_soon(
    monkeypatch,
):
    world = World(monkeypatch, 503, PrivilegedError("it hangs"))
    world.check.poll()
    assert (world.codes(), world.check._interval_s < 30) == ([], True)


def test_where_nobody_can_be_asked_for_nothing_is_seen(monkeypatch):
    world = World(monkeypatch, 503)
    world.check.poll()
    world.sources = lambda _number: []
    world.check.poll()
    (entry,) = world.status._problems._entries.values()
    assert entry.ended is not None
    assert world.seen() == 0


def test_a_network_that_has_gone_meanwhile_is_no_problem(monkeypatch):
    world = World(monkeypatch, AskError("No such file or directory"))
    monkeypatch.setattr(world.check.site.queues, "visit", world.status.gone)
    world.check.poll()
    assert world.codes() == []


def test_what_it_reported_of_a_network_that_has_gone_is_over(monkeypatch):
    """Also if it was reported while the network went."""
    world = World(monkeypatch, 503)
    world.check.poll()
    world.status.gone(NETWORK)
    world.status.tell("OVNMD-307", "it answers 503", about=NETWORK)
    world.check.poll()
    (entry,) = world.status._problems._entries.values()
    assert entry.ended is not None


def test_what_it_reported_is_over_when_it_is_switched_off(monkeypatch):
    world = World(monkeypatch, 503)
    world.check.poll()
    world.every_s = 0
    world.check.poll()
    (entry,) = world.status._problems._entries.values()
    assert entry.ended is not None


def test_it_is_never_done_if_it_is_switched_off(monkeypatch):
    world = World(monkeypatch, 503)
    world.every_s = 0
    world.check.poll()
    assert world.nova.rounds == 0
    assert (world.codes(), world.visited) == ([], [])
