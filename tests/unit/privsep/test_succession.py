"""In which order a gateway is found and its predecessor told to go."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from supervisor.states import ProcessStates

from ovn_metadata.privsep import gateway_socket, names, orphans, succession

CONFIG = "/state/ovn-metadata-proxy/gateway.conf"
HAPROXY = "/usr/sbin/haproxy"


@pytest.fixture
def gateway() -> Any:
    """Supervisord's process, which runs."""
    return SimpleNamespace(
        pid=1,
        backoff=0,
        delay=7.0,
        get_state=lambda: ProcessStates.RUNNING,
        _prepare_child_fds=lambda: None,
        config=SimpleNamespace(
            name=names.program_name(names.GATEWAY),
            command=f"{HAPROXY} --groups=0 -f {CONFIG}",
        ),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sock"


@pytest.fixture
def held(path: Path) -> gateway_socket.GatewaySocket:
    return gateway_socket.GatewaySocket(
        path, logger=logging.getLogger(__name__)
    )


@pytest.fixture
def earlier(path: Path):
    """One that an earlier supervisord's gateway listens at."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield listener


# ------------------------------------------------------------- the socket


def test_an_earlier_ones_name_stays_where_there_is_no_other(
    earlier, held, gateway, path
):
    """No descriptor was left to make one."""
    for gateway.backoff in (1, 2, 0):
        held._failing(SimpleNamespace(process=gateway))
        assert path.exists()


def test_the_first_that_ends_early_is_started_again_at_once(
    held, gateway, path, monkeypatch
):
    """And has the same socket; the second has none, nor a name."""
    monkeypatch.setattr(os, "chown", lambda *_: None)
    event = SimpleNamespace(process=gateway)
    held._starting(event)
    made = path.stat().st_ino
    gateway.backoff = 1
    held._failing(event)
    assert gateway.delay == 0
    held._starting(event)
    assert path.stat().st_ino == made
    gateway.backoff, gateway.delay = 2, 7.0
    held._failing(event)
    assert gateway.delay == 7.0
    assert not path.exists()


def test_it_has_the_name_as_soon_as_the_earlier_one_refuses(
    earlier, held, gateway, path, monkeypatch
):
    monkeypatch.setattr(os, "chown", lambda *_: None)
    held._starting(SimpleNamespace(process=gateway))
    was = path.stat().st_ino
    held.publish_if_nobody_answers()
    assert path.stat().st_ino == was
    earlier.close()
    held.publish_if_nobody_answers()
    assert path.stat().st_ino != was


# --------------------------------------------------------- the succession


@pytest.fixture
def done() -> list[object]:
    return []


@pytest.fixture
def succeeding(
    earlier, held, gateway, path, done, monkeypatch
) -> succession.Succession:
    """One that has a gateway which serves, beside an earlier one."""
    monkeypatch.setattr(os, "chown", lambda *_: None)
    held._starting(SimpleNamespace(process=gateway))
    made = path.with_name(".gateway.sock.new").stat().st_ino
    old = orphans.Orphan(psutil.Process(), CONFIG)

    def told(*_: object, **__: object) -> bool:
        done.append("told" if path.stat().st_ino == made else "too early")
        return True

    monkeypatch.setattr(orphans, "scan", lambda: [old])
    monkeypatch.setattr(succession, "listens", lambda *_, **__: True)
    monkeypatch.setattr(orphans.Orphan, "end", told)
    monkeypatch.setattr(orphans.Orphan, "finish", told)
    group = SimpleNamespace(processes={"gateway": gateway})
    supervisord: Any = SimpleNamespace(
        process_groups={"gateway": group},
        options=SimpleNamespace(
            logger=SimpleNamespace(info=lambda *_, **__: None)
        ),
    )
    return succession.Succession(supervisord, held)


@pytest.mark.parametrize("by", ["sweep", "succeed", "hand_over"])
def test_who_asks_comes_to_the_new_one_before_the_old_one_is_told(
    succeeding, gateway, done, by, monkeypatch
):
    """A moment before, so that it takes what waits in its own queue."""
    times = iter((7.0, 7.1, 8.0))
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(gateway_socket, "time", clock)
    succeeding.has_come(gateway)
    calls = {
        "sweep": lambda: succeeding.sweep(
            "/state/ovn-metadata-proxy", HAPROXY
        ),
        "succeed": lambda: succeeding.succeed(gateway),
        "hand_over": succeeding.hand_over,
    }
    for _ in range(2):
        calls[by]()
        assert done == []
    calls[by]()
    assert done == ["told"]


def test_a_gateways_predecessor_is_in_nobodys_way(succeeding, gateway, done):
    """It has no port; and if its user is another by now it stays as well."""
    gateway.config.command = f"{HAPROXY} --reuid=1 -f {CONFIG}"
    succeeding.make_room(gateway.config)
    assert done == []
