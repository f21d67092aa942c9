"""A haproxy that was broken into can do nothing to anybody else.

Its program's own command line is run, with a probe in haproxy's place: the
same namespace, user, groups, capabilities and working folder.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from configparser import RawConfigParser
from pathlib import Path

import pytest

from ovn_metadata.privsep import kernel
from sandbox import Instance, Loader, Sandbox, host, namespaces, wait_for
from sandbox.case import Host, wait_served
from sandbox.hoststate import haproxies
from sandbox.ovn import NB_SOCKET, OVS_REMOTE, OVS_SOCKET, SB_REMOTE
from sandbox.processes import send_signal
from sandbox.sockets import status

FLEET = Path("/run/ovn-metadata-fleet")
ROOT = Path(__file__).parents[2]
PROBE = Path(host.__file__).with_name("probe.py").read_text()
# What would change something if it succeeded.
HARMFUL = ("unlink", "trace", "make", "become")


@dataclasses.dataclass
class Site:
    """Two networks; the haproxy of the first is the one broken into."""

    box: Sandbox
    own: str
    other: str
    pids: dict[str, int]  # the haproxies', and the other processes'

    def probe(
        self, attempts: Sequence[tuple[str, object]], *, key: str = ""
    ) -> list[str]:
        """Return what became of ATTEMPTS by the haproxy of KEY."""
        parser = RawConfigParser()
        parser.read(FLEET / "programs" / f"{key or self.own}.ini")
        (section,) = parser.sections()
        command = parser[section]["command"].split()
        start = command.index("/usr/sbin/haproxy")
        return run_probe(
            command[:start], attempts, folder=command[command.index("-C") + 1]
        )


def run_probe(
    command: Sequence[str], attempts: Sequence[tuple[str, object]], folder: str
) -> list[str]:
    done = subprocess.run(
        [*command, sys.executable, "-I", "-c", PROBE],
        input=json.dumps([(act, str(target)) for act, target in attempts]),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def site(host: Host) -> Site:
    """Make two networks with an instance each; ask Nova by https."""
    box = host.sandbox()
    box.agent.start()
    box.agent.wait_ready()
    networks = [box.neutron.create_network(name) for name in ("own", "other")]
    for instance in box.plug([box.neutron.create_port(n) for n in networks]):
        wait_served(instance)
    pids = {"agent": box.agent.pid}
    for kind in ("supervisord", "privsep"):
        (found,) = box.agent.processes(kind)
        pids[kind] = found.pid
    own, other = (network.id for network in networks)
    for key in (own, other, "gateway"):
        pids[key] = only_haproxy(box, key)
    return Site(box, own, other, pids)


def only_haproxy(box: Sandbox, key: str) -> int:
    """Return the PID of KEY's haproxy, once it is the only one."""
    return wait_for(
        lambda: (found := haproxies(box, key))[1:] == [] and found[0],
        timeout_s=90,
        what=f"one haproxy of {key}",
    )


# What is tried -> what the kernel says. Each is named by what holds it.
def by_file_modes(site: Site) -> dict[tuple[str, object], set[str]]:
    """Return what other users' files and folders, by their modes, refuse."""
    no = {"EACCES"}
    own, other = site.own, site.other
    ini = host.CONFIG_FOLDER / "neutron_ovn_metadata_agent.ini"
    folder = FLEET.parent
    return {
        # The shared secret, and Nova's client certificate's folder.
        ("read", ini): no,
        ("list", host.FLEET / "read" / "gateway"): no,
        # Another network's map, sockets and PID; the gateway's.
        ("read", host.map_of(other)): no,
        ("list", host.FLEET / "read" / other): no,
        ("connect", host.stats_of(other)): no,
        ("connect", host.stats_of("gateway")): no,
        ("list", host.stats_of(other).parent): no,
        ("make", host.stats_of(other).parent): no,
        ("make", host.stats_of("gateway").parent): no,
        ("make", host.FLEET / "socket"): no,
        ("unlink", FLEET / "gateway.sock"): no,
        ("unlink", host.HOME / "metadata_proxy"): no,
        # Its own configuration and map: the agent's to write.
        ("write", host.config_of(own)): no,
        ("write", host.map_of(own)): no,
        ("make", host.CONFIGS): no,
        ("make", host.map_of(own).parent): no,
        ("make", host.FLEET / "work"): no,
        ("make", host.PIDS): no,
        ("make", host.HOME): no,
        # What root runs.
        ("connect", FLEET / "supervisord.sock"): no,
        ("list", FLEET / "programs"): no,
        ("make", FLEET): no,
        ("write", FLEET / "agent.lock"): no,
        ("connect", host.HOME / "ovn-metadata-agent.sock"): no,
        # The databases, where they listen on this host.
        ("connect", OVS_SOCKET): no,
        ("connect", NB_SOCKET): no,
        ("connect", NB_SOCKET.with_name("ovnsb_db.sock")): no,
        ("make", folder): no,
    }


