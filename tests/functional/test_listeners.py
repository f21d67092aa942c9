"""A network's listening sockets: made in its namespace, checked, lent."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ovn_metadata.privsep import names
from ovn_metadata.privsep.fleet import stale
from ovn_metadata.privsep.supervisor import listeners
from ovn_metadata.privsep.supervisor.held import HeldSockets
from sandbox import mute_file
from sandbox.daemons import run
from sandbox.namespaces import inside

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
NAMESPACE = f"ovnmeta-{NETWORK}"
OUTER, INNER = f"tap{NETWORK[:10]}0", f"tap{NETWORK[:10]}1"
OWNER = 990
MOST_S = 15.0


def make_veth() -> None:
    peer = ("peer", "name", INNER, "netns", NAMESPACE)
    run("ip", "link", "add", OUTER, "type", "veth", *peer)


@pytest.fixture
def namespace(host) -> Iterator[str]:
    """Make a network's namespace with a veth; its addresses are not there.

    An agent that still runs here would remove it: no row has the network.
    """
    host.clear()
    run("ip", "netns", "add", NAMESPACE)
    run(
        *("ip", "netns", "exec", NAMESPACE),
        *("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"),
    )
    make_veth()
    yield NAMESPACE
    run("ip", "link", "delete", OUTER)
    run("ip", "netns", "delete", NAMESPACE)


def fit(held: list[socket.socket]) -> list[bool]:
    """Tell which of HELD are in order where NETWORK is now."""
    with inside(NAMESPACE):
        wanted = listeners.of_network(NETWORK, OWNER)
        return [
            one.fits(found) for one, found in zip(wanted, held, strict=False)
        ]


@pytest.fixture
def held(namespace: str) -> Iterator[list[socket.socket]]:
    """Give its two sockets, as supervisord holds them."""
    with inside(namespace):
        made = [one.make() for one in listeners.of_network(NETWORK, OWNER)]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(one) for one in made]


def test_both_families_are_the_owners(held):
    assert [one.family for one in held] == [socket.AF_INET, socket.AF_INET6]
    assert [os.fstat(one.fileno()).st_uid for one in held] == [OWNER, OWNER]
    assert fit(held) == [True, True]


@pytest.mark.usefixtures("held")
def test_one_of_roots_can_not_take_a_part_of_the_connections():
    """Neutron's agent, if it still runs, starts a haproxy that tries."""
    with inside(NAMESPACE):
        for root in listeners.of_network(NETWORK, 0):
            with pytest.raises(OSError, match="in use"):
                root.make()
        for ours in listeners.of_network(NETWORK, OWNER):
            ours.make().close()


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_what_a_haproxy_has_shut_down_is_not_in_order(held, how):
    held[0].shutdown(how)
    assert fit(held) == [False, True]
    held[0].close()
    with inside(NAMESPACE):
        listeners.of_network(NETWORK, OWNER)[0].make().close()


def test_ipv6_follows_the_veth(held):
    run("ip", "link", "delete", OUTER)
    assert fit(held) == [True]
    make_veth()
    assert fit(held) == [True, False]
    with inside(NAMESPACE):
        listeners.of_network(NETWORK, OWNER)[1].make().close()


@pytest.mark.parametrize("kernel", ["this", "before Linux 5.14"])
def test_neither_is_in_order_in_a_namespace_made_again(
    held, kernel, monkeypatch
):
    if kernel != "this":
        monkeypatch.setattr(listeners, "_SO_NETNS_COOKIE", 0x7FFF)
    assert fit(held) == [True, True]
    run("ip", "link", "delete", OUTER)
    run("ip", "netns", "delete", NAMESPACE)
    run("ip", "netns", "add", NAMESPACE)
    make_veth()
    assert fit(held) == [False, False]


def test_they_are_lent_by_the_process_that_has_them(held):
    with inside(NAMESPACE):
        for wanted, made in zip(
            listeners.of_network(NETWORK, OWNER), held, strict=True
        ):
            lent = listeners.borrow([os.getpid()], wanted)
            assert lent is not None
            with lent:
                assert os.path.sameopenfile(lent.fileno(), made.fileno())
                assert not os.get_inheritable(lent.fileno())
    assert fit(held) == [True, True]


