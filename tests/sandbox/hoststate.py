"""What is on this host for one network, and what there should be."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from . import CommandError, Network, Port, Sandbox, host, wait_for
from .daemons import run
from .host import FLEET
from .model import METADATA_V4, METADATA_V6
from .namespaces import NETNS_FOLDER
from .ovsdb import to_uuid
from .sockets import status

_MAP_LINE_FIELDS = 3  # haproxy's pointer, the address, the value


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A network as an instance of it finds it."""

    plugged: tuple[str, str]  # bridge, iface-id
    mac: str
    mtus: tuple[int, int]  # outer, inner
    addresses: frozenset[str]
    instances: Mapping[str, str]  # address -> instance id


def expected(
    network: Network, ports: Iterable[Port], *, bridge: str = "br-int"
) -> Served | None:
    """Return what has to be there for PORTS of NETWORK; None for nothing."""
    bound = list(ports)
    if not bound:
        return None
    metadata = network.metadata
    taken = {address for port in bound for address, _ in port.fixed}
    subnets = [
        item.cidr
        for item in network.subnets
        if any(address in item.cidr for address in taken)
    ]
    served = [
        (address, size)
        for address, size in metadata.fixed
        if any(address in cidr for cidr in subnets)
    ]
    served += [(METADATA_V4, 32), (METADATA_V6, 128)]
    served += [(metadata.link_local, 64)]
    return Served(
        plugged=(bridge, metadata.id),
        mac=metadata.mac,
        mtus=(network.mtu, network.mtu),
        addresses=frozenset(f"{address}/{size}" for address, size in served),
        instances={
            str(address): port.device_id
            for port in bound
            for address in (*(a for a, _ in port.fixed), port.link_local)
        },
    )


def found(box: Sandbox, network: Network) -> Served | None:
    """Return what is there for NETWORK; None unless it is complete."""
    tap = f"tap{network.id[:10]}"
    where = ("-n", network.namespace, "address", "show", "dev", f"{tap}1")
    try:
        (inner,) = json.loads(run("ip", "-j", *where))
        outer = Path(f"/sys/class/net/{tap}0/mtu").read_text()
        return Served(
            plugged=_plugged(box, f"{tap}0"),
            mac=inner["address"],
            mtus=(int(outer), inner["mtu"]),
            addresses=frozenset(
                f"{entry['local']}/{entry['prefixlen']}"
                for entry in inner["addr_info"]
            ),
            instances=_instances(network.id),
        )
    except (CommandError, OSError):
        return None


def _plugged(box: Sandbox, name: str) -> tuple[str, str]:
    where = [["name", "==", name]]
    ovs = box.ovn.ovs
    for port in ovs.select("Port", where, ["_uuid"]):
        holds = [["ports", "includes", to_uuid(port["_uuid"])]]
        for bridge in ovs.select("Bridge", holds, ["name"]):
            for row in ovs.select("Interface", where, ["external_ids"]):
                return bridge["name"], row["external_ids"].get("iface-id")
    return "", ""


def _instances(network: str) -> dict[str, str]:
    """Return whose each address is, as the running haproxy has it."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(host.stats_of(network)))
        link.sendall(f"show map {host.map_of(network)}\n".encode())
        with link.makefile() as stream:
            lines = [line.split() for line in stream]
    return {
        line[1]: line[2].partition("|")[0]
        for line in lines
        if len(line) == _MAP_LINE_FIELDS
    }


def written_map(network: Network) -> dict[str, str]:
    """Return whose each address is, as the file has it."""
    lines = host.map_of(network.id).read_text().splitlines()
    pairs = [line.split() for line in lines]
    return {address: value.partition("|")[0] for address, value in pairs}


def wait_host(
    box: Sandbox,
    network: Network,
    *ports: Port,
    bridge: str = "br-int",
    timeout_s: float = 60.0,
) -> None:
    """Wait until NETWORK is served for exactly PORTS; for none, is gone."""
    wanted = expected(network, ports, bridge=bridge)
    seen: list[object] = []

    def so() -> bool:
        if wanted is None:
            seen[:] = left_of(box, network.id)
            return not seen
        seen[:] = [found(box, network)]
        return seen == [wanted]

    try:
        wait_for(
            so, timeout_s=timeout_s, interval_s=0.05, what="state of the host"
        )
    except TimeoutError as error:
        raise TimeoutError(f"{error}\nfound {seen}\nnot {wanted}") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Everything:
    """All that a metadata agent has made on this host, by name."""

    namespaces: frozenset[str]
    links: frozenset[str]
    ports: frozenset[str]  # of Open vSwitch
    programs: frozenset[tuple[str, str]]  # with their state
    processes: Mapping[str, int]  # haproxies, by network or gateway
    files: frozenset[str]

    def with_networks(self, keys: Iterable[str]) -> Everything:
        """Return what there is if the networks KEYS are served as well."""
        added = [_of_network(key) for key in keys]
        return Everything(
            self.namespaces.union(*(one.namespaces for one in added)),
            self.links.union(*(one.links for one in added)),
            self.ports.union(*(one.ports for one in added)),
            self.programs.union(*(one.programs for one in added)),
            {
                **self.processes,
                **{k: 1 for one in added for k in one.processes},
            },
            self.files.union(*(one.files for one in added)),
        )

    def differences(self, other: Everything) -> list[str]:
        """Return what is here or in OTHER, and not in both."""
        found = []
        for field in dataclasses.fields(self):
            mine, theirs = (
                set(value.items()) if isinstance(value, dict) else value
                for value in (
                    getattr(self, field.name),
                    getattr(other, field.name),
                )
            )
            found += [f"{field.name}: + {each}" for each in mine - theirs]
            found += [f"{field.name}: - {each}" for each in theirs - mine]
        return sorted(found)


def _of_network(key: str) -> Everything:
    outer = f"tap{key[:10]}0"
    work = host.stats_of(key).parent
    files = {
        *(host.config_of(key), host.map_of(key), host.map_of(key).parent),
        *(work, work / "stats.sock", work / "again.sock"),
        work.with_name(f"{key}.pid"),
        host.HOME / "external" / "pids" / f"{key}.pid.haproxy",
        *(FLEET / "programs" / f"{key}.ini", FLEET / "log" / f"{key}.log"),
    }
    return Everything(
        namespaces=frozenset({f"ovnmeta-{key}"}),
        links=frozenset({outer}),
        ports=frozenset({outer}),
        programs=frozenset({(f"haproxy-{key}", "RUNNING")}),
        processes={key: 1},
        files=frozenset(map(str, files)),
    )


def everything(box: Sandbox) -> Everything:
    """Return what there is of the agent's, whatever it is there for."""
    plugged = {instance.outer for instance in box.instances}
    links = {entry.name for entry in Path("/sys/class/net").iterdir()}
    ports = {row["name"] for row in box.ovn.ovs.select("Port", (), ["name"])}
    haproxies = Counter(
        Path(process.cmdline[process.cmdline.index("-f") + 1]).stem
        for process in box.agent.processes("haproxy")
        if "-f" in process.cmdline
    )
    return Everything(
        namespaces=frozenset(
            path.name for path in NETNS_FOLDER.glob("ovnmeta-*")
        ),
        links=frozenset(n for n in links - plugged if n.startswith("tap")),
        ports=frozenset(n for n in ports - plugged if n.startswith("tap")),
        programs=frozenset(programs().items()),
        processes=dict(haproxies),
        files=frozenset(
            str(path)
            for top in (host.HOME, FLEET)
            for path in top.rglob("*")
            # supervisord's log is turned over now and then; an agent that
            # ends leaves its counters.
            if not re.search(
                r"supervisord\.log|\.log\.\d+$|-counters\.json$", path.name
            )
        ),
    )


