"""What is reported of a daemon by the socket that it listens on."""

from __future__ import annotations

import contextlib
import socket

import pytest

from ovn_metadata.privsep import vswitch


def test_a_daemon_that_hangs_is_silent_also_when_its_queue_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path
):
    """Those who asked before are in the queue, though they have gone."""
    path = str(tmp_path / "ctl")
    monkeypatch.setattr(vswitch, "_control_socket", lambda _name: path)
    monkeypatch.setattr(vswitch, "_VERSION_S", 0.01)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as hangs:
        hangs.bind(path)
        hangs.listen(0)
        words = [vswitch._word("ovs-vswitchd", "version") for _ in range(3)]
    assert words == ["silent"] * 3
    assert vswitch._word("ovs-vswitchd", "version") == "dead"
