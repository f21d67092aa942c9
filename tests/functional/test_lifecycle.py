"""A network's life: it comes, changes, breaks, is repaired, and goes.

Each test has a chassis of its own, to break as it likes.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
import socket
import threading
import time
import uuid
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from supervisor.xmlrpc import SupervisorTransport

from ovn_metadata.agent.haproxy import mapfile
from ovn_metadata.agent.haproxy.runtime import Stats, change_map, read_map
from sandbox import (
    Instance,
    Network,
    Sandbox,
    attach_all,
    holds,
    host,
    wait_for,
)
from sandbox.case import is_served, wait_served
from sandbox.daemons import run
from sandbox.host import FLEET, config_of
from sandbox.hoststate import haproxies, left_of, wait_gone
from sandbox.namespaces import NETNS_FOLDER, inside, lose
from sandbox.processes import send_signal
from sandbox.sockets import network_status, stats, status, visits

SIGKILL = 9
SIGSTOP = 19

RESYNC_S = 5
CRASH_LOOP_S = float(os.environ.get("CRASH_LOOP_S", "8"))
OPTIONS = {("ovn_metadata_agent", "resync_interval"): str(RESYNC_S)}
SUBNETS = ("10.10.0.0/24", "fd00:10::/64")
# A busy machine can only add to what is measured: the best try counts.
TRIES = 3
# A predecessor may have a minute to finish.
FINISHED_S = 120.0
ALL_NETLINK_GROUPS = 0xFFFFFFFF  # rtnetlink(7): links, addresses, routes, ...


# -- what is there ----------------------------------------------------------


@pytest.fixture
def ready(own_box: Sandbox) -> Sandbox:
    """Give a chassis whose agent looks through everything every 5 s."""
    own_box.agent.configure(OPTIONS)
    own_box.agent.start()
    own_box.agent.wait_ready()
    return own_box


def wait_both(*instances: Instance, timeout_s: float = 60.0) -> None:
    """Wait until INSTANCES are served over IPv4 and IPv6."""
    for ipv6 in (False, True):
        wait_served(*instances, ipv6=ipv6, timeout_s=timeout_s)


def plugged(box: Sandbox, name: str = "n1") -> tuple[Network, Instance]:
    """Return a new network and a served instance on it."""
    network = box.neutron.create_network(name, subnets=SUBNETS)
    instance = box.instance(box.neutron.create_port(network))
    wait_both(instance)
    return network, instance


# -- the life of a network --------------------------------------------------


def test_first_answer_comes_within_two_seconds_of_the_port_being_up(ready):
    """The first port of a network creates it; measured from OVN's `up`."""
    assert holds(lambda: first_answer_s(ready) < 4)


def first_answer_s(ready: Sandbox) -> float:
    """Return after how long a new network's first port is served."""
    network = ready.neutron.create_network("n1", subnets=SUBNETS)
    port = ready.neutron.create_port(network)
    up_at: list[float] = []

    def watch() -> None:
        where = [["logical_port", "==", port.id]]
        wait_for(
            lambda: any(
                row["up"] for row in ready.ovn.sb.select("Port_Binding", where)
            ),
            timeout_s=60,
            interval_s=0.005,
            what="port being up",
        )
        up_at.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert not left_of(ready, network.id)
    (instance,) = ready.plug([port], wait=False)
    # A lost SYN is sent again after a second: rather connect anew.
    patience_s = itertools.chain([0.5] * 10, itertools.repeat(5.0))
    wait_for(
        lambda: is_served(instance, timeout_s=next(patience_s)),
        timeout_s=60,
        what="first answer",
    )
    answered_at = time.monotonic()
    watcher.join()
    delay_s = answered_at - up_at[0]
    print(f"first answer {delay_s:.3f} s after up")
    assert haproxies(ready, network.id)
    return delay_s


def test_last_port_takes_everything_with_it(ready):
    """Namespace, veth, OVS port, files, program and processes go."""
    network, first = plugged(ready)
    second = ready.instance(ready.neutron.create_port(network))
    wait_both(second)
    assert len(left_of(ready, network.id)) > 8
    ready.unplug([first])
    wait_for(
        lambda: network_status(network.id)["instances"] == 1,
        timeout_s=60,
        what="first port gone",
    )
    wait_both(second)
    begun = time.monotonic()
    ready.unplug([second])
    gone_s = wait_gone(ready, network.id, timeout_s=60, begun=begun)
    print(f"all gone after {gone_s:.2f} s")
    assert "FAILED" not in ready.agent.status().stdout


