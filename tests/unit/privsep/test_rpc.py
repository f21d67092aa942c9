"""What supervisord answers, and what is made of it."""

from __future__ import annotations

import xmlrpc.client
from pathlib import Path

import pytest
from supervisor.xmlrpc import Faults

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


@pytest.mark.parametrize(
    ("stops", "forgets", "raises"),
    [
        pytest.param([0], [0], None, id="runs"),
        pytest.param([Faults.NOT_RUNNING], [0], None, id="has stopped"),
        pytest.param([Faults.BAD_NAME], [], None, id="is not known"),
        pytest.param([0], [Faults.BAD_NAME], None, id="somebody was faster"),
        pytest.param(
            [Faults.NOT_RUNNING, 0],
            [Faults.STILL_RUNNING, 0],
            None,
            id="is started in between",
        ),
        pytest.param(
            [0, 0],
            [Faults.STILL_RUNNING, Faults.STILL_RUNNING],
            Faults.STILL_RUNNING,
            id="is started again and again",
        ),
        pytest.param([Faults.FAILED], [], Faults.FAILED, id="won't stop"),
    ],
)
def test_a_program_is_stopped_and_forgotten(
    monkeypatch, stops, forgets, raises
):
    """Whatever its state is; with supervisord's answers, in order."""
    answers = {
        "supervisor.stopProcess": stops,
        "supervisor.removeProcessGroup": forgets,
    }

    def answer(method, _name):
        code = answers[method].pop(0)
        if code:
            raise xmlrpc.client.Fault(code, "")

    with Supervisord(SETTINGS) as rpc:
        monkeypatch.setattr(rpc, "call", answer)
        if raises is None:
            rpc.stop_and_forget("haproxy-x")
        else:
            with pytest.raises(xmlrpc.client.Fault) as raised:
                rpc.stop_and_forget("haproxy-x")
            assert raised.value.faultCode == raises
    assert (stops, forgets) == ([], [])
