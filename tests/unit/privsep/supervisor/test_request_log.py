"""Anybody may send to the socket; each message is one line that is printed."""

from __future__ import annotations

import pytest

from ovn_metadata.privsep.supervisor.request_log import printable


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