def test_switch_deleted_while_its_port_is_bound_leaves_nothing(ready):
    """Both rows vanish in one transaction; Neutron's agent leaks then."""
    network, _ = plugged(ready)
    other, served = plugged(ready, "n2")
    ready.neutron.delete_network(network)
    wait_gone(ready, network.id, timeout_s=60)
    wait_both(served)
    assert left_of(ready, other.id)


def files_of_agent() -> dict[str, tuple[int, int]]:
    """Return inode and time of each file of the agent's and the fleet's."""
    found = {}
    for top in (host.HOME, FLEET):
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                entry = path.lstat()
                if path.suffix != ".log":  # haproxy's and supervisord's own
                    found[str(path)] = entry.st_ino, entry.st_mtime_ns
    return found


def netlink_listener(namespace: str = "") -> socket.socket:
    """Return a socket that hears of every change, like `ip monitor all`."""

    def listen() -> socket.socket:
        link = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
        )
        link.bind((0, ALL_NETLINK_GROUPS))
        link.setblocking(False)
        return link

    if not namespace:
        return listen()
    with inside(namespace):
        return listen()


def heard(link: socket.socket) -> list[str]:
    """Return what LINK heard: the message types, as in rtnetlink.h."""
    found = []
    try:
        while message := link.recv(1 << 16):
            found.append(f"type {int.from_bytes(message[4:6], 'little')}")
    except BlockingIOError:
        return found
    return found


def test_second_reconcile_changes_nothing(ready):
    """No netlink event, no transaction, no reload, no file, no word."""
    network, instance = plugged(ready)
    changed: dict[str, tuple[object, object]] = {}
    for _ in range(TRIES):  # until all has settled
        wait_for_pass()
        if not (changed := changed_by_a_pass(ready, network)):
            break
    assert changed == {}
    wait_served(instance)


def changed_by_a_pass(
    box: Sandbox, network: Network
) -> dict[str, tuple[object, object]]:
    """Return what differs after a pass: before it, and after."""
    databases = [box.ovn.folder / name for name in ("ovs.db", "sb.db")]

    def look() -> dict[str, object]:
        return {
            "gateway": haproxies(box, "gateway"),
            "haproxy": haproxies(box, network.id),
            "sizes": [database.stat().st_size for database in databases],
            "files": files_of_agent(),
            "words": box.agent.log().count("changes="),
        }

    before = look()
    with (
        netlink_listener() as here,
        netlink_listener(network.namespace) as there,
    ):
        wait_for_pass()
        events = [*heard(here), *heard(there)]
    after = {**look(), "netlink": events}
    before["netlink"] = []
    return {
        what: (before[what], after[what])
        for what in before
        if before[what] != after[what]
    }


def wait_for_pass(*, count: int = 1) -> None:
    """Wait until all that is there was looked through COUNT times."""
    before = visits()

    def is_over() -> bool:
        now = visits()
        return all(now[key] >= before[key] + count for key in before)

    wait_for(
        is_over,
        timeout_s=120 + count * RESYNC_S,
        interval_s=0.1,
        what=f"{count} passes",
    )


def test_ports_come_and_go_without_a_reload(ready):
    """A port is served, or refused, at once; the same haproxy goes on."""
    network, first = plugged(ready)
    before = haproxies(ready, network.id)
    port = ready.neutron.create_port(network)
    begun = time.monotonic()
    (second,) = ready.plug([port])
    wait_for(lambda: is_served(second), timeout_s=60, what="second answer")
    print(f"second port served after {time.monotonic() - begun:.2f} s")
    show = f"show map {host.map_of(network.id)}"
    assert f" {port.ip4} {port.device_id}|" in stats(network.id, show)
    # Unbound, but its namespace stays and asks on.
    ready.neutron.delete_port(port)
    wait_for(
        lambda: str(port.ip4) not in stats(network.id, show),
        timeout_s=60,
        what="end of the port's entry",
    )
    answer = first.fetch(source=str(first.port.ip4), timeout=60)
    assert answer.status == 200
    first.execute("ip", "address", "add", f"{port.ip4}/24", "dev", "eth0")
    assert str(port.ip4) not in host.map_of(network.id).read_text()
    assert haproxies(ready, network.id) == before


