"""When a problem of Nova is reported, and when it is over."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import threading
import types
from typing import Any

import pytest

from ovn_metadata.agent.errors import HaproxyError
from ovn_metadata.agent.haproxy.counters import Endpoint, NovaCounted
from ovn_metadata.agent.haproxy.runtime import NovaAnswer
from ovn_metadata.agent.monitor.status import Status
from ovn_metadata.agent.watches import nova_watch
from ovn_metadata.agent.watches.nova_watch import NovaWatch
from ovn_metadata.agent.why import facts

FINE = NovaAnswer(200, True, 0.01)
NONE = NovaAnswer(503, False, 0.01)
UNKNOWN = NovaAnswer(404, True, 0.01)
REFUSED = NovaAnswer(403, True, 0.01)
TWO = NovaCounted(
    endpoints=(Endpoint("192.0.2.1:80"), Endpoint("192.0.2.2:80"))
)
TRIES = 2  # of a secret in doubt, with one server


class Nova(NovaWatch):
    """A Nova and a gateway that behave as their attributes have it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counted: NovaCounted | Exception = NovaCounted()
        self.answer: NovaAnswer | None = FINE
        self.signed: NovaAnswer | None = UNKNOWN
        self.tried: list[tuple[str, str]] = []
        self.key = "secret"
        self.unresolved: list[str] = []
        self.asked = self.signatures = 0
        self.status = Status("1")
        site: Any = types.SimpleNamespace(
            status=self.status,
            settings=lambda: types.SimpleNamespace(
                nova=None, shared_secret=self.key
            ),
            haproxies=types.SimpleNamespace(nova_counted=self.nova_counted),
        )
        addresses: Any = types.SimpleNamespace(
            addresses=None, unresolved=lambda: self.unresolved
        )
        super().__init__(site, addresses, lambda: self.now)

    def attempts(self, _nova: Any, _addresses: Any) -> list[facts.Endpoint]:
        return [
            facts.Endpoint("", code=code, problem=problem)
            for code, problem in self.tried
        ]

    def nova_counted(self) -> NovaCounted:
        if isinstance(self.counted, Exception):
            raise self.counted
        return self.counted

    def ask_root(self, server: int) -> NovaAnswer | None:
        self.asked += 1
        return self.answer

    def ask_signed(self, server: int) -> NovaAnswer | None:
        self.signatures += 1
        return self.signed

    def count(self, **more: int) -> None:
        """Count MORE."""
        assert isinstance(self.counted, NovaCounted)
        grown = {k: getattr(self.counted, k) + n for k, n in more.items()}
        self.counted = dataclasses.replace(self.counted, **grown)

    def poll_after(self, s: float = 5.0) -> dict[str, str]:
        self.now += s
        self.poll()
        return self.codes()

    def round(self, s: float = 30.0) -> dict[str, str]:
        self.now += s
        self.ask()
        return self.poll_after(0)

    def codes(self) -> dict[str, str]:
        """Return the problems that are noted, however young."""
        entries = self.status._problems._entries
        return {
            code: entry.reason
            for (code, _), entry in entries.items()
            if entry.ended is None
        }


@pytest.fixture
def nova(monkeypatch) -> Nova:
    found = Nova()
    monkeypatch.setattr(nova_watch, "attempts", found.attempts)
    return found


def test_counters_from_before_our_time_are_no_reason_to_ask(nova):
    nova.counted = NovaCounted(failed=9, refused=9, errors=9, unconnected=3)
    assert nova.poll_after() == {}
    assert (nova.asked, nova.signatures) == (0, 0)


def test_a_single_server_that_is_down_is_noticed_though_nobody_asks(nova):
    nova.round()
    nova.answer = NONE
    reason = "192.0.2.1 port 8775: Connection refused"
    nova.tried = [("OVNMD-501", reason)]
    assert nova.round() == {"OVNMD-501": reason}
    assert nova.poll_after() == {"OVNMD-501": reason}
    nova.answer = FINE
    assert nova.round() == {}


def test_a_server_that_gives_no_answer_is_not_shown_as_up(nova):
    """One that is alone has no check by haproxy."""
    nova.counted = NovaCounted(endpoints=TWO.endpoints[:1])
    nova.tried = [("OVNMD-501", "refused")]
    for answer, state in ((FINE, "up"), (NONE, "down"), (FINE, "up")):
        nova.answer = answer
        nova.round()
        (shown,) = nova.status.as_dict()["nova"]
        assert shown["state"] == state


def test_of_each_address_the_state_and_the_time_are_shown(nova):
    """Without an answer yet, it is the time of haproxy's check."""
    nova.counted = NovaCounted(
        endpoints=(
            Endpoint("a:1", is_down=True, check_ms=3),
            Endpoint("b:1", check_ms=3, response_ms=250),
        )
    )
    nova.poll_after()
    assert nova.status.as_dict()["nova"] == [
        {"address": "a:1", "state": "down", "latency_ms": 3},
        {"address": "b:1", "state": "up", "latency_ms": 250},
    ]


