"""Answer the question why: find the port, gather, walk, and report."""

import dataclasses
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from ...privsep import names
from . import report
from .facts import Common, Facts, Seen, Target, Unseen
from .gather import Gather, elsewhere
from .hops import FAIL
from .target import find
from .walk import AMBIGUOUS, walk

# Each makes several calls to the daemon, which has to serve others too.
_WORKERS = 4
# For all networks; `agent-status why` waits longer.
_ALL_S = 20.0


def answer(gather: Gather, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to QUESTION, in the types of JSON.

    Its "why" is a name, or "" for one port of each network. Then
    "within_s" is the time that the client has.
    """
    begun = time.monotonic()
    name, common = str(question["why"]), gather.common()
    if names.is_network(name.lower()):
        name = name.lower()
    if name:
        result = _one(gather, name, common)
    else:
        within_s = min(float(question.get("within_s", _ALL_S)), _ALL_S)
        left_s = begun + within_s - time.monotonic()
        result = _all(gather, common, max(0.0, left_s))
    took_ms = round((time.monotonic() - begun) * 1000)
    return {"version": report.VERSION, **result, "took_ms": took_ms}


def _one(gather: Gather, name: str, common: Common) -> dict[str, Any]:
    found = find(name, common.chassis)
    if not found:
        # Southbound has names too, and what is on other hosts.
        seen = elsewhere(common, name)
        if not (found := _here(seen, common)):
            return report.absent(name, seen, common)
    several = [report.candidate(each) for each in found]
    networks = {each["network"] for each in several}
    if len(networks) > 1 and found[0].port.instance != name:
        return {"verdict": AMBIGUOUS, "name": name, "candidates": several}
    result = _walk(gather, common, found[0], brief=False)
    return {**result, "candidates": several[1:]}


def _walk(
    gather: Gather, common: Common, target: Target, *, brief: bool
) -> dict[str, Any]:
    facts = gather.path(common, target)
    if not any(hop.state == FAIL for hop in walk(facts)[0]):
        facts = _request(gather, facts, brief=brief)
    return report.of(facts)


def _request(gather: Gather, facts: Facts, *, brief: bool) -> Facts:
    """Return FACTS with an answer; if Nova gives none, the gateway may."""
    facts = gather.request(facts, brief=brief)
    if brief or not isinstance(facts.answer, Unseen):
        return facts
    alive = gather.request(facts, brief=True)
    if isinstance(alive.answer, Unseen):
        return facts
    reason = f"{facts.answer.reason}, and the gateway answers by itself"
    unseen = Unseen(f"Nova: {reason}", "OVNMD-501")
    return dataclasses.replace(facts, answer=unseen)


def _all(gather: Gather, common: Common, within_s: float) -> dict[str, Any]:
    """Return the walks that end in time, and how many do not.

    A network whose ports are only requested has no path yet.
    """
    pool = ThreadPoolExecutor(_WORKERS)
    chassis, plugged = common.chassis, common.vswitch.plugged
    walks = [
        pool.submit(_walk, gather, common, target, brief=True)
        for network in sorted(chassis.networks)
        for target in [
            each
            for each in find(network, chassis)
            if each.port.bound or each.port.logical_port in plugged
        ][:1]
    ]
    done, late = wait(walks, within_s)
    pool.shutdown(wait=False, cancel_futures=True)
    networks = [each.result() for each in walks if each in done]
    return {"networks": networks, "late": len(late)}


def _here(seen: Seen, common: Common) -> list[Target]:
    """Return the ports on this chassis among those SEEN in Southbound."""
    if isinstance(seen, Unseen):
        return []
    ports = (row["logical_port"] for row in seen["ports"])
    known = (*seen["networks"], *ports)
    return [one for name in known for one in find(name, common.chassis)]
