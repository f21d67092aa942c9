"""How many calls that wait the daemon gets at a time."""

from __future__ import annotations

import contextlib
import time

import pytest

from ovn_metadata.agent.reconcile import privileged
from ovn_metadata.privsep.errors import AskError, PrivilegedError


def test_a_fourth_request_gives_up_and_blames_no_network():
    """An AskError would be reported as a problem of the network."""
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(privileged._ASKING)
        began = time.monotonic()
        with pytest.raises(PrivilegedError, match="too many") as error:
            privileged.Privileged.ask(
                "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f",
                source="10.0.0.5",
                path="/",
                timeout_s=1,
            )
    assert not isinstance(error.value, AskError)
    assert 0.9 < time.monotonic() - began < 20
