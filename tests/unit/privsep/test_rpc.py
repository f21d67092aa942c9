"""A supervisord of another version is told from ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovn_metadata.privsep import names
from ovn_metadata.privsep.errors import FleetError
from ovn_metadata.privsep.rpc import Supervisord
from ovn_metadata.privsep.settings import FleetSettings

SETTINGS = FleetSettings("/h", "nobody", 1, 1, Path("/nonexistent"))


@pytest.mark.parametrize("answer", [True, names.FLEET_PROTOCOL + 1])
def test_another_version_is_refused_with_the_remedy(monkeypatch, answer):
    with Supervisord(SETTINGS) as rpc:
        monkeypatch.setattr(rpc, "call", lambda _method: answer)
        with pytest.raises(FleetError, match="kill -9"):
            rpc.check_version()


def test_our_own_version_is_taken(monkeypatch):
    with Supervisord(SETTINGS) as rpc:
        monkeypatch.setattr(rpc, "call", lambda _method: names.FLEET_PROTOCOL)
        rpc.check_version()


def test_nobody_there_does_not_answer():
    with Supervisord(SETTINGS) as rpc:
        assert not rpc.answers()