def test_a_masters_workers_lend_theirs_too(held, monkeypatch):
    here, gone = os.getpid(), 2**22 + 1
    with inside(NAMESPACE):
        wanted, _ = listeners.of_network(NETWORK, OWNER)
        assert listeners.borrow([gone], wanted) is None
        monkeypatch.setattr(listeners, "_workers", lambda _: [here])
        lent = listeners.borrow([gone], wanted)
    assert lent is not None
    with lent:
        assert fit([lent]) == [True]


# What an attacker's process is asked, by a process that may hang.
ASK = """
import os, socket, sys
from types import SimpleNamespace
from ovn_metadata.privsep.fleet import stale
from ovn_metadata.privsep.supervisor import listeners
pid, number = map(int, sys.argv[1:])
one = SimpleNamespace(pid=pid)
wanted = listeners.TcpListener(socket.AF_INET, ("127.0.0.1", 1), 0)
shared = socket.socket()
os.dup2(number, shared.fileno())
ANSWER
sys.stdout.flush()
os._exit(0)
"""


LOCKED = "pid: 'theirs', 1: 'root', os.getpid(): 'theirs'"
# However many users do it: one child waits for all of them.
ONCE = """
fork, children = os.fork, []
os.fork = lambda: children.append(1) or fork()
print(*stale._command_lines({pid: 'theirs', 1: 'root'}), len(children))
"""


@pytest.mark.skipif(not mute_file.DEVICE.exists(), reason="no FUSE here")
@pytest.mark.parametrize(
    ("locks", "answer", "expected"),
    [
        ("socket", "print(listeners.serves(one))", "False"),
        ("socket", "print(listeners.borrow([pid], wanted))", "None"),
        ("socket", "print(wanted.works(shared))", "True"),
        ("memory", "print(stale.scan())", "[]"),
        ("memory", f"print(*stale._command_lines({{{LOCKED}}}))", "1"),
        ("memory", ONCE, "1 1"),
    ],
)
def test_a_haproxy_with_a_file_that_never_answers_hangs_nobody(
    tmp_path, locks, answer, expected
):
    """It has one open, and reads or writes one while it locks something."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        number = shared.fileno()
        locked = [shared] if locks == "socket" else []
        with mute_file.broken_in(tmp_path, *locked) as pid:
            asked = subprocess.Popen(
                [
                    *(sys.executable, "-Ic", ASK.replace("ANSWER", answer)),
                    *(str(pid), str(number)),
                ],
                stdout=subprocess.PIPE,
                pass_fds=(number,),
                text=True,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                asked.wait(MOST_S)
            has_hung = asked.returncode is None
            asked.kill()
        said, _ = asked.communicate()
    assert not has_hung
    assert said.strip() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--bounding-set=-all"], True),
        (["--bounding-set=-chown"], False),
        (["--reuid=4711", "--clear-groups", "--no-new-privs"], False),
    ],
)
def test_a_gateway_placed_by_root_can_never_get_a_capability(words, expected):
    """Any user can start another one, and may give it files that hang."""
    command = ["setpriv", *words, "cat"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
        one.stdout.read(1)  # setpriv has become cat
        found = stale.Stale(psutil.Process(one.pid), names.GATEWAY, "")
        is_placed = found.is_placed_by_root()
        one.stdin.close()
    assert is_placed == expected


class Process:
    """Supervisord's, whose first three descriptors are as they should be."""

    config = SimpleNamespace(options=SimpleNamespace(minfds=64))

    def _prepare_child_fds(self) -> None:
        pass


def test_a_haproxy_gets_its_sockets_once():
    """Though supervisord has more descriptors open than `minfds`."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        last = 0
        while last < Process.config.options.minfds:
            last = os.open("/dev/null", os.O_RDONLY)
            stack.callback(os.close, last)
        takeover: Any = SimpleNamespace(is_awaited=lambda _network: True)
        held = HeldSockets(Path("gateway.sock"), takeover)
        held._held[NETWORK] = dict(enumerate(sockets))  # type: ignore[arg-type] # only the order counts
        prepare = functools.partial(held._prepare_child, Process(), NETWORK)
        listed = subprocess.run(
            ["ls", "-l", "/proc/self/fd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            close_fds=False,
            preexec_fn=prepare,
            check=True,
            text=True,
        ).stdout
        for number, one in enumerate(sockets, names.LISTENER_V4):
            inode = os.fstat(one.fileno()).st_ino
            assert listed.count(f"socket:[{inode}]") == 1
            assert f" {number} -> socket:[{inode}]" in listed
