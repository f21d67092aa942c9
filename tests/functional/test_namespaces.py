"""Namespaces are complete, whatever is slow and whatever is killed."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.netlink.rtnl import rt_proto

from ovn_metadata.privsep import kernel
from ovn_metadata.privsep.namespace import links
from sandbox import inside_sandbox
from sandbox.case import Host
from sandbox.daemons import run

FOLDER = Path("/run/netns")
MAKE = """
import os, sys
from ovn_metadata.privsep.namespace import links
namespace, made = links.ensure_namespace(sys.argv[1])
os.close(namespace)
sys.exit(0 if made else 3)
"""
MANY = 24


@pytest.fixture(autouse=True)
def sandbox(host: Host) -> None:
    """Have no agent: it would remove namespaces that it has no rows for."""
    assert inside_sandbox()
    host.clear()


@pytest.fixture
def network() -> Iterator[str]:
    network = str(uuid.uuid4())
    yield network
    with contextlib.suppress(FileNotFoundError):
        links.remove_namespace(network)


def file_of(network: str) -> Path:
    return FOLDER / f"ovnmeta-{network}"


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-I", "-c", textwrap.dedent(code), *args]


def mounts(path: Path) -> int:
    """Return how many file systems are mounted on PATH."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(line.split()[4] == str(path) for line in lines)


def links_inside(network: str) -> list[str]:
    """Return the links in the namespace of NETWORK, as a thread sees it."""
    namespace = kernel.open_namespace(network)
    try:
        with links.open_inside(namespace) as inside:
            return [
                link.get_attr("IFLA_IFNAME") for link in inside.get_links()
            ]
    finally:
        os.close(namespace)


def test_a_slow_kernel_is_waited_for(network: str):
    """It may take seconds to make one while it makes links for others."""
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unshare")
    slow += ("-e", "inject=unshare:delay_enter=3s")
    subprocess.run([*slow, *python(MAKE, network)], check=True, timeout=60)
    assert mounts(file_of(network)) == 1
    assert links_inside(network) == ["lo"]
    assert links.ensure_namespace(network)[1] is False


def test_a_limit_of_namespaces_is_named(network: str):
    """The kernel reports it as a full disk (ENOSPC)."""
    limit = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unshare")
    limit += ("-e", "inject=unshare:error=ENOSPC")
    ended = subprocess.run(
        [*limit, *python(MAKE, network)],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    said = f"[Errno {errno.ENFILE}] no further namespace; raise user.max_net"
    assert said in ended.stderr
    assert not file_of(network).exists()


@pytest.mark.parametrize("call", ["unshare", "mount", "setns", "openat"])
def test_a_process_that_is_killed_leaves_nothing_in_the_way(
    network: str, call: str
):
    """At the first CALL about namespaces, at the second, and so on."""
    before = mounts(FOLDER)
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    if call == "openat":  # Python makes many
        strace += ["-P", str(FOLDER), "-P", str(file_of(network))]
    ends = []
    for number in itertools.count(1):
        kill = ("-e", f"inject={call}:signal=KILL:when={number}")
        command = [*strace, *kill, *python(MAKE, network)]
        ends.append(
            subprocess.run(command, check=False, timeout=60).returncode
        )
        namespace, _ = links.ensure_namespace(network)
        os.close(namespace)
        assert links_inside(network) == ["lo"], number
        assert mounts(file_of(network)) == 1, number
        assert mounts(FOLDER) == before
        links.remove_namespace(network)
        if ends[-1] == 0:
            break
    assert len(ends) > 1, "it was never killed"
    assert ends[:-1] == [-signal.SIGKILL] * (len(ends) - 1), ends


def test_this_thread_returns(network: str):
    own = Path("/proc/thread-self/ns/net")
    home = own.readlink()
    os.close(links.ensure_namespace(network)[0])
    assert own.readlink() == home
    with contextlib.suppress(ZeroDivisionError), kernel.new_namespace():
        assert own.readlink() != home
        _ = 1 / 0
    assert own.readlink() == home


def test_many_at_once_on_a_host_that_had_none():
    """The folder becomes one shared mount, as ip-netns(8) makes it."""
    code = f"""
    import os, threading
    from pathlib import Path
    from ovn_metadata.privsep.namespace import links

    networks = [str(number) for number in range({MANY})]
    failed = []

    def mounts():
        # Those of the sandbox, which are below, are listed too.
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [l.split() for l in lines if " /run/netns" in l]

    def make(network):
        try:
            os.close(links.ensure_namespace(network)[0])
        except Exception as error:
            failed.append(repr(error))

    before = mounts()
    threads = [threading.Thread(target=make, args=[n]) for n in networks]
    [each.start() for each in threads]
    [each.join() for each in threads]
    assert not failed, failed
    made = [m for m in mounts() if m not in before]
    (folder,) = [m for m in made if m[4] == "/run/netns"]
    assert "shared:" in folder[6], folder
    found = {{m[4] for m in made}} - {{"/run/netns"}}
    assert found == {{f"/run/netns/ovnmeta-{{n}}" for n in networks}}, found
    """
    fresh = 'mount -t tmpfs fresh /run && exec "$@"'
    run("unshare", "--mount", "sh", "-c", fresh, "sh", *python(code))


def test_an_ipv6_address_that_changes_its_prefix_length_stays():
    """To the kernel both are one address."""
    namespace, _ = links.ensure_namespace(str(uuid.uuid4()))
    try:
        with links.open_inside(namespace) as inside:
            inside.link("add", ifname="a", kind="veth", peer="b")
            index = int(links.existing(inside, "a")["index"])
            for cidr in ("2001:db8::2/64", "2001:db8::2/80", "10.0.0.2/8"):
                wanted = frozenset({ipaddress.ip_interface(cidr)})
                links.ensure_addresses(inside, index, wanted)
                assert links.addresses(inside, index) == wanted
    finally:
        os.close(namespace)


def test_what_was_made_by_hand_stops_nothing():
    """The kernel lists it, and finds no such thing when it is to go."""
    namespace, _ = links.ensure_namespace(str(uuid.uuid4()))
    wanted = frozenset({ipaddress.ip_interface("10.0.0.2/24")})
    static, boot = rt_proto["static"], rt_proto["boot"]
    try:
        with links.open_inside(namespace) as inside:
            inside.link("add", ifname="a", kind="veth", peer="b")
            link = links.existing(inside, "a")
            links.ensure_link(inside, link)
            at = {"index": int(link["index"]), "prefixlen": 32}
            inside.addr("add", local="10.0.0.8", address="10.0.0.9", **at)
            links.ensure_addresses(inside, at["index"], wanted)
            assert wanted <= links.addresses(inside, at["index"])
            other = {"oif": at["index"], "proto": static, "table": 100}
            inside.route("add", dst="10.8.0.3/32", **other)
            here = {"oif": at["index"], "proto": boot}
            inside.route("add", dst="10.8.0.5/32", **here)
            hosts = frozenset({"10.8.0.3", "10.8.0.5"})
            links.ensure_hosts(inside, at["index"], hosts)
            found = links.hosts(links.routes(inside), at["index"])
            assert hosts <= found
            main = [r for r in links.routes(inside) if r["table"] == 254]
            assert hosts <= {route.get_attr("RTA_DST") for route in main}
    finally:
        os.close(namespace)
