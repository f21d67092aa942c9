"""Anybody may send to the socket; each message is one line that is printed."""

from __future__ import annotations

import pytest

from ovn_metadata.privsep.supervisor import request_log
from ovn_metadata.privsep.supervisor.request_log import RequestLog, printable


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (b"<133>Nov 28 a: b\n", b"Nov 28 a: b\n"),
        (b"no priority", b"no priority\n"),
        (b"<1><2>a", b"<2>a\n"),
        (b"a\nb\r\x1b[2J\xff\x00", b"a?b??[2J??\n"),
        (b"", b"\n"),
    ],
)
def test_a_message_is_a_line(message, line):
    assert printable(message) == line


def test_its_number_is_free_once_supervisord_closes_all(tmp_path, monkeypatch):
    """Else garbage collection would close it when it is another's."""
    monkeypatch.setattr(request_log, "_SYSLOG", tmp_path / "none")
    log = RequestLog(tmp_path / "log.sock", foreground=True)
    opened = log.socket
    assert opened is not None
    log.close(None)
    assert opened.fileno() == -1
    log.print()
