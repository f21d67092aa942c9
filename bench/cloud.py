"""The size of the cloud must not be felt: 0 and 20,000 ports elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import re
import statistics
import sys
from pathlib import Path

from sandbox import Instance, Sandbox, ovsdb, processes
from sandbox.daemons import run
from sandbox.rows_held import rows_held

from . import binding, load, memory, sides
from .report import Report, progress, sized

PORTS = sized(20_000, 2_000)
ROUNDS = sized(3, 1)
CHASSIS = "foreign-1"
SECONDS = sized(4.0, 1.0)
SB_PORT = 6642
# "The same" on a shared machine: memory hardly moves, the rest does.
MEMORY_TOLERANCE = 0.05
START_TOLERANCE, RATE_TOLERANCE = 1.25, 0.8
RECEIVED_TOLERANCE = 1.2


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What one run of an agent cost."""

    start_s: float
    rss_mib: float
    cpu_s: float  # of the agent, since its start
    rate: float
    received_kib: float  # from the Southbound database


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--neutron", action="store_true", help="Neutron's agent as well"
    )
    arguments = parser.parse_args()
    seen: dict[tuple[str, int], list[Seen]] = {}
    rows: dict[int, int] = {}
    with Sandbox() as box:
        (instance,) = binding.make_instances(box, 1)
        elsewhere = box.neutron.create_network(
            "elsewhere", subnets=("10.128.0.0/12",)
        )
        chosen = sides.both(box) if arguments.neutron else [sides.Ours(box)]
        for number in range(ROUNDS):
            for count in (0, PORTS):
                if count:
                    progress(f"adding {count} ports of another chassis")
                    box.neutron.add_foreign_ports(
                        count, elsewhere, chassis=CHASSIS, direct=True
                    )
                elif number:
                    remove_foreign_ports(box)
                rows[count] = rows_held(box)
                for side in chosen:
                    one = once(side, instance)
                    seen.setdefault((side.name, count), []).append(one)
                    progress(f"round {number + 1} {side.name} {count}: {one}")
    report = summarize(seen, [side.name for side in chosen])
    report.row(
        f"{sides.OURS}: Port_Bindings held",
        rows[0],
        rows[PORTS],
        rows[PORTS] / rows[0],
    )
    report.bound("Port_Bindings held, ratio", rows[PORTS] / rows[0], "<=", 1.0)
    return report.finish()


def once(side: sides.Side, instance: Instance) -> Seen:
    """Start SIDE, measure, end it."""
    with sides.running(side) as start_s:
        binding.seconds_to_answers([instance], timeout_s=120)
        (agent,) = processes.processes("agent")
        seen = load.measure(instance, connections=16, seconds=SECONDS)
        return Seen(
            start_s=start_s,
            rss_mib=rss_mib(agent.pid),
            cpu_s=memory.cpu_s({agent.pid}),
            rate=seen.good_rate,
            received_kib=received_kib(agent.pid),
        )


def summarize(
    seen: dict[tuple[str, int], list[Seen]], names: list[str]
) -> Report:
    """Return the table and the bounds."""
    report = Report("cloud", ("0 ports", f"{PORTS} ports", "ratio"))
    ratios: dict[tuple[str, str], float] = {}
    for name in names:
        for what, attribute in (
            ("start to ready, s", "start_s"),
            ("RSS of the agent, MiB", "rss_mib"),
            ("CPU of the agent, s", "cpu_s"),
            ("answers/s", "rate"),
            ("from Southbound, KiB", "received_kib"),
        ):
            small, large = (
                statistics.median(
                    getattr(one, attribute) for one in seen[name, count]
                )
                for count in (0, PORTS)
            )
            ratios[name, attribute] = large / small if small else 1.0
            report.row(
                f"{name}: {what}", small, large, ratios[name, attribute]
            )
    ours = sides.OURS
    report.bound(
        "RSS, deviation",
        abs(ratios[ours, "rss_mib"] - 1),
        "<=",
        MEMORY_TOLERANCE,
    )
    report.bound(
        "KiB from Southbound, ratio",
        ratios[ours, "received_kib"],
        "<=",
        RECEIVED_TOLERANCE,
    )
    if ROUNDS > 1:  # in a single one, what else runs here decides
        report.bound(
            "start, ratio", ratios[ours, "start_s"], "<=", START_TOLERANCE
        )
        report.bound(
            "answers/s, ratio", ratios[ours, "rate"], ">=", RATE_TOLERANCE
        )
    return report


def rss_mib(pid: int) -> float:
    """Return the resident set of PID."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def received_kib(pid: int) -> float:
    """Return what PID has received from the Southbound database."""
    text = run("ss", "-tinHp", "dport", "=", f":{SB_PORT}")
    total = 0
    # Two lines each: the socket with its owner, then its counters.
    for owner, counters in zip(
        text.splitlines()[::2], text.splitlines()[1::2], strict=True
    ):
        found = re.search(r"bytes_received:(\d+)", counters)
        if f"pid={pid}," in owner and found:
            total += int(found.group(1))
    return total / 1024


def remove_foreign_ports(box: Sandbox) -> None:
    """Take the ports of the other chassis away again."""
    where = [["name", "==", CHASSIS]]
    (row,) = box.ovn.sb.select("Chassis", where, ["_uuid"])
    bound = [["chassis", "==", ovsdb.to_uuid(row["_uuid"])]]
    box.ovn.sb.transact([ovsdb.delete("Port_Binding", bound)])
    box.ovn.start("northd")  # which adding them stopped
    box.ovn.sync()


if __name__ == "__main__":
    sys.exit(main())
