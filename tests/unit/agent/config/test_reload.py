"""What a reload puts in force, and what waits for a restart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ovn_metadata.agent.config.reload import after_reload

from .test_options import DEFAULTS

SOUTHBOUND = DEFAULTS.southbound


@pytest.mark.parametrize(
    "change",
    [
        {"shared_secret": "new"},
        {"timeouts": dataclasses.replace(DEFAULTS.timeouts, client_s=99)},
        {"rate_limit": dataclasses.replace(DEFAULTS.rate_limit, enabled=True)},
        {"fair_share": dataclasses.replace(DEFAULTS.fair_share, uploads=9)},
        {"backlog": 7},
        {"agent_down_time_s": 9},
        {"resync_interval_s": 9},
        {"warnings": ("something",)},
        {"southbound": dataclasses.replace(SOUTHBOUND, log_level="DEBUG")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_is_in_force_at_once(change):
    read = dataclasses.replace(DEFAULTS, **change)
    assert after_reload(DEFAULTS, read) == (read, ())


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("state_path", Path("/elsewhere"), "[DEFAULT] state_path"),
        ("pids_path", Path("/elsewhere"), "[DEFAULT] external_pids"),
        (
            "status_socket",
            Path("/elsewhere"),
            "[ovn_metadata_agent] status_socket",
        ),
        ("reconcile_workers", 7, "[ovn_metadata_agent] reconcile_workers"),
        ("service_user", "nobody", "[ovn_metadata_agent] service_user"),
        ("chassis_name", "c-2", "[ovn_metadata_agent] chassis_name"),
        (
            "southbound",
            dataclasses.replace(SOUTHBOUND, remotes=("tcp:x:1",)),
            "[ovn] ovn_sb_connection",
        ),
    ],
)
def test_waits_for_a_restart(name, value, shown):
    change = {"shared_secret": "new", name: value}
    read = dataclasses.replace(DEFAULTS, **change)
    settings, waiting = after_reload(DEFAULTS, read)
    assert waiting == (shown,)
    assert settings == dataclasses.replace(DEFAULTS, shared_secret="new")
