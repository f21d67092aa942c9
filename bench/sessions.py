"""The Southbound database with 200 sessions of this agent, and failover.

The rows are those of a cloud as ovn-heater's OpenStack makes one: a project
has a network, whose instances are placed on one chassis after another. The
agents' sessions (their IDL, a process each) are of some of the chassis; the
others are rows. First all are at the server, then at its relays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox import bare_southbound as rows
from sandbox import ovsdb, wait_for
from sandbox.daemons import Daemon, run
from sandbox.processes import cpu_s

from .followers import Followers, everything, sent_bytes
from .report import Report, progress, sized

SESSIONS = sized(200, 20)
INSTANCES = sized(100_000, 5_000)
ON_CHASSIS = 50  # instances, each of another project
IN_PROJECT = 10  # instances
RATE = 100  # transactions a second
SECONDS = sized(20.0, 4.0)
FULL = sized(4, 2)  # sessions that are sent everything
# Of the sessions' three servers; two come later, and the first one dies.
PORTS = (6642, 6643, 6644)
AT_ONCE = 200  # networks in a transaction
BACK_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Cloud:
    """The rows: chassis, and the networks that each has an instance of."""

    chassis: list[str]
    networks: list[rows.Network]
    places: dict[str, list[rows.Network]]


def make_cloud() -> Cloud:
    """Return a cloud of INSTANCES, round robin over its chassis."""
    chassis = [rows.new_id() for _ in range(INSTANCES // ON_CHASSIS)]
    networks = [rows.Network() for _ in range(INSTANCES // IN_PROJECT)]
    places: dict[str, list[rows.Network]] = {each: [] for each in chassis}
    turns = itertools.cycle(chassis)
    for network in networks:
        for _ in range(IN_PROJECT):
            places[next(turns)].append(network)
    return Cloud(chassis, networks, places)


def fill(server: ovsdb.Ovsdb, cloud: Cloud) -> None:
    """Write the rows of CLOUD."""
    by_network: dict[str, list[str]] = {}
    for name, networks in cloud.places.items():
        for network in networks:
            by_network.setdefault(network.id, []).append(name)
    server.transact(
        [row for name in cloud.chassis for row in rows.insert_chassis(name)]
    )
    for first in range(0, len(cloud.networks), AT_ONCE):
        operations = []
        for network in cloud.networks[first : first + AT_ONCE]:
            operations += rows.insert_network(network)
            operations += [
                rows.insert_port(network, rows.new_id(), name)
                for name in by_network[network.id]
            ]
        server.transact(operations)


class Changes(threading.Thread):
    """Instances that come and go anywhere, RATE transactions a second.

    Each is four: requested, bound, up, deleted.
    """

    def __init__(self, server: ovsdb.Ovsdb, cloud: Cloud) -> None:
        super().__init__(daemon=True)
        self._server, self._cloud = server, cloud
        self._ended = threading.Event()
        self.done = 0

    def run(self) -> None:
        """Make changes until stopped."""
        begun = time.monotonic()
        for operation in self._operations():
            self._server.transact([operation])
            self.done += 1
            late = time.monotonic() - begun - self.done / RATE
            # Not with an instance left.
            pause = self._ended.wait(max(0.0, -late))
            if pause and self.done % 4 == 0:
                break

    def _operations(self) -> Iterator[ovsdb.Operation]:
        dice = random.Random(12)  # noqa: S311 # no secret
        while True:
            port = rows.new_id()
            chassis = dice.choice(self._cloud.chassis)
            insert = rows.insert_port(
                dice.choice(self._cloud.networks), port, chassis
            )
            insert["row"] |= {
                "chassis": ovsdb.to_set(()),
                "up": False,
                "tunnel_key": rows.FREE_KEY,
            }
            yield insert
            for row in (
                {"chassis": ovsdb.to_uuid(chassis)},
                {"up": True},
            ):
                yield ovsdb.update("Port_Binding", ovsdb.by_uuid(port), row)
            yield rows.by_ids([port])[0]

    def stop(self) -> None:
        """End, with the transaction that has begun."""
        self._ended.set()
        self.join()


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a second of changes cost."""

    rate: float  # transactions
    cpu: float  # of one core, by the servers of the sessions
    behind: float  # of one core, by the server behind the relays
    sent: float  # bytes


def measure(
    cloud: Cloud,
    server: ovsdb.Ovsdb,
    main: Daemon,
    relay: Daemon | None = None,
) -> Cost:
    """Return what changes cost, MAIN and the RELAY before it."""
    serving = relay or main
    changes = Changes(server, cloud)
    changes.start()
    before = cpu_s(serving.pid), cpu_s(main.pid)
    sent, done, begun = sent_bytes(), changes.done, time.monotonic()
    threading.Event().wait(SECONDS)
    seconds = time.monotonic() - begun
    cost = Cost(
        (changes.done - done) / seconds,
        (cpu_s(serving.pid) - before[0]) / seconds,
        (cpu_s(main.pid) - before[1]) / seconds if relay else 0.0,
        (sent_bytes() - sent) / seconds,
    )
    changes.stop()
    return cost


def start_relay(folder: Path, number: int) -> Daemon:
    """Start a relay of the server in FOLDER; return it with all rows."""
    name = f"relay{number}"
    remote = f"ptcp:{PORTS[number]}:127.0.0.1"
    relay = rows.relay(folder, name, f"unix:{folder}/sb.sock", remote)
    relay.start()
    wait_for(
        lambda: has_rows(rows.at(folder, name)),
        timeout_s=120,
        interval_s=0.2,
        what=f"rows at {name}",
    )
    return relay