def test_requests_that_fail_are_a_reason_to_ask_at_once(nova):
    nova.poll_after()
    nova.answer = NONE
    nova.count(failed=1)
    assert nova.poll_after().keys() == {"OVNMD-501"}
    nova.answer = FINE  # it is asked as long as it is silent
    assert nova.poll_after() == {}


def test_a_socket_that_is_another_agents_tells_nothing(nova):
    nova.poll_after()
    nova.answer = NONE
    nova.count(failed=1)
    assert nova.poll_after().keys() == {"OVNMD-501"}
    nova.answer = None
    assert nova.poll_after() == {}


def test_what_one_instance_sends_is_no_problem_of_nova(nova):
    """Its server closed the connection, and answers us."""
    nova.poll_after()
    nova.count(failed=5)
    assert nova.poll_after() == {}
    assert nova.asked == 1


@pytest.mark.parametrize(
    ("answer", "tried", "code"),
    [
        (NONE, [("", "it gives no answer")], "OVNMD-501"),
        (NONE, [("OVNMD-503", "TLS: self-signed")], "OVNMD-503"),
        (NONE, [("OVNMD-502", "unknown")], "OVNMD-501"),
        (NONE, [], "OVNMD-501"),
        (NovaAnswer(0, False, 5.0), [], "OVNMD-501"),
        (NovaAnswer(500, True, 0.1), [], "OVNMD-505"),
        (NovaAnswer(200, True, 4.0), [], "OVNMD-508"),
        (NovaAnswer(300, True, 0.1), [], None),
        (None, [], None),
    ],
)
def test_what_an_answer_means(nova, answer, tried, code):
    nova.answer, nova.tried = answer, tried
    assert nova.round().keys() == ({code} if code else set())


@pytest.mark.parametrize(
    "answer", [NovaAnswer(302, True, 0.01), NovaAnswer(401, True, 0.01)]
)
def test_another_server_in_novas_place_is_noticed(nova, answer):
    nova.poll_after()
    nova.answer = answer
    assert nova.poll_after() == {}
    nova.count(answered=1)  # an instance asks
    assert "is it Nova" in nova.poll_after()["OVNMD-505"]
    nova.count(answered=1)  # the agent's own
    assert nova.poll_after().keys() == {"OVNMD-505"}
    nova.answer = FINE
    nova.count(answered=1)
    assert nova.poll_after() == {}


def test_a_web_page_is_no_answer_of_novas(nova):
    nova.answer = NovaAnswer(200, True, 0.01, is_page=True)
    assert "a web page" in nova.round()["OVNMD-505"]


def test_an_instance_may_ask_for_what_there_is_not(nova):
    nova.poll_after()
    nova.count(answered=1)
    assert nova.poll_after() == {}


def test_one_of_several_servers_is_down(nova):
    down = Endpoint("192.0.2.2:8775", True, "Connection refused", 1)
    endpoints = (Endpoint("192.0.2.1:8775", check_ms=1), down)
    nova.counted = NovaCounted(endpoints=endpoints)
    assert nova.round() == {"OVNMD-507": "192.0.2.2:8775: Connection refused"}
    nova.unresolved = ["nova3"]
    both = "192.0.2.2:8775: Connection refused; nova3: no address"
    assert nova.round() == {"OVNMD-507": both}


def test_most_answers_are_errors(nova):
    nova.poll_after()
    nova.count(errors=5, answered=4)
    assert nova.poll_after() == {"OVNMD-505": "5 of 9 answers were errors"}
    assert nova.poll_after().keys() == {"OVNMD-505"}
    nova.count(answered=1)
    assert nova.poll_after() == {}
    nova.count(errors=2)
    assert nova.poll_after() == {}  # one instance may cause a few
    nova.count(errors=9)
    assert nova.poll_after().keys() == {"OVNMD-505"}
    assert nova.poll_after(61) == {}  # nobody asks any more


def test_a_gateway_that_does_not_answer_says_nothing_new(nova):
    nova.answer = NONE
    nova.round()
    for error in (HaproxyError("x"), OSError("y")):
        nova.counted = error
        assert nova.poll_after().keys() == {"OVNMD-501"}


def test_the_secret_is_tried_once(nova):
    for _ in range(100):
        assert nova.round() == {}
        assert nova.poll_after() == {}
    assert nova.signatures == 1
    nova.key = "another"
    nova.round()
    assert nova.signatures == 2


def test_a_secret_that_is_refused_is_tried_until_it_is_accepted(nova):
    nova.signed = REFUSED
    assert nova.round().keys() == {"OVNMD-504"}
    assert nova.round().keys() == {"OVNMD-504"}
    nova.signed = UNKNOWN
    assert nova.round() == {}
    nova.round()
    assert nova.signatures == 2 + TRIES


