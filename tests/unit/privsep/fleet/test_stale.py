"""Whose PID is this really: no signal to a process that is not ours."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from ovn_metadata.privsep import names
from ovn_metadata.privsep.fleet import stale

HAPROXY = "/usr/sbin/haproxy"
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
FOLDER = str(Path(__file__).parent)  # one that is there
CONFIG = f"{FOLDER}/{NETWORK}.conf"
WORDS = ("haproxy", "-W", "-db", "-p", "/x.pid", "-f", CONFIG)
NEUTRONS_WORDS = ("haproxy", "-f", CONFIG)
GONE = 2**22 + 1
DELETED = " (deleted)"


class Process:
    """Stands for psutil's view of this very process, as a haproxy."""

    def __init__(self, **changes):
        self.pid = os.getpid()
        self.arguments = list(WORDS)
        self.running = True
        vars(self).update(changes)

    def is_running(self):
        return self.running


@pytest.fixture(autouse=True)
def links(monkeypatch) -> dict[str, str]:
    """Have this process be haproxy by its link in /proc."""
    changed = {f"/proc/{os.getpid()}/exe": HAPROXY}
    real = os.readlink

    def readlink(path: str) -> str:
        return changed[path] if path in changed else real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    return changed


def stale_one(*, network: str = NETWORK, **changes) -> stale.Stale:
    process: Any = Process(**changes)
    config = stale.config_of(process.arguments) or CONFIG
    return stale.Stale(process, network, config)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, True, id="ours"),
        pytest.param({"arguments": NEUTRONS_WORDS}, True, id="Neutron's"),
        pytest.param(
            {"arguments": [*WORDS, "-sf", "7"]}, True, id="reloaded once"
        ),
        pytest.param(
            {"executable": f"{HAPROXY}{DELETED}"}, True, id="upgraded"
        ),
        pytest.param(
            {"executable": "/opt/haproxy-2.9/sbin/haproxy"},
            True,
            id="the link leads elsewhere now",
        ),
        pytest.param(
            {
                "arguments": ["/opt/haproxy-3.0", *WORDS[1:]],
                "executable": "/opt/haproxy-3.0",
            },
            True,
            id="by another name",
        ),
        pytest.param(
            {"executable": "/bin/sleep"},
            False,
            id="another program that calls itself so",
        ),
        pytest.param(
            {"arguments": ["haproxy", "-f", f"/another/{NETWORK}.conf"]},
            False,
            id="in another folder",
        ),
        pytest.param({"pid": GONE}, False, id="gone"),
    ],
)
def test_is_ours_by_its_file(changes, expected, links):
    links[f"/proc/{os.getpid()}/exe"] = changes.pop("executable", HAPROXY)
    assert stale_one(**changes).is_ours({FOLDER}) == expected


def test_no_file_is_looked_for_at_the_path_of_an_executable(
    links, monkeypatch
):
    """Another user chose it: it may be on a server that never answers."""
    looked_at: list[str] = []
    real = os.stat

    def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        looked_at.append(str(path))
        return real(path, *args, **kwargs)

    links[f"/proc/{os.getpid()}/exe"] = f"/far/haproxy{DELETED}"
    monkeypatch.setattr(os, "stat", stat)
    one = stale.Stale(psutil.Process(), NETWORK, CONFIG)
    assert one.is_ours({FOLDER})
    assert not [path for path in looked_at if "/far/" in path]


def test_same_path_in_another_place_is_not_ours(monkeypatch):
    """As in a container, whether or not we still have that folder."""
    for folder in (FOLDER, f"{FOLDER}/gone"):
        words = ["haproxy", "-f", f"{folder}/{NETWORK}.conf"]
        one = stale_one(arguments=words)
        assert one.is_ours({folder})
        with monkeypatch.context() as patch:
            patch.setattr(stale, "_is_same", lambda *_: False)
            assert not one.is_ours({folder})


def test_nothing_is_looked_up_in_what_another_user_has_mounted(monkeypatch):
    """A file system of theirs may never answer, and supervisord would hang.

    A process may enter it at any moment: its root folder is opened first.
    """
    seen: list[str] = []

    def opened(path: str, *flags: int) -> int:
        seen.append(path)
        return open_(path, *flags)

    open_ = os.open
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(stale, "_is_same", lambda one, _: seen.append(one))
    assert not stale_one().is_ours({FOLDER})
    there = f"/proc/{os.getpid()}"
    assert seen == [f"{there}/root", f"{there}/ns/user", f"{there}/ns/net"]