def test_an_address_twice_in_a_running_map_is_made_one(ready):
    """The command `set map` changes both entries and keeps both."""
    network, instance = plugged(ready)
    ready.agent.stop()  # else it is first
    file, address = host.map_of(network.id), str(instance.port.ip4)
    uid, _ = host.ids_of(network.id)
    runtime = Stats(host.stats_of(network.id), uid)

    def running() -> dict[str, str]:
        return read_map(runtime, file)

    wanted = wait_for(running, timeout_s=60, what="the map")
    assert wanted[address].startswith(f"{instance.port.device_id}|")
    stats(network.id, f"add map {file} {address} another|project|signature")
    present = wait_for(running, timeout_s=60, what="the map")
    assert present != wanted
    change_map(runtime, mapfile.commands(file, present, wanted))
    assert stats(network.id, f"show map {file}").count(f" {address} ") == 1
    assert wait_for(running, timeout_s=60, what="the map") == wanted
    # More than haproxy reads at a time, with all fields of the shield.
    value = f"{'0' * 36}|{'0' * 32}|{'0' * 64}|enforce|required||{'0' * 64}"
    more = {f"10.255.0.{number}": value for number in range(200)}
    both = {**wanted, **more}
    change_map(runtime, mapfile.commands(file, wanted, both))
    assert read_map(runtime, file) == both
    change_map(runtime, mapfile.commands(file, both, wanted))
    wait_served(instance)


# -- many at once -----------------------------------------------------------


def test_forty_networks_bound_and_unbound_at_once(ready):
    """All answer; then nothing is left within 5 s of the last `unbound`."""
    networks = [
        ready.neutron.create_network(f"n{number}", subnets=SUBNETS)
        for number in range(40)
    ]
    with ready.neutron.batch():
        ports = [ready.neutron.create_port(network) for network in networks]
    ready.ovn.sync(timeout_s=180)
    instances = ready.prepare(ports)
    assert holds(lambda: gone_after_s(ready, instances) < 10)


def gone_after_s(ready: Sandbox, instances: list[Instance]) -> float:
    """Bind all, see each be served, unbind all; return when all is gone."""
    begun = time.monotonic()
    attach_all(instances)
    ready.ovn.wait_installed(
        (instance.port.id for instance in instances), timeout_s=180
    )
    ovn_s = time.monotonic() - begun
    wait_served(*instances, timeout_s=180)
    print(f"40 up: {time.monotonic() - begun:.2f} s, OVN's part {ovn_s:.2f}")
    command = [
        word
        for instance in instances
        for word in ("--", "del-port", instance.outer)
    ]
    begun = time.monotonic()
    ready.ovn.vsctl(*command[1:])
    ids = [instance.port.network.id for instance in instances]
    gone_s = wait_gone(ready, *ids, timeout_s=120, begun=begun)
    print(f"40 down: {gone_s:.2f} s")
    return gone_s


def test_privsep_daemon_killed_while_ten_networks_come(ready):
    """Whatever call it was in the middle of: all get there in the end."""
    networks = [
        ready.neutron.create_network(f"n{number}", subnets=SUBNETS)
        for number in range(10)
    ]
    ports = [ready.neutron.create_port(network) for network in networks]
    instances = ready.plug(ports, wait=False)
    for there in (1, 4, 8):
        wait_for(
            lambda n=there: (
                sum(
                    (NETNS_FOLDER / network.namespace).exists()
                    for network in networks
                )
                >= n
            ),
            timeout_s=120,
            interval_s=0.002,
            what=f"{there} namespaces",
        )
        for process in ready.agent.processes("privsep"):
            send_signal(process.pid, SIGKILL)
    wait_both(*instances, timeout_s=120)
    wait_for(
        lambda: ready.agent.status().returncode == 0,
        timeout_s=90,
        what="content agent-status",
    )
    wait_for(
        lambda: len(ready.agent.processes("privsep")) == 1,
        timeout_s=60,
        what="one privileged daemon",
    )


