"""In which order a gateway is found and its predecessor told to go."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from supervisor.states import ProcessStates

from ovn_metadata.privsep import names, orphans, succession

CONFIG = "/state/ovn-metadata-proxy/gateway.conf"
HAPROXY = "/usr/sbin/haproxy"


@pytest.fixture
def done() -> list[object]:
    return []


@pytest.fixture
def swept(monkeypatch, done) -> succession.Succession:
    """Give one that has a gateway which serves, beside an earlier one."""
    process: Any = SimpleNamespace(
        pid=1,
        get_state=lambda: ProcessStates.RUNNING,
        config=SimpleNamespace(
            name=names.program_name(names.GATEWAY),
            command=f"{HAPROXY} -f {CONFIG}",
        ),
    )
    group: Any = SimpleNamespace(processes={"gateway": process})
    old = orphans.Orphan(psutil.Process(), CONFIG)
    monkeypatch.setattr(orphans, "scan", lambda: [old])
    monkeypatch.setattr(succession, "listens", lambda *_, **__: True)
    monkeypatch.setattr(
        orphans.Orphan, "end", lambda *_, number: done.append(number)
    )
    supervisord: Any = SimpleNamespace(process_groups={"gateway": group})
    gateway: Any = SimpleNamespace(publish=lambda: done.append("published"))
    return succession.Succession(supervisord, gateway)


def test_sweep_that_comes_first_has_the_new_gateway_asked(swept, done):
    """Or who asks is refused until the next round of supervisord's loop."""
    assert swept.sweep("/state/ovn-metadata-proxy", HAPROXY) == ["gateway"]
    assert done == ["published", signal.SIGUSR1]