def test_one_in_the_networks_namespace_is_ours_wherever_its_file_is(
    monkeypatch, links
):
    seen = []

    def is_in_namespace(pid: int, network: str) -> bool:
        seen.append((pid, network))
        return network == NETWORK

    monkeypatch.setattr(stale, "is_in_namespace", is_in_namespace)
    assert stale_one().is_ours(())
    assert seen == [(os.getpid(), NETWORK)]
    # The gateway is where many are.
    words = ["haproxy", "-f", f"{FOLDER}/gateway.conf"]
    gateway = stale_one(network="gateway", arguments=words)
    assert not gateway.is_ours(())
    assert gateway.is_ours({FOLDER})
    links[f"/proc/{os.getpid()}/exe"] = "/bin/sleep"
    assert not stale_one().is_ours(())


@pytest.mark.parametrize(
    ("kind", "expected"), [("net", True), ("mnt", False), ("none", False)]
)
def test_is_in_namespace(tmp_path, monkeypatch, kind, expected):
    monkeypatch.setattr(names, "NAMESPACE_FOLDER", str(tmp_path))
    (tmp_path / f"ovnmeta-{NETWORK}").symlink_to(f"/proc/self/ns/{kind}")
    assert stale.is_in_namespace(os.getpid(), NETWORK) == expected


def test_a_networks_is_placed_by_root_in_its_namespace(monkeypatch):
    for inside in (True, False):
        monkeypatch.setattr(stale, "is_in_namespace", lambda *_, i=inside: i)
        assert stale_one().is_placed_by_root() == inside


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(WORDS, CONFIG, id="ours"),
        pytest.param(NEUTRONS_WORDS, CONFIG, id="Neutron's"),
        pytest.param(("/usr/sbin/haproxy", *WORDS[1:]), CONFIG, id="by path"),
        pytest.param(
            ("/opt/haproxy-3.0", *WORDS[1:]), CONFIG, id="by another name"
        ),
        pytest.param((*WORDS, "-sf", "7"), CONFIG, id="reloaded"),
        pytest.param(WORDS[:-1], None, id="no file after -f"),
        pytest.param(("sh", *WORDS), None, id="another program"),
        pytest.param((), None, id="a kernel thread"),
    ],
)
def test_config_of(words, expected):
    assert stale.config_of(words) == expected


class Listed:
    """A row of psutil's process list."""

    def __init__(self, pid, ppid, words):
        self.pid, self.words = pid, words
        self.info = {"ppid": ppid, "uids": (0, 0, 0)}


def test_scan_finds_masters_and_neither_their_workers_nor_others(monkeypatch):
    listed = [
        Listed(1, 0, ["init"]),
        Listed(20, 1, list(WORDS)),
        Listed(21, 20, list(WORDS)),
        Listed(30, 1, ["haproxy", "-f", "/y/gateway.conf"]),
        Listed(40, 1, [""]),
        Listed(50, 1, ["haproxy", "-f", "/etc/haproxy/haproxy.cfg"]),
        Listed(60, 1, ["haproxy", "-c", "-f", f"{FOLDER}/{NETWORK}.new"]),
        Listed(70, 2, list(WORDS)),  # supervisord's
        Listed(71, 70, list(WORDS)),
    ]
    words = {one.pid: one.words for one in listed}
    monkeypatch.setattr(psutil, "process_iter", lambda _fields: listed)
    # In functional/test_listeners.py a child does this.
    monkeypatch.setattr(
        stale,
        "_command_lines",
        lambda users: {pid: words[pid] for pid in users},
    )
    found = [(o.process.pid, o.network, o.config) for o in stale.scan({70})]
    assert found == [
        (20, NETWORK, CONFIG),
        (30, "gateway", "/y/gateway.conf"),
    ]


def test_it_is_signalled_through_its_pidfd():
    received = []
    before = signal.signal(stale.FINISH, lambda *_: received.append(1))
    one = stale_one()
    try:
        assert one.send(stale.FINISH, {FOLDER})
    finally:
        signal.signal(stale.FINISH, before)
    assert received
    assert one.signalled == stale.FINISH


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"running": False}, id="that has the number now"),
        pytest.param({"pid": GONE}, id="that is gone"),
    ],
)
def test_no_signal_goes_to_a_process(changes):
    # SIGUSR1 or SIGTERM would end this process.
    one = stale_one(**changes)
    for number in (stale.FINISH, stale.END, signal.SIGKILL):
        assert not one.send(number, {FOLDER})


@pytest.mark.parametrize(
    ("waited_s", "expected"),
    [
        (0.0, stale.FINISH),
        (60.0, stale.FINISH),
        (60.1, stale.END),
        (70.1, signal.SIGKILL),
    ],
)
def test_one_that_takes_too_long_to_finish_is_ended(waited_s, expected):
    assert stale.signal_after(waited_s) == expected