def by_network_namespace(site: Site) -> dict[tuple[str, object], set[str]]:
    """Return what is not there in the network's namespace."""
    no = {"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH"}
    return {
        ("connect-tcp", SB_REMOTE.removeprefix("tcp:")): no,
        ("connect-tcp", OVS_REMOTE.removeprefix("tcp:")): no,
        ("connect-tcp", f"{site.box.nova.address}:{site.box.nova.port}"): no,
    }


def by_user(site: Site) -> dict[tuple[str, object], set[str]]:
    """Return what a process of another user's refuses."""
    attempts: dict[tuple[str, object], set[str]] = {}
    for name, pid in site.pids.items():
        if name == site.own:
            continue
        attempts |= {
            ("signal", pid): {"EPERM"},
            ("trace", pid): {"EPERM"},
            ("read", f"/proc/{pid}/environ"): {"EACCES"},
            ("write", f"/proc/{pid}/mem"): {"EACCES"},
            ("list", f"/proc/{pid}/fd"): {"EACCES"},
            ("list", f"/proc/{pid}/root"): {"EACCES"},
            ("enter", pid): {"EACCES"},
        }
    return attempts


def by_capabilities(site: Site) -> dict[tuple[str, object], set[str]]:
    """Return what takes a capability, or a program that gives one."""
    users = (0, host.ids(host.SERVICE_USER)[0], host.ids_of(site.other)[0])
    return {("become", uid): {"EPERM"} for uid in users}


@pytest.mark.parametrize(
    "held",
    [by_file_modes, by_network_namespace, by_user, by_capabilities],
    ids=lambda held: held.__name__,
)
def test_it_gets_nowhere(site: Site, held):
    """Root's probe, outside, gets at what is harmless: so that is there."""
    attempts = held(site)
    said = dict(zip(attempts, site.probe([*attempts]), strict=True))
    wrong = {
        attempt: became
        for attempt, became in said.items()
        if became not in attempts[attempt]
    }
    assert wrong == {}
    harmless = [attempt for attempt in attempts if attempt[0] not in HARMFUL]
    said = dict(zip(harmless, run_probe([], harmless, "/"), strict=True))
    assert {a: became for a, became in said.items() if became} == {}


def test_it_still_has_what_it_needs(site: Site):
    """Its own, and the gateway's socket; so the probe is where it is."""
    own = site.own
    attempts = [
        ("read", host.config_of(own)),
        ("read", host.map_of(own)),
        ("make", host.stats_of(own).parent),
        ("connect", host.stats_of(own)),
        ("signal", site.pids[own]),
        ("connect", FLEET / "gateway.sock"),
    ]
    assert set(site.probe(attempts)) == {""}
    gateways = [
        ("read", host.config_of("gateway")),
        ("list", host.FLEET / "read" / "gateway"),
        ("connect", host.stats_of("gateway")),
    ]
    assert set(site.probe(gateways, key="gateway")) == {""}
    assert set(site.probe(gateways[1:])) == {"EACCES"}


