"""A file of ours that another process has changed, and haproxy has read."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import pytest

from sandbox import Instance, Sandbox, host, hoststate, namespaces, wait_for
from sandbox.case import Case, wait_served
from sandbox.continuity import hanging
from sandbox.hoststate import haproxies
from sandbox.processes import send_signal
from sandbox.waiting import BEHIND_CALL_S

PORT, TEAPOT = 8081, 418
# What is changed; the digest in it stays.
EDITS = {
    "network": ("bind fd@3 proto h1", f"bind 127.0.0.1:{PORT} proto h1"),
    "gateway": (
        "    http-request set-var(txn.who)",
        f"    http-request return status {TEAPOT}\n"
        "    http-request set-var(txn.who)",
    ),
}


@pytest.fixture(scope="module")
def instance(module_box: Sandbox) -> Instance:
    case = Case(module_box)
    return case.instance(case.network())


def kill(box: Sandbox, key: str) -> None:
    for pid in haproxies(box, key):
        send_signal(pid, signal.SIGKILL)


def reload(_box: Sandbox, key: str) -> None:
    hoststate.reload(key)


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

    # The agent would be quicker, now and then.
    with hanging("agent"):
        break_it()
        wait_for(
            lambda: is_wrong(kind, instance),
            timeout_s=60,
            what="the edited file's effect",
        )
        if restored:
            config.write_text(text)
    wait_served(instance, timeout_s=60)
    # The one before serves until its successor does.
    wait_for(
        lambda: config.read_text() == text,
        timeout_s=BEHIND_CALL_S,
        what="the agent's configuration",
    )
    wait_for(
        lambda: not is_wrong(kind, instance),
        timeout_s=BEHIND_CALL_S,
        what="the end of the edited file's effect",
    )
    wait_served(instance)


def is_wrong(kind: str, instance: Instance) -> bool:
    """Return whether a haproxy runs on the edited file.

    That INSTANCE gets no answer would tell nothing: the machine may be slow.
    """
    if kind == "gateway":
        return instance.fetch(timeout=5).status == TEAPOT
    with namespaces.inside(instance.port.network.namespace):
        link = socket.socket()
    with link:
        link.settimeout(5)
        return link.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.mark.parametrize("kind", EDITS)
def test_it_is_edited_again_while_it_is_mended(module_box, instance, kind):
    """After the file was written, and before haproxy has read it."""
    key = kind if kind == "gateway" else instance.port.network.id
    config = host.config_of(key)
    text = config.read_text()
    edited = text.replace(*EDITS[kind])
    (supervisord,) = module_box.agent.processes("supervisord")
    send_signal(supervisord.pid, signal.SIGSTOP)
    try:
        config.write_text(edited)
        wait_for(
            lambda: config.read_text() == text,
            timeout_s=BEHIND_CALL_S,
            what="the file",
        )
        config.write_text(edited)
    finally:
        send_signal(supervisord.pid, signal.SIGCONT)
    wait_for(
        lambda: config.read_text() == text,
        timeout_s=BEHIND_CALL_S,
        what="again",
    )
    wait_served(instance, timeout_s=60)