def test_an_instance_that_is_refused_is_a_reason_to_try(nova):
    """A firewall may refuse what it asks for: then all is well."""
    nova.round()
    for _ in range(12):  # a minute
        nova.count(refused=3)
        assert nova.poll_after() == {}
    assert nova.signatures == 1 + TRIES
    nova.signed = REFUSED
    nova.count(refused=1)
    assert nova.poll_after(61).keys() == {"OVNMD-504"}
    nova.signed = UNKNOWN
    nova.count(answered=1)
    assert nova.poll_after() == {}


def test_a_load_balancer_of_which_one_server_refuses(nova, monkeypatch):
    """With one address, each request may reach another server."""
    both = itertools.cycle([UNKNOWN, REFUSED])
    monkeypatch.setattr(nova, "ask_signed", lambda _: next(both))
    assert nova.round() == {}
    assert next(both) == REFUSED  # an instance's: the next one is accepted
    nova.count(refused=1)
    assert nova.poll_after(61).keys() == {"OVNMD-504"}
    assert nova.round().keys() == {"OVNMD-504"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (NovaAnswer(500, True, 0.1), "OVNMD-505"),
        (NovaAnswer(200, True, 4.0), "OVNMD-508"),
        (NONE, "OVNMD-507"),
    ],
)
def test_one_server_of_two_that_is_not_well(nova, monkeypatch, answer, code):
    nova.counted = TWO
    monkeypatch.setattr(nova, "ask_root", [FINE, answer].__getitem__)
    assert [nova.round().keys() for _ in range(9)] == [{code}] * 9


def test_one_server_of_two_that_refuses_the_secret(nova, monkeypatch):
    nova.counted = TWO
    with monkeypatch.context() as for_now:
        for_now.setattr(nova, "ask_signed", [UNKNOWN, REFUSED].__getitem__)
        assert nova.round().keys() == {"OVNMD-504"}
        for more in ({"answered": 1}, {"refused": 1}, {}) * 9:
            nova.count(**more)
            assert nova.poll_after(1).keys() == {"OVNMD-504"}
            assert nova.round().keys() == {"OVNMD-504"}
    assert nova.round() == {}


@pytest.mark.parametrize(
    "signed",
    [*itertools.permutations((UNKNOWN, REFUSED, NovaAnswer(500, True, 0.1)))],
)
def test_a_server_that_fails_hides_no_other(nova, monkeypatch, signed):
    """It tells nothing of the secret; the others do."""
    nova.counted = NovaCounted(
        endpoints=tuple(Endpoint(f"192.0.2.{n}:80") for n in range(3))
    )
    monkeypatch.setattr(nova, "ask_signed", signed.__getitem__)
    assert nova.round().keys() == {"OVNMD-504"}


def test_a_nova_that_fails_is_not_asked_for_more_and_more(nova):
    """Each of thousands of agents would cost its database a look-up."""
    nova.signed = NovaAnswer(500, True, 0.1)
    for _ in range(120):  # an hour
        nova.round()
    assert 5 < nova.signatures < 12
    nova.answer = NONE
    before = nova.signatures
    nova.round(10_000)
    assert nova.signatures == before


@pytest.mark.parametrize("is_there", [True, False])
def test_a_gateway_that_ends_is_no_silence_of_nova(tmp_path, is_there):
    """It has the socket and closes the connection, or nobody listens."""
    settings: Any = types.SimpleNamespace(
        proxy_socket=tmp_path / "gateway.sock", shared_secret=""
    )
    places = types.SimpleNamespace(is_link_of_ours=lambda _: True)
    site: Any = types.SimpleNamespace(
        status=None,
        settings=lambda: settings,
        haproxies=types.SimpleNamespace(places=places),
    )
    unused: Any = None
    nova = NovaWatch(site, unused)
    with contextlib.ExitStack() as stack:
        if is_there:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(settings.proxy_socket))
            listener.listen()

            def end() -> None:
                listener.accept()[0].close()

            ends = threading.Thread(target=end)
            ends.start()
            stack.callback(ends.join, 10)
        assert nova.ask_root(0) is None


def test_each_of_many_servers_is_asked_in_turn(nova, monkeypatch):
    asked: list[int] = []
    signed: list[int] = []

    def ask(server: int) -> NovaAnswer:
        asked.append(server)
        return FINE

    def ask_signed(server: int) -> NovaAnswer:
        signed.append(server)
        return UNKNOWN

    monkeypatch.setattr(nova, "ask_root", ask)
    monkeypatch.setattr(nova, "ask_signed", ask_signed)
    nova.counted = NovaCounted(
        endpoints=tuple(Endpoint(f"192.0.2.{n}:80") for n in range(6))
    )
    for _ in range(3):
        nova.round()
    assert sorted(asked) == sorted([*range(6)] * 2)
    assert sorted(signed) == [*range(6)]


def test_a_round_is_asked_at_once_on_its_own_thread(monkeypatch):
    nova, asked = Nova(), threading.Event()
    monkeypatch.setattr(nova, "ask_root", lambda _server: asked.set())
    nova.start()
    nova.ask()
    assert asked.wait(4)
    nova.stop()
