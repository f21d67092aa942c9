"""Walk the path: facts -> hops, up to the first broken one."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from ..core.codes import KINDS
from . import host, ovn, serving
from .facts import Common, Facts
from .hops import FAIL, UNKNOWN, WARN, Hop, Judge

WHOLE, BROKEN, WARNINGS = "whole", "broken", "warnings"
UNSEEN, ABSENT, AMBIGUOUS = "unseen", "not here", "ambiguous"

T = TypeVar("T")
Steps: TypeAlias = Sequence[tuple[str, Callable[[], Hop | None]]]
Table: TypeAlias = Sequence[tuple[str, Callable[[Judge, T], Hop | None]]]

# In the order of the path: what all paths of a host share, and the rest.
HOST: Table[Common] = (
    ("OVN Southbound", ovn.southbound),
    ("Open vSwitch", ovn.vswitch_db),
    ("chassis", ovn.chassis),
    ("privileged daemon", host.privileged),
    ("ovs-vswitchd", ovn.daemon),
    ("ovn-controller", ovn.daemon),
)
PATH: Table[Facts] = (
    ("port", ovn.port),
    ("metadata port", ovn.localport),
    ("instance's interface", ovn.tap),
    ("agent", host.served),
    ("namespace", host.namespace),
    ("veth", host.veth),
    ("veth on the bridge", host.plugged),
    ("route by DHCP", ovn.dhcp),
    ("flows to the metadata port", ovn.flows_there),
    ("addresses", host.addresses),
    ("sysctls", host.kernel),
    ("neighbour", host.neighbour),
    ("flows to the instance", ovn.flows_back),
    ("listening socket", host.listener),
    ("supervisord", serving.supervisord),
    ("haproxy of the network", serving.haproxy),
    ("map", serving.identity),
    ("gateway", serving.gateway),
    ("Nova", serving.nova),
    ("request", serving.request),
)


def walk(facts: Facts) -> tuple[list[Hop], list[str]]:
    """Return the hops up to the first broken one, and what is behind it."""
    return _walk([*_steps(HOST, facts.common), *_steps(PATH, facts)])


def walk_to(common: Common, hop: Hop) -> list[Hop]:
    """Return the hops of a path that ends with HOP, on this host."""
    return _walk([*_steps(HOST, common), (hop.step, lambda: hop)])[0]


def _steps(table: Table[T], seen: T) -> Steps:
    """Return the steps of TABLE, to judge what was SEEN."""
    return [(step, partial(judge, Judge(step), seen)) for step, judge in table]


def _walk(steps: Steps) -> tuple[list[Hop], list[str]]:
    """Walk STEPS.

    A hop with a warning that the broken one may be the consequence of
    (`Kind.behind`) is the broken one itself.
    """
    hops: list[Hop] = []
    for number, (_, judge) in enumerate(steps):
        hop = judge()
        if hop is None:
            continue
        hops.append(hop)
        if hop.state == FAIL:
            behind = [step for step, _ in steps[number + 1 :]]
            return _with_cause(hops), behind
    return hops, []


def _with_cause(hops: list[Hop]) -> list[Hop]:
    """Return HOPS up to the warning that explains the last; else all."""
    causes = causes_of(hops[-1].code)
    for number, hop in enumerate(hops):
        if hop.state == WARN and hop.code in causes:
            detail = f"because of it: {hops[-1].text}"
            cause = dataclasses.replace(hop, state=FAIL, detail=detail)
            return [*hops[:number], cause]
    return hops


def causes_of(code: str) -> set[str]:
    """Return the codes of all that CODE may be the consequence of."""
    found: set[str] = set()
    todo = [code]
    while todo:
        more = {*KINDS[todo.pop()].behind} - found
        found |= more
        todo += more
    return found


def verdict(hops: Sequence[Hop]) -> str:
    """Return the word for all HOPS together."""
    states = {hop.state for hop in hops}
    if FAIL in states:
        return BROKEN
    if WARN in states:
        return WARNINGS
    return UNSEEN if UNKNOWN in states else WHOLE