def test_the_gateway_gets_at_no_networks_own(site: Site):
    """It sees all requests, and no more."""
    attempts = [
        ("read", host.map_of(site.other)),
        ("connect", host.stats_of(site.other)),
        ("signal", site.pids[site.other]),
        ("read", host.CONFIG_FOLDER / "neutron_ovn_metadata_agent.ini"),
        ("connect", FLEET / "supervisord.sock"),
    ]
    said = site.probe(attempts, key="gateway")
    assert set(said) == {"EACCES", "EPERM"}


def served_without_ids(box: Sandbox) -> Instance:
    """Start BOX's agent with one user for all; return who is served."""
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    box.agent.configure()
    host.install_privileges(Path(sys.prefix))
    host.PRIVILEGED.write_text("[fleet]\nnetwork_ids =\n")
    box.agent._daemon.start()
    box.agent.wait_ready()
    wait_served(instance)
    return instance


def served_networks(box: Sandbox, *names: str) -> list[Instance]:
    """Start BOX's agent, with a pass every 5 s, and serve networks NAMES."""
    box.agent.options["ovn_metadata_agent", "resync_interval"] = "5"
    box.agent.start()
    box.agent.wait_ready()
    networks = [box.neutron.create_network(name) for name in names]
    made = box.plug([box.neutron.create_port(n) for n in networks])
    for instance in made:
        wait_served(instance)
    return made


def wait_users(box: Sandbox, *wanted: str) -> None:
    """Wait until the haproxies run as those WANTED."""
    wait_for(
        lambda: {p.user for p in box.agent.processes("haproxy")} == {*wanted},
        timeout_s=60,
        what=f"haproxies of {wanted}",
    )


def test_without_ids_all_are_one_user_and_it_is_said(own_box: Sandbox):
    """As in a container with a user namespace; it changes by a restart."""
    box = own_box
    instance = served_without_ids(box)
    wait_users(box, host.FLEET_USER)
    assert "haproxies of all networks run as" in box.agent.log()
    box.agent.stop()
    box.agent.start()  # with the file as it is shipped
    box.agent.wait_ready()
    wait_served(instance)
    own = str(host.ids_of(instance.port.network.id)[0])
    wait_users(box, host.FLEET_USER, own)


def told(box: Sandbox, words: str) -> set[str]:
    """Return the codes of the problems whose reason has WORDS."""
    problems = status()["problems"]
    return {each["code"] for each in problems if words in each["reason"]}


def test_settings_changed_under_the_agent_stop_nothing(own_box: Sandbox):
    """The next daemon has other ids than the agent: told, nothing touched."""
    box = own_box
    (instance,) = served_networks(box, "n")
    for key in ("gateway", instance.port.network.id):
        only_haproxy(box, key)
    before = {p.pid for p in box.agent.processes("haproxy")}
    host.PRIVILEGED.write_text("[fleet]\nnetwork_ids =\n")
    (daemon,) = box.agent.processes("privsep")
    send_signal(daemon.pid, signal.SIGKILL)
    wait_for(
        lambda: told(box, "restart the agent") == {"OVNMD-202", "OVNMD-307"},
        timeout_s=90,
        what="word of it for the network and the gateway",
    )
    assert {p.pid for p in box.agent.processes("haproxy")} == before
    assert instance.fetch().text == instance.instance_id


def test_what_it_leaves_is_told_and_holds_nobody_up(own_box: Sandbox):
    """A folder that nobody but root can remove; thousands of files."""
    box = own_box
    own, other = served_networks(box, "own", "other")
    work = host.stats_of(own.port.network.id).parent
    uid = host.ids_of(own.port.network.id)[0]
    inner = work / "kept"
    for folder in (inner, inner / "more"):
        folder.mkdir()
        os.chown(folder, uid, uid)
    inner.chmod(0)
    for number in range(2000):
        file = work / f"file-{number}"
        file.touch()
        os.chown(file, uid, uid)
    (work / "link").symlink_to("/etc")
    box.unplug([own])

    def is_told() -> bool:
        said = box.agent.status()
        words = ("rm -r it", str(work))
        return said.returncode == 3 and all(w in said.stdout for w in words)

    wait_for(is_told, timeout_s=90, interval_s=0.2, what=f"word of {work}")
    assert list(work.iterdir()) == [inner]
    assert other.fetch().text == other.instance_id
    third = box.neutron.create_network("third")
    (instance,) = box.plug([box.neutron.create_port(third)])
    wait_served(instance)
    shutil.rmtree(work)
    wait_for(
        lambda: box.agent.status().returncode == 0,
        timeout_s=120,
        interval_s=0.2,
        what="content agent-status",
    )


