"""Sums over a haproxy's restarts, and who is over a share when."""

from __future__ import annotations

from ovn_metadata.agent.haproxy.ledger import CALM_S, Counted, Ledger


def test_sums_go_on_when_haproxy_begins_anew():
    ledger = Ledger()
    for counted in (
        Counted(3, {"a": (5, 1)}),
        Counted(4, {"a": (7, 1), "b": (1, 0)}),
        Counted(1, {"a": (2, 2)}),  # it has restarted
        Counted(1, {}),  # it has forgotten a
        Counted(1, {"a": (1, 0)}),
    ):
        ledger.add(counted, 0.0)
    assert ledger.sums == (5 + 2 + 1 + 2 + 1, 1 + 1)
    assert ledger.incomplete == 2  # the first three were before us


def test_news_is_told_once_until_it_was_calm():
    ledger = Ledger()
    assert ledger.add(Counted(0, {"a": (1, 0)}), 0.0) == ["a"]
    assert ledger.add(Counted(0, {"a": (2, 0), "b": (0, 1)}), 5.0) == ["b"]
    assert ledger.over == ("a", "b")
    later = 5.0 + CALM_S + 1
    assert ledger.add(Counted(0, {"a": (2, 0)}), later) == []
    assert not ledger.over
    assert ledger.add(Counted(0, {"a": (3, 0)}), later) == ["a"]


def test_incomplete_requests_are_counted_and_no_news():
    """Haproxy can't tell whose they are; a probe of the port makes some."""
    ledger = Ledger()
    assert ledger.add(Counted(5000), 0.0) == []
    assert ledger.incomplete == 0
    assert ledger.add(Counted(5000 + 101), 1.0) == []
    assert ledger.incomplete == 101
