"""Whose PID is this really: no signal to a process that is not ours."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import psutil
import pytest

from ovn_metadata.privsep import orphans

OWN = "/proc/self/ns/net"
HAPROXY = os.path.realpath(sys.executable)
NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"


def command(pid_file: str, *, namespace: str = "") -> list[str]:
    enter = ("/usr/bin/nsenter", f"--net={namespace}") if namespace else ()
    return [
        *enter,
        "/usr/bin/setpriv",
        "--reuid=990",
        HAPROXY,
        "-W",
        "-db",
        "-p",
        pid_file,
        "-f",
        "/x.conf",
    ]


class Process:
    """Stands for psutil's view of this very process, as a haproxy."""

    def __init__(self, **changes):
        self.pid = os.getpid()
        self.arguments = list(HAPROXY_WORDS)
        self.executable = HAPROXY
        self.owners = (990, 990, 990)
        self.running = True
        vars(self).update(changes)

    def oneshot(self):
        return threading.Lock()  # any context manager

    def cmdline(self):
        return self.arguments

    def exe(self):
        return self.executable

    def uids(self):
        return self.owners

    def is_running(self):
        return self.running


HAPROXY_WORDS = ("haproxy", "-W", "-db", "-p", "/x.pid", "-f", "/x.conf")
NEUTRONS_WORDS = ("haproxy", "-f", "/x.conf")


@pytest.mark.parametrize(
    ("change", "namespace", "expected"),
    [
        pytest.param({"arguments": []}, OWN, False, id="a zombie"),
        pytest.param(
            {"arguments": [*HAPROXY_WORDS[:-1], "/another.conf"]},
            OWN,
            False,
            id="another network's haproxy",
        ),
        pytest.param(
            {"executable": "/bin/sleep"},
            OWN,
            False,
            id="another program that calls itself so",
        ),
        pytest.param({}, "/proc/self/ns/mnt", False, id="another namespace"),
        pytest.param({}, "/nonexistent", False, id="its namespace is gone"),
        pytest.param({}, OWN, True, id="a network's"),
        pytest.param({}, "", True, id="the gateway's"),
        pytest.param(
            {"arguments": [*HAPROXY_WORDS, "-sf", "7"]},
            "",
            True,
            id="reloaded once",
        ),
        pytest.param(
            {"arguments": list(NEUTRONS_WORDS)}, OWN, True, id="Neutron's"
        ),
        pytest.param(
            {"executable": f"{HAPROXY} (deleted)"}, "", True, id="upgraded"
        ),
    ],
)
def test_is_predecessor(change, namespace, expected):
    words = command("/x.pid", namespace=namespace)
    process: Any = Process(**change)
    assert orphans.is_predecessor(process, words) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, True, id="wherever its namespace is"),
        pytest.param({"executable": "/bin/sleep"}, False, id="no haproxy"),
        pytest.param(
            {"arguments": ["haproxy", "-c", "-f", "/x.new"]},
            False,
            id="on another file",
        ),
        pytest.param({"pid": 2**22 + 1}, False, id="gone meanwhile"),
    ],
)
def test_is_ours(change, expected):
    process: Any = Process(**change)
    assert orphans.is_ours(process, "/x.conf", HAPROXY) == expected


def test_same_path_in_another_place_is_not_ours(tmp_path):
    config = f"{tmp_path}/none/x.conf"  # a folder that we do not have
    process: Any = Process(arguments=["haproxy", "-f", config])
    assert not orphans.is_ours(process, config, HAPROXY)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(f"/a/{NETWORK}.conf", NETWORK, id="a network's"),
        pytest.param("/a/gateway.conf", "gateway", id="the gateway's"),
        pytest.param(f"/b/{NETWORK}.conf", None, id="in another folder"),
        pytest.param(f"/a/b/{NETWORK}.conf", None, id="below the folder"),
        pytest.param(f"/a/{NETWORK}.map", None, id="no configuration"),
        pytest.param("/a/haproxy.cfg", None, id="another's"),
    ],
)
def test_network_of(config, expected):
    assert orphans.network_of(config, "/a") == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(HAPROXY_WORDS, "/x.conf", id="ours"),
        pytest.param(NEUTRONS_WORDS, "/x.conf", id="Neutron's"),
        pytest.param(
            ("/usr/sbin/haproxy", *HAPROXY_WORDS[1:]), "/x.conf", id="by path"
        ),
        pytest.param((*HAPROXY_WORDS, "-sf", "7"), "/x.conf", id="reloaded"),
        pytest.param(HAPROXY_WORDS[:-1], None, id="no file after -f"),
        pytest.param(("sh", *HAPROXY_WORDS), None, id="another program"),
        pytest.param((), None, id="a kernel thread"),
    ],
)
def test_config_of(words, expected):
    assert orphans.config_of(words) == expected


class Listed:
    """A row of psutil's process list."""

    def __init__(self, pid, ppid, cmdline):
        self.pid = pid
        self.info = {"ppid": ppid, "cmdline": cmdline}


def test_scan_finds_masters_and_not_their_workers(monkeypatch):
    listed = [
        Listed(1, 0, ["init"]),
        Listed(20, 1, list(HAPROXY_WORDS)),
        Listed(21, 20, list(HAPROXY_WORDS)),
        Listed(30, 1, ["haproxy", "-f", "/y.conf"]),
        Listed(40, 1, None),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda _fields: listed)
    found = [(orphan.pid, orphan.config) for orphan in orphans.scan()]
    assert found == [(20, "/x.conf"), (30, "/y.conf")]


def orphan_of(**changes) -> orphans.Orphan:
    process: Any = Process(**changes)
    return orphans.Orphan(process, "/x.conf")


@pytest.mark.parametrize(
    ("owners", "expected"),
    [((990, 990, 990), True), ((0, 0, 0), False), ((990, 0, 990), False)],
)
def test_has_user_of(owners, expected):
    orphan = orphan_of(owners=owners)
    assert orphan.has_user_of(command("/x.pid")) == expected


def test_an_orphan_is_signalled_through_its_pidfd():
    received = []
    before = signal.signal(orphans.FINISH, lambda *_: received.append(1))
    try:
        assert orphan_of().finish(command("/x.pid"))
    finally:
        signal.signal(orphans.FINISH, before)
    assert received


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"running": False}, id="that has the number now"),
        pytest.param({"arguments": ["/bin/sh"]}, id="of another program"),
        pytest.param({"pid": 2**22 + 1}, id="that is gone"),
    ],
)
def test_no_signal_goes_to_a_process(changes):
    # SIGUSR1 or SIGTERM would end this process.
    assert not orphan_of(**changes).finish(command("/x.pid"))
    assert not orphan_of(**changes).end(HAPROXY)
    assert not orphan_of(**changes).make_room(command("/x.pid"))


@pytest.mark.parametrize(
    ("waited_s", "expected"),
    [(0.0, orphans.FINISH), (60.0, orphans.FINISH), (60.1, orphans.END)],
)
def test_who_takes_too_long_to_finish_is_ended(waited_s, expected):
    assert orphans.signal_after(waited_s) == expected
