"""Walk the path: facts -> hops, up to the first broken one."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from ..core.codes import KINDS
from . import host, ovn, serving
from .facts import Common, Facts, Unseen, UnseenError
from .hops import FAIL, UNKNOWN, WARN, Hop, Judge

WHOLE, BROKEN, WARNINGS = "whole", "broken", "warnings"
UNSEEN, ABSENT, AMBIGUOUS = "unseen", "not here", "ambiguous"

T = TypeVar("T")
# A step, the code of its usual problem, and its judgement.
Step: TypeAlias = tuple[str, str, Callable[[Judge, T], Hop | None]]
Table: TypeAlias = Sequence[Step[T]]

# In the order of the path: what all paths of a host share, and the rest.
HOST: Table[Common] = (
    ("OVN Southbound", "OVNMD-101", ovn.southbound),
    ("Open vSwitch", "OVNMD-102", ovn.vswitch_db),
    ("chassis", "OVNMD-103", ovn.chassis),
    ("privileged daemon", "OVNMD-401", host.privileged),
    ("ovs-vswitchd", "OVNMD-107", ovn.daemon),  # it forwards the packets
    ("ovn-controller", "OVNMD-106", ovn.daemon),  # it installs the flows
)
PATH: Table[Facts] = (
    ("port", "OVNMD-205", ovn.port),
    ("metadata port", "OVNMD-201", ovn.localport),
    ("instance's interface", "OVNMD-212", ovn.tap),
    ("agent", "OVNMD-202", host.served),
    ("namespace", "OVNMD-209", host.namespace),
    ("veth", "OVNMD-209", host.veth),
    ("veth on the bridge", "OVNMD-210", host.plugged),
    ("route by DHCP", "OVNMD-207", ovn.dhcp),
    ("flows to the metadata port", "OVNMD-206", ovn.flows),
    ("addresses", "OVNMD-209", host.addresses),
    ("sysctls", "OVNMD-209", host.kernel),
    ("neighbour", "OVNMD-209", host.neighbour),
    ("flows to the instance", "OVNMD-206", partial(ovn.flows, back=True)),
    ("listening socket", "OVNMD-301", host.listener),
    ("supervisord", "OVNMD-301", serving.supervisord),
    ("haproxy of the network", "OVNMD-301", serving.haproxy),
    ("map", "OVNMD-309", serving.identity),
    ("gateway", "OVNMD-307", serving.gateway),
    ("Nova", "OVNMD-507", serving.nova),
    ("request", "OVNMD-508", serving.request),
)


def walk(facts: Facts) -> tuple[list[Hop], list[str]]:
    """Return the hops up to the first broken one, and what is behind it."""
    hops = _judged(HOST, facts.common)
    if hops[-1].state != FAIL:
        hops += _judged(PATH, facts)
    steps = [step for step, *_ in (*HOST, *PATH)]
    return _with_cause(hops), steps[steps.index(hops[-1].step) + 1 :]


def walk_to(common: Common, last: Step[Common]) -> list[Hop]:
    """Return the hops of a path that ends with the step LAST, on this host."""
    return _with_cause(_judged((*HOST, last), common))


def _judged(table: Table[T], seen: T) -> list[Hop]:
    """Return the hops of TABLE by what was SEEN, up to the first broken one.

    A step that says nothing of this port has none. What could not be looked
    at is reported by the first step that needs it, and by no other.
    """
    hops: list[Hop] = []
    reported: list[Unseen] = []
    for step, code, judge in table:
        at = Judge(step, code)
        try:
            hop = judge(at, seen)
        except UnseenError as error:
            (unseen,) = error.args
            hop = None if unseen in reported else at.unknown(unseen)
            reported.append(unseen)
        hops += [hop] if hop else []
        if hop and hop.state == FAIL:
            break
    return hops


def _with_cause(hops: list[Hop]) -> list[Hop]:
    """Return HOPS; if the last is broken, only those up to its cause.

    Its cause is a warning (by `Kind.behind`), which becomes the broken hop.
    """
    causes = causes_of(hops[-1].code) if hops[-1].state == FAIL else ()
    for number, hop in enumerate(hops):
        if hop.state == WARN and hop.code in causes:
            detail = f"because of it: {hops[-1].text}"
            cause = dataclasses.replace(hop, state=FAIL, detail=detail)
            return [*hops[:number], cause]
    return hops


def causes_of(code: str) -> set[str]:
    """Return the codes of all that CODE may be the consequence of."""
    behind = {*KINDS[code].behind}
    return behind.union(*map(causes_of, behind))


def verdict(hops: Sequence[Hop]) -> str:
    """Return the word for all HOPS together."""
    states = {hop.state for hop in hops}
    if FAIL in states:
        return BROKEN
    if WARN in states:
        return WARNINGS
    return UNSEEN if UNKNOWN in states else WHOLE
