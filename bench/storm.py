"""500 instances of one host boot at once, and Nova is slow.

Each asks what cloud-init asks, in its order, from its own namespace, a
connection for each request. Nova answers 250 ms later, and begins 200 requests
a second: no agent can be faster than all requests divided by that. Once more
with an instance that asks at full speed over many connections.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from boots.asked import REQUESTS
from sandbox import Instance, Sandbox, model
from sandbox.attackers import hammering

from . import binding, sides
from .report import Report, progress

INSTANCES = 500
NETWORKS = 20
RATE = 200.0
NOVA_S = 0.25
# cloud-init waits so long for an answer, and takes the boot for lost.
PATIENCE_S = 10.0
LIMIT_S = 240.0  # for one storm
CONNECTIONS = 100  # of the instance that hammers
ALONE, HAMMERED = "", ", one hammers"
FLOOR_BOUND = 1.1  # times the floor
JAIN_BOUND = 0.95
ANSWER_BOUND_S = 9.0
GIVEN_UP = "no answer"
_REQUEST = (
    "GET {} HTTP/1.1\r\nHost: 169.254.169.254\r\n"
    "User-Agent: Cloud-Init/22.4.2\r\nAccept-Encoding: gzip, deflate\r\n"
    "Accept: */*\r\nConnection: keep-alive\r\n\r\n"
)


@dataclasses.dataclass(slots=True)
class Boot:
    """What one instance got; its times are seconds since the storm began."""

    ended_s: float | None = None  # None: it is not done
    longest_s: float = 0.0  # from a request to its answer
    said: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )


Storm = list[Boot]


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--ours", action="store_true", help="not Neutron's")
    given = parser.parse_args()
    storms: dict[str, Storm] = {}
    with Sandbox() as box:
        instances = make_instances(box, given.instances + 1)
        evil, *booting = instances
        chosen = [sides.Ours(box)] if given.ours else sides.both(box)
        for side in chosen:
            for how in (ALONE, HAMMERED):
                with sides.running(side):
                    # One of each network: all at once is a storm already.
                    binding.seconds_to_answers(
                        instances[:NETWORKS], timeout_s=300, patience_s=1.0
                    )
                    with nova_held(box), hammered(evil, how):
                        storm = asyncio.run(run(booting))
                storms[side.name + how] = storm
                progress(f"{side.name}{how}: {told(storm)}")
    return summarize(storms).finish()


def make_instances(box: Sandbox, count: int) -> list[Instance]:
    """Return COUNT instances on a few networks; bound."""
    with box.neutron.batch():
        networks = [
            box.neutron.create_network(f"net-{number}")
            for number in range(NETWORKS)
        ]
        ports = [
            box.neutron.create_port(networks[number % NETWORKS])
            for number in range(count)
        ]
    box.ovn.sync()
    return box.plug(ports)


@contextlib.contextmanager
def nova_held(box: Sandbox) -> Iterator[None]:
    """Have a Nova that is as slow as it is told."""
    box.nova.set_delay(NOVA_S)
    box.nova.set_rate(RATE)
    try:
        yield
    finally:
        box.nova.set_delay(0)
        box.nova.set_rate(0)


@contextlib.contextmanager
def hammered(evil: Instance, how: str) -> Iterator[None]:
    """Have EVIL hammer, if HOW says so."""
    with contextlib.ExitStack() as stack:
        if how == HAMMERED:
            stack.enter_context(hammering(evil, CONNECTIONS))
        yield


async def run(instances: Sequence[Instance]) -> Storm:
    """Boot INSTANCES at once; return what became of each, at the limit."""
    boots = [Boot() for _ in instances]
    begun = time.monotonic()
    pairs = zip(instances, boots, strict=True)
    tasks = [asyncio.create_task(boot(i, b, begun)) for i, b in pairs]
    done, late = await asyncio.wait(tasks, timeout=LIMIT_S)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
    return boots


async def boot(instance: Instance, seen: Boot, begun: float) -> None:
    """Ask as cloud-init does since 25.1: 503 is obeyed, all else final."""
    for path in REQUESTS:
        retry_s = 0.0
        while retry_s is not None:
            await asyncio.sleep(retry_s)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    status, retry_s = await ask(instance, path)
            except OSError:  # TimeoutError is one
                seen.said[GIVEN_UP] += 1
                return
            took_s = time.monotonic() - asked
            seen.longest_s = max(seen.longest_s, took_s)
            seen.said[status] += 1
        if status != "200":
            return
    seen.ended_s = time.monotonic() - begun


async def ask(instance: Instance, path: str) -> tuple[str, float | None]:
    """Return the status of the answer, and when to try again, if at all."""
    loop = asyncio.get_running_loop()
    with instance.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
        link.settimeout(0)  # asyncio wants it so
        await loop.sock_connect(link, (str(model.METADATA_V4), 80))
        await loop.sock_sendall(link, _REQUEST.format(path).encode())
        answer, length = b"", None
        while length is None or len(answer) < length:
            part = await loop.sock_recv(link, 65536)
            if not part:
                raise ConnectionResetError(path)
            answer += part
            head, end, _ = answer.partition(b"\r\n\r\n")
            if end and length is None:
                fields = read_head(head)
                length = len(head) + 4 + int(fields["content-length"])
    status = fields[""].split(" ")[1]
    retry_s = float(fields.get("retry-after", 1))
    return status, retry_s if status == "503" else None


def read_head(head: bytes) -> dict[str, str]:
    """Return the fields of HEAD; under "" its first line."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return {"": first} | {k.lower(): v.strip() for k, _, v in pairs}