def settled(box: Sandbox) -> Everything:
    """Return `everything`, once every program has run for a while."""
    seen: dict[str, str] = {}

    def running() -> bool:
        seen.clear()
        seen.update(programs())
        return set(seen.values()) == {"RUNNING"}

    try:
        wait_for(running, timeout_s=60, what="programs that run")
    except TimeoutError as error:
        log = (FLEET / "log" / "supervisord.log").read_text()[-3000:]
        raise TimeoutError(f"{error}; {seen}\n{log}") from None
    return everything(box)


def wait_everything(
    box: Sandbox, wanted: Everything, *, timeout_s: float
) -> None:
    """Wait until there is what is WANTED, and nothing else."""
    found: list[str] = []

    def so() -> bool:
        found[:] = everything(box).differences(wanted)
        return not found

    try:
        wait_for(so, timeout_s=timeout_s, interval_s=0.1, what="such a host")
    except TimeoutError as error:
        listing = "\n".join(found)
        raise TimeoutError(f"{error}\n{listing}") from None


def haproxies(box: Sandbox, network: str) -> list[int]:
    """Return the PIDs of NETWORK's (or "gateway"'s) haproxies."""
    file = str(host.config_of(network))
    found = box.agent.processes("haproxy")
    return [process.pid for process in found if file in process.cmdline]


def programs() -> dict[str, str]:
    """Return the names and states of what supervisord knows."""
    with _supervisord() as server:
        known: Any = server.supervisor.getAllProcessInfo()
    return {info["name"]: info["statename"] for info in known}


def reload(network: str) -> None:
    """Reload NETWORK's (or "gateway"'s) haproxy, as an operator does."""
    with _supervisord() as server:
        server.supervisor.signalProcess(f"haproxy-{network}", "HUP")


@contextlib.contextmanager
def _supervisord() -> Iterator[xmlrpc.client.ServerProxy]:
    transport = SupervisorTransport(
        None, None, f"unix://{FLEET / 'supervisord.sock'}"
    )
    yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport)
    transport.close()


def left_of(box: Sandbox, *networks: str) -> list[str]:
    """Return all that there is of NETWORKS on this host."""
    names = {network: f"tap{network[:10]}" for network in networks}
    ports = {row["name"] for row in box.ovn.ovs.select("Port", (), ["name"])}
    links = {entry.name for entry in Path("/sys/class/net").iterdir()}
    places = [
        str(Path(folder, name))
        for top in (host.HOME, FLEET, NETNS_FOLDER)
        for folder, folders, files in os.walk(top)
        for name in folders + files
    ]
    commands = [
        " ".join(process.cmdline) for process in box.agent.processes("haproxy")
    ]
    known, served = programs(), status()["networks"]
    found = []
    for network, tap in names.items():
        found += [f"port {name}" for name in ports if name.startswith(tap)]
        found += [f"link {name}" for name in links if name.startswith(tap)]
        found += [place for place in places if network in place]
        found += [text for text in commands if network in text]
        found += [name for name in known if network in name]
        found += [f"status {name}" for name in served if name == network]
    return found


def wait_gone(
    box: Sandbox, *networks: str, timeout_s: float, begun: float = 0.0
) -> float:
    """Wait until nothing is left of NETWORKS; return seconds since BEGUN."""
    begun = begun or time.monotonic()
    left: list[str] = []

    def gone() -> bool:
        left[:] = left_of(box, *networks)
        return not left

    try:
        wait_for(gone, timeout_s=timeout_s, what="end of the networks")
    except TimeoutError as error:
        listing = "\n".join(left)
        raise TimeoutError(f"{error}\n{listing}") from None
    return time.monotonic() - begun