def test_privsep_daemon_killed_with_calls_unread(ready):
    """The connection is then reset, not closed; a new daemon does them."""
    (daemon,) = ready.agent.processes("privsep")
    send_signal(daemon.pid, SIGSTOP)
    networks = [
        ready.neutron.create_network(f"n{number}", subnets=SUBNETS)
        for number in range(3)
    ]
    ports = [ready.neutron.create_port(network) for network in networks]
    instances = ready.plug(ports)

    def unread() -> bool:
        sockets = run("ss", "-Hxp").splitlines()
        mine = [line for line in sockets if f"pid={daemon.pid}," in line]
        return any(int(line.split()[2]) for line in mine)  # Recv-Q

    wait_for(unread, timeout_s=60, what="a call that is not read")
    send_signal(daemon.pid, SIGKILL)
    wait_both(*instances, timeout_s=25)  # a call's timeout is 30 s
    wait_for(
        lambda: (
            len(found := ready.agent.processes("privsep")) == 1
            and found[0].pid != daemon.pid
        ),
        timeout_s=60,
        what="another privileged daemon",
    )


# -- what others did --------------------------------------------------------


def test_stale_networks_are_removed_at_start(ready):
    """Unbound while no agent ran; a namespace's file without a mount too."""
    network, instance = plugged(ready)
    kept, served = plugged(ready, "kept")
    before = haproxies(ready, kept.id)
    ready.agent.stop()
    ready.unplug([instance])
    ghost = str(uuid.uuid4())
    (NETNS_FOLDER / f"ovnmeta-{ghost}").touch()
    leaked = str(uuid.uuid4())
    run("ip", "netns", "add", f"ovnmeta-{leaked}")
    tap = f"tap{leaked[:10]}"
    run("ip", "link", "add", f"{tap}0", "type", "veth", "peer", f"{tap}1")
    ready.ovn.vsctl("add-port", "br-int", f"{tap}0")
    ready.agent.start()
    ready.agent.wait_ready()
    wait_gone(ready, network.id, ghost, leaked, timeout_s=60)
    wait_both(served)
    assert haproxies(ready, kept.id) == before


Damage = Callable[[Sandbox, Network], object]


def tap(network: Network, end: int) -> str:
    """Return the name of an end of the veth of NETWORK."""
    return f"tap{network.id[:10]}{end}"


def in_namespace(network: Network, *command: str) -> str:
    """Run COMMAND inside the namespace of NETWORK."""
    return run("ip", "netns", "exec", network.namespace, *command)


def stop_program(network: Network) -> None:
    """Stop NETWORK's haproxy by supervisord, as `supervisorctl stop`."""
    transport = SupervisorTransport(
        None, None, f"unix://{FLEET / 'supervisord.sock'}"
    )
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport)
    server.supervisor.stopProcess(f"haproxy-{network.id}")
    transport.close()


DAMAGES: Mapping[str, Damage] = {
    "OVS port deleted": lambda box, n: box.ovn.vsctl("del-port", tap(n, 0)),
    "iface-id changed": lambda box, n: box.ovn.vsctl(
        "set", "Interface", tap(n, 0), "external_ids:iface-id=nonsense"
    ),
    "namespace deleted": lambda _, n: lose(n.namespace),
    "veth deleted": lambda _, n: run("ip", "link", "delete", tap(n, 0)),
    "outer end down": lambda _, n: run("ip", "link", "set", tap(n, 0), "down"),
    "inner end down": lambda _, n: in_namespace(
        n, "ip", "link", "set", tap(n, 1), "down"
    ),
    "addresses flushed": lambda _, n: in_namespace(
        n, "ip", "address", "flush", "dev", tap(n, 1)
    ),
    "map cleared": lambda _, n: stats(n.id, f"clear map {host.map_of(n.id)}"),
    "map file emptied": lambda _, n: host.map_of(n.id).write_text(""),
    "configuration deleted": lambda _, n: config_of(n.id).unlink(),
    "program stopped": lambda _, n: stop_program(n),
    "program file deleted": lambda _, n: (
        FLEET / "programs" / f"{n.id}.ini"
    ).unlink(),
    "stats socket deleted": lambda _, n: host.stats_of(n.id).unlink(),
    "folder of the map deleted": lambda _, n: shutil.rmtree(
        host.map_of(n.id).parent
    ),
    "working folder deleted": lambda _, n: shutil.rmtree(
        host.stats_of(n.id).parent
    ),
    "working folder closed": lambda _, n: host.stats_of(n.id).parent.chmod(0),
    "gateway's socket deleted": lambda *_: (FLEET / "gateway.sock").unlink(),
    "all programs' files deleted": lambda *_: shutil.rmtree(
        FLEET / "programs"
    ),
    "all working folders closed": lambda *_: (FLEET / "work").chmod(0o700),
    "the fleet's folder closed": lambda *_: FLEET.chmod(0),
    "all of the fleet's closed": lambda *_: run("chmod", "-R", "go=", FLEET),
}