def jain(values: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 where all VALUES are the same."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def times(storm: Storm) -> list[float]:
    """Return when the boots that are done were done, in order."""
    return sorted(b.ended_s for b in storm if b.ended_s is not None)


def said(storm: Storm) -> collections.Counter[str]:
    """Return how often each status was the answer."""
    return sum((one.said for one in storm), collections.Counter())


def told(storm: Storm) -> str:
    """Return STORM in a line."""
    done = times(storm) or [0.0]
    return (
        f"{len(times(storm))} of {len(storm)} done, {done[0]:.1f} to "
        f"{done[-1]:.1f} s, {dict(said(storm))}, longest answer "
        f"{max(one.longest_s for one in storm):.2f} s"
    )


def summarize(storms: dict[str, Storm]) -> Report:
    """Return the table, the bounds and the plot."""
    report = Report("storm", [*storms])
    floor_s = {
        name: len(storm) * len(REQUESTS) / RATE
        for name, storm in storms.items()
    }

    def row(what: str, figure: Callable[[Storm], float]) -> None:
        report.row(what, *map(figure, storms.values()))

    row("boots", len)
    row("complete", lambda storm: len(times(storm)))
    row("the first after s", lambda storm: min(times(storm), default=0.0))
    row("the last after s", lambda storm: max(times(storm), default=0.0))
    report.row("floor, s", *floor_s.values())
    row("Jain's index of their times", lambda storm: jain(times(storm)))
    row("longest answer, s", lambda storm: max(b.longest_s for b in storm))
    words = {word for storm in storms.values() for word in said(storm)}
    for word in sorted(words | {"200", "404", "429", "503", GIVEN_UP}):
        row(word, lambda storm, w=word: said(storm)[w])
    for how in (ALONE, HAMMERED):
        _bounds(report, how, storms[sides.OURS + how], floor_s)
    report.plot(
        "Boots that are complete, of a storm",
        {
            name: [(t, number) for number, t in enumerate(times(storm), 1)]
            for name, storm in storms.items()
            if times(storm)
        },
        axes=("seconds", "boots"),
    )
    return report


def _bounds(
    report: Report, how: str, storm: Storm, floor_s: dict[str, float]
) -> None:
    done = times(storm)
    answers = said(storm)
    report.bound(f"boots lost{how}", len(storm) - len(done), "<=", 0)
    report.bound(
        f"the last boot, times the floor{how}",
        max(done, default=0.0) / floor_s[sides.OURS + how],
        "<=",
        FLOOR_BOUND,
    )
    report.bound(f"Jain's index{how}", jain(done), ">=", JAIN_BOUND)
    report.bound(
        f"seconds to the slowest answer{how}",
        max(one.longest_s for one in storm),
        "<=",
        ANSWER_BOUND_S,
    )
    report.bound(
        f"answers 404 or 429{how}", answers["404"] + answers["429"], "<=", 0
    )


if __name__ == "__main__":
    sys.exit(main())
