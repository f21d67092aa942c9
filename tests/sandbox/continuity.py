"""A chassis of twenty networks under load, and what the load has seen.

Each measurement (`Measure`) is a row of the table that pytest prints in the
end; docs/explanation/continuity.md has such a table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import Agent, Instance, Loader, Network, Sandbox, host, wait_for
from .arrivals import Arrivals
from .binds import said_by
from .case import wait_served
from .controller import HEARTBEAT
from .daemons import Daemon, accepts
from .processes import Process, processes, send_signal
from .sockets import stats

FIGURES = "continuity"  # the property with a row of pytest's last table
SIGKILL, SIGSTOP, SIGCONT = 9, 19, 18

NETWORKS = 20
ARRIVE = 2  # instances on served networks; as many on networks of their own
STRANGE = "10.10.0.250"
RATE = 100.0  # requests per second, over all networks
PIDS = host.HOME / "external" / "pids"
ONE_OF_EACH = {"agent": 1, "privsep": 1, "supervisord": 1}


@dataclasses.dataclass
class Chassis:
    """Served networks, an instance each."""

    box: Sandbox
    networks: list[Network]
    instances: list[Instance]
    stranger: Instance  # whose address is nobody's
    # That are here only while something is done.
    guests: list[Network] = dataclasses.field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """What has a haproxy here."""
        return [*(network.id for network in self.networks), "gateway"]

    def haproxies(self, key: str) -> list[int]:
        """Return the PIDs of KEY's haproxies."""
        return _of_key(key, self.box.agent.processes("haproxy"))

    def fleet(self) -> dict[str, list[int]]:
        """Return all that `haproxies` says."""
        found = self.box.agent.processes("haproxy")
        return {key: _of_key(key, found) for key in self.keys}

    def process(self, kind: str) -> Process:
        """Return the one process of KIND."""
        found = self.box.agent.processes(kind)
        # A haproxy that supervisord is starting is its copy for a moment.
        pids = {process.pid for process in found}
        (process,) = [one for one in found if one.parent not in pids]
        return process

    def kill(self, kind: str) -> int:
        """Kill the process of KIND, wait for its end; return its old PID.

        Until then its sockets would be taken for those of the next one.
        """
        pid = self.process(kind).pid
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            ended, _, _ = select.select([pidfd], [], [], 60)
        finally:
            os.close(pidfd)
        assert ended, f"{kind} still runs"
        return pid

    def wait_other(self, kind: str, pid: int) -> None:
        """Wait until exactly one process of KIND runs, and not PID."""

        def one_other() -> bool:
            found = self.box.agent.processes(kind)
            # While it detaches, there are two, or one with a parent.
            return len(found) == 1 and (
                found[0].pid != pid and found[0].parent == 1
            )

        wait_for(one_other, timeout_s=90, what=f"another {kind}")

    def wait_one_each(self) -> None:
        """Wait until one haproxy runs of each, a child of supervisord."""

        def in_order() -> bool:
            daemons = self.box.agent.processes("supervisord")
            guests = {network.id for network in self.guests}
            found = [
                process
                for process in self.box.agent.processes("haproxy")
                if not any(g in w for g in guests for w in process.cmdline)
            ]
            return (
                len(daemons) == 1
                and {one.parent for one in found} == {daemons[0].pid}
                and all(len(_of_key(key, found)) == 1 for key in self.keys)
                and len(found) == len(self.keys)
            )

        wait_for(
            in_order,
            # An orphan may have so long to finish.
            timeout_s=120,
            interval_s=0.2,
            what="one haproxy each",
        )

    def has_one_of_each(self) -> bool:
        """Tell whether all that is to run does, and nothing else."""
        found = self.box.agent.processes()
        wanted = {**ONE_OF_EACH, "haproxy": len(self.keys)}
        return Counter(process.kind for process in found) == wanted

    def is_well(self) -> bool:
        """Tell whether all runs and all are served."""
        with contextlib.suppress(OSError):
            return (
                self.box.agent.running
                and self.has_one_of_each()
                and self.box.agent.status().returncode == 0
                and all(
                    i.fetch(timeout=2).status == 200 for i in self.instances
                )
            )
        return False

    def wait_content(self, agent: Agent | None = None) -> None:
        """Wait until agent-status is content."""
        asked = agent or self.box.agent
        said = ""

        def is_content() -> bool:
            nonlocal said
            status = asked.status()
            said = status.stdout + status.stderr
            return status.returncode == 0

        try:
            wait_for(
                is_content,
                timeout_s=150,  # after many failures, a try is a minute away
                interval_s=0.2,
                what="content agent-status",
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it says: {said}") from None

    def wait_stranger(self) -> None:
        """Wait until an address that is nobody's is told so."""
        wait_for(
            lambda: (
                said_by(self.stranger, timeout_s=10, source=STRANGE) == "404"
            ),
            timeout_s=90,
            what="404 for a stranger",
        )

    def check_follows(self) -> None:
        """See a port that comes be served, and go again."""
        port = self.box.neutron.create_port(self.networks[0])
        (instance,) = self.box.plug([port])
        wait_served(instance)
        self.box.unplug([instance])
        self.box.neutron.delete_port(port)


def _of_key(key: str, haproxies: Sequence[Process]) -> list[int]:
    return [
        process.pid
        for process in haproxies
        if any(
            key in word and word.endswith(".conf") for word in process.cmdline
        )
    ]


def make_chassis(box: Sandbox, count: int = NETWORKS) -> Chassis:
    """Start the agent of BOX and return COUNT networks that are served."""
    box.agent.start()
    box.agent.wait_ready()
    with box.neutron.batch():
        networks = [box.neutron.create_network(f"n{n}") for n in range(count)]
    ports = [box.neutron.create_port(network) for network in networks]
    odd = box.neutron.create_port(networks[0], port_security=False)
    *instances, stranger = box.plug([*ports, odd])
    stranger.take(STRANGE)
    made = Chassis(box, networks, instances, stranger)
    for instance in made.instances:
        wait_served(instance, timeout_s=60)
    made.wait_one_each()
    return made


def requests(load: Loader, count: int) -> None:
    """Wait until LOAD has asked COUNT more times."""
    wanted = load.requests + count
    wait_for(
        lambda: load.requests >= wanted, timeout_s=60, what="more requests"
    )


def pause(seconds: float) -> None:
    """Let the load go on for so long."""
    end = time.monotonic() + seconds
    wait_for(
        lambda: time.monotonic() > end,
        timeout_s=2 * seconds + 10,
        what="the end",
    )


class Measure:
    """Has CHASSIS asked while something is done, and notes the figures.

    New instances arrive meanwhile, ARRIVE on served networks and as many on
    networks of their own: none may be refused or told that it is nobody, and
    a stranger is told so in the end.
    """

    def __init__(
        self,
        record: Callable[[str, object], None],
        chassis: Chassis,
        *,
        arrive: int = ARRIVE,
    ) -> None:
        self._record = record
        self._chassis = chassis
        self._arrive = arrive

    @contextlib.contextmanager
    def load(
        self,
        what: str,
        *,
        rate: float = RATE,
        instances: Sequence[Instance] = (),
        seconds: float = 1.0,
        timeout_s: float = 10.0,
        arrive: int | None = None,
        stranger: bool = True,
    ) -> Iterator[Loader]:
        """Load all the while, and for SECONDS before and after.

        ARRIVE instances arrive on networks of those that ask, and as many on
        others. STRANGER is whether a stranger can be told 404 in the end.
        """
        chassis = self._chassis
        arrive = self._arrive if arrive is None else arrive
        asked = instances or chassis.instances
        count = int(rate * seconds)
        new = Arrivals(
            chassis.box,
            [one.port.network for one in asked[:arrive]],
            fresh=arrive,
            seed=zlib.crc32(what.encode()),
        )
        chassis.guests = new.networks
        with Loader(asked, rate=rate, timeout_s=timeout_s) as load:
            requests(load, count)
            with new:
                yield load
                requests(load, count)
        new.remove()
        chassis.guests = []
        self.note(what, load, new)
        assert new.lost() == {}
        assert new.served == new.arrived
        if arrive and stranger:
            chassis.wait_stranger()

    def note(self, what: str, load: Loader, new: Arrivals) -> None:
        """Note the figures of LOAD and NEW, which are over, under WHAT.

        An answer of Nova's state (503) is an answer: it counts apart.
        """
        refused = sum("status 503" in f.reason for f in load.failures)
        failed = len(load.failures) - refused
        row = (what, load.requests, failed, refused, load.longest_gap_s)
        arrived = (new.arrived, sum(new.lost().values()))
        self._record(FIGURES, (*row, *arrived))
        print(
            f"new instances were told {dict(new.said)}", *new.events, sep="\n"
        )
        for failure in load.failures[:5]:
            print(f"after {failure.at_s:.2f} s: {failure.reason}")


def digest(key: str) -> str:
    """Return the digest that KEY's haproxy runs on."""
    for line in stats(key, "show info").splitlines():
        if line.startswith("description: "):
            return line
    return ""


def start_fleet(chassis: Chassis, prefix: Path) -> Daemon:
    """Start the fleet's service of the release PREFIX; none runs."""
    service = Daemon(
        name="ovn-metadata-fleet",
        command=(str(prefix / "bin" / "ovn-metadata-fleet"),),
        output=chassis.box.folder / "fleet.out",
    )
    service.start()
    wait_for(
        lambda: accepts(host.FLEET / "supervisord.sock"),
        timeout_s=60,
        what="the service's supervisord",
    )
    return service


def replace_fleet(chassis: Chassis, prefix: Path) -> Daemon:
    """Start the fleet's service of the release PREFIX for supervisord."""
    # They would start one of their own; the agent starts the daemon.
    with hanging("agent"), hanging("privsep"):
        chassis.kill("supervisord")
        return start_fleet(chassis, prefix)


@contextlib.contextmanager
def fleet_service(chassis: Chassis, prefix: Path) -> Iterator[Daemon]:
    """Give the fleet's service of the release PREFIX in supervisord's place.

    It is stopped as its unit says: killed, and nothing else is.
    """
    service = replace_fleet(chassis, prefix)
    try:
        yield service
    finally:
        service.kill()


@contextlib.contextmanager
def hanging(kind: str) -> Iterator[None]:
    """Have the processes of KIND stand still."""
    pids = [process.pid for process in processes(kind)]
    for pid in pids:
        send_signal(pid, SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send_signal(pid, SIGCONT)


def heartbeat_is_true(chassis: Chassis) -> Callable[[], bool]:
    """Return a way to tell whether the last heartbeat asked for came."""
    box = chassis.box

    def true() -> bool:
        where = [["name", "==", box.ovn.system_id]]
        columns = ["nb_cfg", "external_ids"]
        (row,) = box.ovn.sb.select("Chassis_Private", where, columns)
        return row["external_ids"].get(HEARTBEAT) == str(row["nb_cfg"])

    return true
