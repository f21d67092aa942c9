"""A file of ours that another process has changed, and haproxy has read."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ovn_metadata.agent.service import FLEET_INTERVAL_S
from sandbox import Instance, Sandbox, host, wait_for
from sandbox.case import Case, wait_served
from sandbox.processes import send_signal

# What is changed; the digest in it stays.
EDITS = {
    "network": ("bind fd@3 proto h1", "bind 127.0.0.1:8081 proto h1"),
    "gateway": (
        "    http-request set-var(txn.who)",
        "    http-request return status 418\n"
        "    http-request set-var(txn.who)",
    ),
}


@pytest.fixture(scope="module")
def instance(module_box: Sandbox) -> Instance:
    case = Case(module_box)
    return case.instance(case.network())


def masters(box: Sandbox, key: str) -> list[int]:
    found = {
        process.pid: process.parent
        for process in box.agent.processes("haproxy")
        if Path(process.cmdline[-1]).stem == key
    }
    return [pid for pid, parent in found.items() if parent not in found]


def kill(box: Sandbox, key: str) -> None:
    for pid in masters(box, key):
        send_signal(pid, signal.SIGKILL)


def reload(box: Sandbox, key: str) -> None:
    for pid in masters(box, key):
        send_signal(pid, signal.SIGHUP)


@pytest.mark.parametrize("act", [kill, reload])
@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("restored", [False, True], ids=["", "restored"])
def test_haproxy_is_made_to_read_what_it_should(
    module_box, instance, kind, act: Callable[[Sandbox, str], None], restored
):
    """Also if the file is right again, but haproxy runs on the edited one."""
    key = kind if kind == "gateway" else instance.port.network.id
    config = host.config_of(key)
    text = config.read_text()
    edited = text.replace(*EDITS[kind])
    assert edited != text

    def break_it() -> None:
        config.write_text(edited)
        act(module_box, key)

    wait_wrong(break_it, instance)
    if restored:
        config.write_text(text)
    wait_served(instance, timeout_s=3 * FLEET_INTERVAL_S)
    assert config.read_text() == text


def wait_wrong(break_it: Callable[[], None], instance: Instance) -> None:
    """Do BREAK_IT until INSTANCE notices: the agent may be quicker.

    haproxy ignores a SIGHUP while it still handles another one.
    """

    def is_wrong() -> bool:
        with contextlib.suppress(OSError):
            return instance.fetch(timeout=0.5).text != instance.instance_id
        return True

    for _ in range(10):
        break_it()
        with contextlib.suppress(TimeoutError):
            wait_for(is_wrong, timeout_s=1, what="the edited file's effect")
            return
    raise AssertionError("it is as before")