def has_rows(relay: ovsdb.Ovsdb) -> bool:
    """Return whether RELAY has got the rows."""
    try:
        return bool(relay.select("SB_Global"))
    except ovsdb.OvsdbError:
        return False


def full(
    cloud: Cloud, server: ovsdb.Ovsdb, daemon: Daemon, report: Report
) -> Cost:
    """Return what changes cost with FULL sessions that get everything."""
    before = cpu_s(daemon.pid)
    seen, now = 0, 1
    # A row is more than 500 bytes.
    while now != seen or now < FULL * INSTANCES * 500:
        threading.Event().wait(2.0)
        seen, now = now, sent_bytes()
    report.row(
        "full monitoring: a start, KiB a session", seen / FULL / 1024, ""
    )
    report.row(
        "full monitoring: a start, s of CPU a session",
        (cpu_s(daemon.pid) - before) / FULL,
        "",
    )
    return measure(cloud, server, daemon)


def to_a_relay(
    folder: Path, server: ovsdb.Ovsdb, sessions: Followers
) -> Daemon:
    """Have a relay in place of the server; return it with all SESSIONS."""
    control = ("ovs-appctl", "-t", str(folder / "sb.ctl"))
    remote = f"ptcp:{PORTS[0]}:127.0.0.1"
    run(*control, "ovsdb-server/remove-remote", remote)
    relay = start_relay(folder, 0)
    sessions.reconnect()
    back(server, sessions)
    return relay


def start(cloud: Cloud, daemon: Daemon, report: Report) -> Followers:
    """Start the agents' sessions; return when each has its rows."""
    chosen = cloud.chassis[:: len(cloud.chassis) // SESSIONS][:SESSIONS]
    before = cpu_s(daemon.pid)
    sessions = Followers([f"tcp:127.0.0.1:{port}" for port in PORTS], chosen)
    networks = [len(cloud.places[each]) for each in chosen]
    sessions.wait_networks(networks, timeout_s=600)
    cpu = (cpu_s(daemon.pid) - before) / SESSIONS
    report.row("a start: s of the server's CPU a session", cpu, "")
    report.row("a start: KiB a session", sent_bytes() / SESSIONS / 1024, "")
    held = [one.rows for one in sessions.known]
    report.row("Port_Bindings that a session holds", statistics.mean(held), "")
    return sessions


def back(server: ovsdb.Ovsdb, sessions: Followers) -> float:
    """Return the seconds until all SESSIONS are current."""
    begun = time.monotonic()
    newest = max(one.nb_cfg for one in sessions.known) + 1
    server.transact([ovsdb.update("SB_Global", [], {"nb_cfg": newest})])
    times = sorted(sessions.wait_current(newest, timeout_s=180))
    progress(
        "current after "
        + ", ".join(
            f"{times[n * (len(times) - 1) // 4] - begun:.1f}" for n in range(5)
        )
        + " s (first, quarters, last)"
    )
    return times[-1] - begun


def costs(
    report: Report, nobody: Cost, all_rows: Cost, seen: tuple[Cost, Cost]
) -> None:
    """Add the table of what changes cost."""
    report.row("changes/s", *(one.rate for one in seen))
    report.row("changes alone: CPU of one core", nobody.cpu, "")
    report.row("CPU of one core", *(one.cpu for one in seen))
    report.row("CPU of the server behind", "", seen[1].behind)
    report.row(
        "CPU a session and change, us",
        *(
            (one.cpu - alone) / SESSIONS / one.rate * 1e6
            for one, alone in zip(seen, (nobody.cpu, 0.0), strict=True)
        ),
    )
    report.row(
        "full monitoring: CPU a session and change, us",
        (all_rows.cpu - nobody.cpu) / FULL / all_rows.rate * 1e6,
        "",
    )
    report.row("bytes/s a session", *(one.sent / SESSIONS for one in seen))
    report.row("full monitoring: bytes/s a session", all_rows.sent / FULL, "")


def main() -> int:
    """Measure, print, return the exit code."""
    cloud = make_cloud()
    report = Report("sessions", ("at the server", "at a relay"))
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as on:
        folder = Path(name)
        daemon = on.enter_context(
            rows.southbound(folder, f"ptcp:{PORTS[0]}:127.0.0.1")
        )
        server = rows.at(folder)
        progress(f"{INSTANCES} instances on {len(cloud.chassis)} chassis")
        fill(server, cloud)
        nobody = measure(cloud, server, daemon)
        progress(f"nobody: {nobody}")
        with everything(PORTS[0], FULL):
            all_rows = full(cloud, server, daemon, report)
        progress(f"everything: {all_rows}")
        sessions = start(cloud, daemon, report)
        on.callback(sessions.close)
        direct = measure(cloud, server, daemon)
        progress(f"sessions: {direct}")
        relay = to_a_relay(folder, server, sessions)
        on.callback(relay.kill)
        relayed = measure(cloud, server, daemon, relay)
        progress(f"relayed: {relayed}")
        for number in (1, 2):
            on.callback(start_relay(folder, number).kill)
        relay.kill()
        took = back(server, sessions)
        report.bound("killed, all current after, s", took, "<=", BACK_S)
    costs(report, nobody, all_rows, (direct, relayed))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