@pytest.mark.parametrize(
    ("which", "is_shared"),
    [
        pytest.param("gateway", True, id="gateway"),
        pytest.param("network", True, id="network"),
        pytest.param("network", False, id="network, and keeps the port"),
    ],
)
def test_haproxy_that_shuts_its_sockets_is_replaced(
    own_box: Sandbox, which, is_shared
):
    """It has them with supervisord: the next one would have them too."""
    box = own_box
    (instance,) = served_networks(box, "n")
    key = which if which == "gateway" else instance.port.network.id
    pid = only_haproxy(box, key)
    pidfd = os.pidfd_open(pid)
    for descriptor in (0,) if which == "gateway" else (3, 4):
        number = kernel.borrow_descriptor(pidfd, descriptor)
        with socket.socket(fileno=number) as shared:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                if not is_shared:  # nobody else is to listen there
                    shared.setsockopt(socket.SOL_SOCKET, option, 0)
            shared.shutdown(socket.SHUT_RDWR)
    os.close(pidfd)
    if which == "gateway":  # with the connections that it has
        send_signal(pid, signal.SIGKILL)
    wait_served(instance)


def drop_all(shared: socket.socket) -> None:
    """Put a filter on SHARED that nothing passes (<linux/filter.h>)."""
    returns_0 = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(returns_0))
    attach = 26  # SO_ATTACH_FILTER, <asm-generic/socket.h>
    shared.setsockopt(socket.SOL_SOCKET, attach, program)


def test_what_outlives_a_haproxy_goes_as_documented(own_box: Sandbox):
    """Processes, and what was set on the sockets that the next one gets."""
    box = own_box
    (instance,) = served_networks(box, "n")
    key = instance.port.network.id
    pid, uid = only_haproxy(box, key), host.ids_of(key)[0]
    pidfd = os.pidfd_open(pid)
    for descriptor in (3, 4):
        number = kernel.borrow_descriptor(pidfd, descriptor)
        with socket.socket(fileno=number) as shared:
            drop_all(shared)
    os.close(pidfd)
    user = (f"--reuid={uid}", "--clear-groups", "--no-new-privs")
    with subprocess.Popen(["setpriv", *user, "sleep", "infinity"]) as left:
        send_signal(pid, signal.SIGKILL)
        wait_for(
            lambda: told(box, "no connection within") == {"OVNMD-306"},
            timeout_s=90,
            what="word of the network",
        )
        text = (ROOT / "docs/explanation/security.md").read_text()
        (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        done = subprocess.run(
            ["sh", "-ec", commands.replace("NETWORK", key)],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or namespaces.is_faster(done.stderr)
        assert left.wait(10) == -signal.SIGKILL
    wait_served(instance)


def test_ids_that_change_with_the_fleets_restart(own_box: Sandbox):
    """The old haproxies have another user; they go."""
    box = own_box
    instance = served_without_ids(box)
    before = {p.pid for p in box.agent.processes("haproxy")}
    box.agent.stop()
    (supervisord,) = box.agent.processes("supervisord")
    with Loader([instance]) as load:
        send_signal(supervisord.pid, signal.SIGKILL)
        box.agent.start()  # with the file as it is shipped
        box.agent.wait_ready()
        wait_for(
            lambda: (
                not before & {p.pid for p in box.agent.processes("haproxy")}
            ),
            timeout_s=120,  # some may have a minute to finish
            what="end of the old haproxies",
        )
    wait_served(instance)
    print(f"{len(load.failures)} of {load.requests} failed")
    own = str(host.ids_of(instance.port.network.id)[0])
    wait_users(box, host.FLEET_USER, own)
