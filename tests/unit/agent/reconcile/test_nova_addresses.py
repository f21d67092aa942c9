"""Nova's names: their addresses, and what counts after a failure."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ovn_metadata.agent.config.settings import Nova
from ovn_metadata.agent.reconcile import nova_addresses
from ovn_metadata.agent.reconcile.nova_addresses import NovaAddresses
from ovn_metadata.privsep.names import GATEWAY


class Names:
    """A name server whose answers a test can change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked = threading.Semaphore(0)
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)
        monkeypatch.setattr(nova_addresses, "own_address", self._own_address)
        self.away: set[str] = set()

    def _own_address(self, other):
        return "" if other in self.away else "192.0.2.1"

    def _getaddrinfo(self, name, port, **_options):
        self.asked.release()
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [(0, 0, 0, "", (one, port)) for one in self.known[name]]


@pytest.fixture
def names(monkeypatch):
    return Names(monkeypatch)


@pytest.fixture
def follow():
    """Return a function that starts NovaAddresses for host names."""
    started = []

    def start(*hosts: str) -> tuple[NovaAddresses, threading.Event]:
        nova = Nova(
            tuple((host, None) for host in hosts),
            port=8775,
            protocol="http",
            ca_cert=None,
            insecure=False,
            client_cert=None,
            client_key=None,
        )
        changed = threading.Event()
        settings = SimpleNamespace(nova=nova, resolve_interval_s=3600)

        def add(key: str) -> None:
            assert key == GATEWAY
            changed.set()

        queue = SimpleNamespace(add=add)
        site: Any = SimpleNamespace(
            settings=lambda: settings, queues=SimpleNamespace(reconcile=queue)
        )
        made = NovaAddresses(site)
        made.start()
        started.append(made)
        return made, changed

    yield start
    for each in started:
        each.stop()


def again(hosts: NovaAddresses, changed: threading.Event) -> None:
    """Make HOSTS look up again; return once an address changed."""
    changed.clear()
    hosts.wake()
    assert changed.wait(10)


def test_an_address_needs_no_look_up(names, follow):
    hosts, _ = follow("10.0.0.1")
    assert hosts.addresses("10.0.0.1") == ("10.0.0.1",)
    assert not names.asked.acquire(timeout=0)


def test_a_name_is_unknown_until_it_was_looked_up(names):
    site: Any = None  # it is not started
    hosts = NovaAddresses(site)
    assert hosts.addresses("nova") is None


def test_all_addresses_of_a_name_count_in_any_order(names, follow):
    names.known["nova"] = ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fe80::1%eth0"]
    hosts, changed = follow("nova")
    assert changed.wait(10)
    assert hosts.addresses("nova") == ("10.0.0.1", "10.0.0.2")


def test_a_name_that_moves_is_followed(names, follow):
    names.known["nova"] = ["10.0.0.1"]
    hosts, changed = follow("nova")
    assert changed.wait(10)
    names.known["nova"] = ["10.0.0.9"]
    again(hosts, changed)
    assert hosts.addresses("nova") == ("10.0.0.9",)


def test_a_name_that_is_gone_leaves_what_was_known(names, follow):
    names.known.update(a=["10.0.0.1"], b=["10.0.0.2"])
    hosts, changed = follow("a", "b")
    assert changed.wait(10)
    del names.known["a"]
    names.known["b"] = ["10.0.0.3"]  # shows that the look-up is over
    again(hosts, changed)
    assert hosts.addresses("a") == ("10.0.0.1",)


def test_a_name_that_never_was_there_has_no_address(names, follow):
    hosts, changed = follow("nowhere")
    assert changed.wait(10)
    assert hosts.addresses("nowhere") == ()


def test_addresses_without_a_route_are_left_out(names, follow):
    """They would be a server that is down, for ever, on each such host."""
    names.known["nova"] = ["2001:db8::1", "192.0.2.1"]
    names.away = {"2001:db8::1"}
    hosts, changed = follow("nova")
    assert changed.wait(10)
    assert hosts.addresses("nova") == ("192.0.2.1",)
    names.away = {"192.0.2.1"}  # for a moment: it is kept
    again(hosts, changed)
    assert hosts.addresses("nova") == ("192.0.2.1", "2001:db8::1")


def test_without_any_route_all_addresses_count(names, follow):
    names.known["nova"] = ["2001:db8::1", "192.0.2.1"]
    names.away = {*names.known["nova"]}
    hosts, changed = follow("nova")
    assert changed.wait(10)
    assert hosts.addresses("nova") == ("192.0.2.1", "2001:db8::1")


def test_names_without_an_address(names, follow):
    names.known["b"] = ["10.0.0.2"]
    hosts, changed = follow("a", "b", "10.0.0.1")
    assert changed.wait(10)
    names.known["b"] = ["10.0.0.3"]  # shows that both were looked up
    again(hosts, changed)
    assert hosts.addresses("b") == ("10.0.0.3",)
    assert hosts.unresolved() == ["a"]