def test_a_namespace_is_nobodys_router(ready):
    """It may have inherited that from the host; it is taken back."""
    network, _ = plugged(ready)
    names = (
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.ipv4.conf.all.accept_source_route",
        "net.ipv4.conf.all.accept_redirects",
    )
    in_namespace(network, "sysctl", "-q", "-w", *(f"{n}=1" for n in names))
    wait_for_pass(count=2)
    said = in_namespace(network, "sysctl", "-n", *names)
    assert said.split() == ["0"] * len(names)


def test_nonsense_done_by_hand_is_repaired(ready):
    """One damage for each network; two periodic passes mend them all."""
    networks = {
        name: ready.neutron.create_network(name, subnets=SUBNETS)
        for name in DAMAGES
    }
    ports = [ready.neutron.create_port(n) for n in networks.values()]
    instances = dict(zip(DAMAGES, ready.plug(ports), strict=True))
    wait_both(*instances.values())
    wait_for_pass()  # it serves a moment before it has done all
    places = {
        name: sorted(left_of(ready, networks[name].id)) for name in DAMAGES
    }
    for name, damage in DAMAGES.items():
        damage(ready, networks[name])
    wait_for_pass(count=2)
    problems: dict[str, list[str]] = collections.defaultdict(list)
    for name, instance in instances.items():
        for ipv6 in (False, True):
            try:
                wait_served(instance, ipv6=ipv6, timeout_s=30)
            except TimeoutError as error:
                problems[name].append(f"ipv6={ipv6}: {error}")
        key, wanted = networks[name].id, places[name]
        try:
            # An older haproxy may have to finish.
            wait_for(
                lambda k=key, w=wanted: sorted(left_of(ready, k)) == w,
                timeout_s=FINISHED_S,
                what="the same as before",
            )
        except TimeoutError:
            differ = {*left_of(ready, key)} ^ {*wanted}
            problems[name].append(f"differs: {differ}")
    assert not problems, json.dumps(problems, indent=1)
    wait_for(  # what the self-check saw of it is asked again after 10 s
        lambda: ready.agent.status().returncode == 0,
        timeout_s=90,
        what="content agent-status",
    )


def test_veth_made_anew_under_its_name_is_plugged_anew(ready):
    """By a daemon that was killed before it could say so, for example.

    The userspace datapath holds on to the device that is gone.
    """
    network, instance = plugged(ready)
    ready.agent.stop()
    outer, inner = (f"tap{network.id[:10]}{end}" for end in (0, 1))
    where = network.namespace
    run("ip", "link", "delete", outer)
    run(
        *("ip", "link", "add", outer, "type", "veth", "peer", "name", inner),
        *("netns", where, "address", network.metadata.mac),
    )
    ready.agent.start()
    ready.agent.wait_ready()
    wait_both(instance)


def test_neutrons_port_with_a_veth_made_by_a_try_that_failed(ready):
    """It has no mark that tells that its device is another one now."""
    network, instance = plugged(ready)
    ready.agent.stop()
    outer, file = f"tap{network.id[:10]}0", config_of(network.id)
    for key in ("ovn-metadata-network", "ovn-metadata-ifindex"):
        run("ovs-vsctl", "remove", "Interface", outer, "external_ids", key)
    run("ip", "link", "delete", outer)
    file.unlink()
    file.mkdir()
    ready.agent.start()
    wait_for(
        lambda: (
            f"{network.id} ({network.name}): FAILED"
            in ready.agent.status().stdout
        ),
        timeout_s=60,
        what="a try that fails",
    )
    file.rmdir()
    wait_both(instance)


