"""Without /dev/log, as in a container, requests are in the fleet's output."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Instance, units, wait_for
from sandbox.case import Case, ready, wait_served
from sandbox.syslog import LOG, leave

SOCKET = Path("/run/ovn-metadata-fleet/requests.sock")
LINE = re.compile(
    r"\w{3} [ \d]\d \d\d:\d\d:\d\d haproxy-metadata-proxy-([0-9a-z-]+)"
    r'\[\d+\]: .*"GET (/\S+) HTTP/1.1"'
)


class Fleet:
    """The fleet, in the foreground, with what it prints."""

    def __init__(self, instance: Instance, output: Path) -> None:
        self.instance = instance
        self._output = output

    def asked(self, path: str) -> list[str]:
        """Return the tags of the lines about PATH."""
        lines = LINE.findall(self._output.read_text())
        return [tag for tag, found in lines if found == path]


@pytest.fixture
def fleet(own_box) -> Iterator[Fleet]:
    output = own_box.folder / "fleet.out"
    daemon = units.fleet(output)
    LOG.unlink()
    daemon.start()
    try:
        case = Case(ready(own_box))
        instance = case.instance(case.network("n"))
        yield Fleet(instance, output)
        own_box.agent.stop()
    finally:
        daemon.stop()
        leave()


def test_each_request_is_a_line_of_the_fleets_output(fleet: Fleet):
    instance = fleet.instance
    assert instance.fetch("/latest/meta-data/a").status == 404
    wanted = sorted(["gateway", instance.port.network.id])
    wait_for(
        lambda: sorted(fleet.asked("/latest/meta-data/a")) == wanted,
        timeout_s=60,
        what="both lines",
    )


def test_what_others_send_is_a_line_without_control_characters(fleet: Fleet):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.sendto(b"<13>a\x1b[2J\nb\xff" + b"c" * 9000, str(SOCKET))
    text = fleet._output.read_text
    wait_for(lambda: "\na?[2J?b?cccc" in text(), timeout_s=60, what="the line")
    longest = max(len(line) for line in text().splitlines())
    assert longest <= 1100


def test_where_there_is_a_log_the_fleet_prints_none(own_box):
    daemon = units.fleet(own_box.folder / "fleet.out")
    SOCKET.parent.mkdir(mode=0o711, exist_ok=True)
    (SOCKET.parent / "programs").mkdir(mode=0o700, exist_ok=True)
    SOCKET.touch()
    daemon.start()
    try:
        wait_for(
            lambda: not SOCKET.exists(), timeout_s=60, what="no stale socket"
        )
        case = Case(ready(own_box))
        wait_served(case.instance(case.network("n")))
        own_box.agent.stop()
    finally:
        daemon.stop()