# -- crash loops ------------------------------------------------------------


@pytest.fixture
def occupied() -> Iterator[Callable[[Network], socket.socket]]:
    """Give a way to take a network's port 80 from its haproxy."""
    held: list[socket.socket] = []

    def occupy(network: Network) -> socket.socket:
        with inside(network.namespace):
            link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # The last connection may have a minute until its port is free.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.append(link)
        wait_for(
            lambda: link.bind(("169.254.169.254", 80)) is None,
            timeout_s=60,
            what="free port",
        )
        link.listen()
        return link

    yield occupy
    for link in held:
        link.close()


def starts_of(network: str) -> int:
    """Return how often supervisord started NETWORK's haproxy."""
    log = (FLEET / "log" / "supervisord.log").read_text()
    return log.count(f"spawned: 'haproxy-{network}'")


def test_crash_loop_is_backed_off_reported_and_heals(ready, occupied):
    """Port 80 is taken: few starts, agent-status says which network."""
    network, instance = plugged(ready)
    _, other = plugged(ready, "other")
    ready.agent.stop()
    ready.agent.stop_fleet()  # it holds the port as long as it runs
    blocker = occupied(network)
    first = starts_of(network.id)
    ready.agent.start()

    def is_told() -> bool:
        said = ready.agent.status()
        line = f"{network.id} ({network.name}): FAILED"
        others = said.stdout.count("FAILED") - said.stdout.count(line)
        return said.returncode == 3 and line in said.stdout and not others

    wait_for(
        is_told,
        timeout_s=90,
        interval_s=0.2,
        what="agent-status with exit code 3",
    )
    wait_served(other)
    check_pauses(network, other, first)
    blocker.close()
    freed = time.monotonic()
    wait_both(instance, timeout_s=120)
    print(f"healed {time.monotonic() - freed:.1f} s after the cause went")
    wait_for(
        lambda: ready.agent.status().returncode == 0,
        timeout_s=90,
        what="content agent-status",
    )
    wait_for(
        lambda: len(haproxies(ready, network.id)) == 1,
        timeout_s=FINISHED_S,
        what="one haproxy",
    )


def check_pauses(network: Network, other: Instance, first: int) -> None:
    """Check that NETWORK's haproxy is started seldom, and OTHER served.

    It had been started FIRST times when the trouble began.
    """
    before, since = starts_of(network.id), time.monotonic()

    def others_served() -> bool:
        assert is_served(other)
        return time.monotonic() > since + CRASH_LOOP_S

    wait_for(
        others_served, timeout_s=CRASH_LOOP_S + 90, what="end of the watch"
    )
    starts, took_s = starts_of(network.id) - before, time.monotonic() - since
    print(f"{starts} starts in {took_s:.1f} s")
    # Without a pause it would be a hundred in eight seconds.
    assert starts <= 16 + took_s / 4
    assert starts_of(network.id) > first


def test_new_network_that_fails_is_tried_less_and_less_often(ready):
    """Its port, plugged in each try anew, would be a change each time."""
    network = ready.neutron.create_network("n1", subnets=SUBNETS)
    stuck = config_of(network.id)
    stuck.mkdir()
    ready.plug([ready.neutron.create_port(network)])
    wait_for(
        lambda: network.id in status()["networks"],
        timeout_s=60,
        what="the first try",
    )
    since = time.monotonic()
    wait_for(
        lambda: time.monotonic() > since + 8, timeout_s=60, what="the end"
    )
    tries = network_status(network.id)["failures"]
    print(f"{tries} tries in 8 s")
    assert tries <= 12  # some 40 a second without a pause
    stuck.rmdir()
    wait_both(*ready.instances, timeout_s=120)


def test_refused_map_leaves_others_served(ready):
    """A map that the fleet can't read: written anew at the next pass."""
    network, instance = plugged(ready)
    _, other = plugged(ready, "other")
    host.map_of(network.id).chmod(0)
    for pid in haproxies(ready, network.id):
        send_signal(pid, SIGKILL)
    wait_both(other)
    wait_both(instance)
    mode = host.map_of(network.id).stat().st_mode
    assert mode & 0o777 == 0o640
