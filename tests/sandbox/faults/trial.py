"""Try a fault: what is seen of it, and that its remedy works."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import wait_for
from ..case import wait_served
from . import injected
from .scene import Scene
from .table import Fault

# The host's problems are to be seen within a minute.
SHOWN_S = 60.0
ASKED_S = 60.0
# What has failed several times is tried again after a minute at most, and a
# haproxy that was killed is started with back-off.
BACK_S = 120.0
CONTENT_S = 150.0


@dataclasses.dataclass
class Seen:
    """What was seen of a fault."""

    why: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    why_s: float = 0.0  # until it named the fault
    status_s: float = 0.0  # until agent-status had its code
    codes: frozenset[str] = frozenset()  # of agent-status
    healed: bool = False

    def __str__(self) -> str:
        """Return it in one line."""
        codes = " ".join(sorted(self.codes)) or "-"
        said = "healed" if self.healed else str(self.why.get("code"))
        return (
            f"why {said} after {self.why_s:.1f} s, status {codes} after "
            f"{self.status_s:.1f} s: {self.why.get('text', '')}"
        )


def why(scene: Scene, name: str = "") -> dict[str, Any]:
    """Return what `agent-status why` says of the subject."""
    name = name or scene.subject.port.id
    done = scene.box.agent.status("why", name, "--json")
    return _answer(done.stdout, done.stderr, done.returncode)


def _answer(output: str, errors: str, code: int) -> dict[str, Any]:
    """Return the JSON in OUTPUT; without any, what ERRORS name.

    An agent that does not answer writes no JSON.
    """
    answer: dict[str, Any] = json.loads(output or "{}")
    named = [
        {"code": each, "state": "fail", "text": errors}
        for each in re.findall(r"OVNMD-\d{3}", "" if answer else errors)
    ]
    made = {"hops": named, "problems": named, "text": errors, **answer}
    return {**made, "exit": code}


def broken_step(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the step that ANSWER names: a failure, or else a warning.

    If there is neither, what it hints at.
    """
    for state in ("fail", "warn"):
        for hop in answer["hops"]:
            if hop["state"] == state:
                found: Mapping[str, Any] = hop
                return found
    hint: Mapping[str, Any] = answer.get("hint") or {}
    return hint


def status(scene: Scene) -> dict[str, Any]:
    """Return what `agent-status --json` says."""
    done = scene.box.agent.status("--json")
    return _answer(done.stdout, done.stderr, done.returncode)


def codes(scene: Scene) -> frozenset[str]:
    """Return the codes of the problems that agent-status shows."""
    return frozenset(p["code"] for p in status(scene)["problems"])


def attempt(scene: Scene, fault: Fault) -> Seen:
    """Inject FAULT, see what is said of it, and apply its remedy.

    Raises TimeoutError where something is not said or done in time.
    """
    seen = Seen()
    with injected(scene, fault) as broken:
        if fault.cuts:
            _wait_cut(broken, fault, seen)
        begun = time.monotonic()
        if not seen.healed:
            _wait_why(broken, fault, seen)
        seen.why_s = time.monotonic() - begun
        if fault.host and not seen.healed:
            _wait_status(broken, fault, seen)
        seen.status_s = time.monotonic() - begun
    wait_served(
        *(scene.subject, scene.neighbour, scene.elsewhere), timeout_s=BACK_S
    )
    if fault.ipv6:
        wait_served(scene.subject, ipv6=True, timeout_s=BACK_S)
    wait_content(scene)
    return seen


def _wait_cut(broken: Scene, fault: Fault, seen: Seen) -> None:
    """Wait until the metadata is away, unless the agent is too fast."""
    try:
        broken.wait_cut(
            ipv6=fault.ipv6, timeout_s=3.0 if fault.heals else 60.0
        )
    except TimeoutError:
        if not fault.heals:
            raise
        seen.healed = True


def _healed(broken: Scene, fault: Fault) -> bool:
    """Return whether the agent has mended FAULT before it was asked."""
    return fault.heals and broken.is_served(ipv6=fault.ipv6)


def _wait_why(broken: Scene, fault: Fault, seen: Seen) -> None:
    last: dict[str, Any] = {}

    def named() -> bool:
        last.clear()
        last.update(why(broken))
        seen.why = broken_step(last)
        if seen.why.get("code") in fault.codes:
            return True
        seen.healed = _healed(broken, fault)
        return seen.healed

    _explained(named, ASKED_S, f"{fault.codes} by why", last)


def _wait_status(broken: Scene, fault: Fault, seen: Seen) -> None:
    last: dict[str, Any] = {}

    def shown() -> bool:
        broken.is_served(ipv6=fault.ipv6)  # as guests do, it asks again
        last.clear()
        last.update(status(broken))
        seen.codes = frozenset(p["code"] for p in last["problems"])
        if seen.codes.intersection(fault.codes):
            return True
        seen.healed = _healed(broken, fault)
        return seen.healed

    _explained(shown, SHOWN_S, f"{fault.codes} by agent-status", last)


def _explained(
    condition: Callable[[], bool],
    timeout_s: float,
    what: str,
    last: Mapping[str, Any],
) -> None:
    """Wait for CONDITION; a TimeoutError has the LAST answer."""
    try:
        wait_for(condition, timeout_s=timeout_s, interval_s=0.5, what=what)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{json.dumps(last, indent=1)}") from None


def wait_content(scene: Scene) -> None:
    """Wait until agent-status and why have nothing to complain of."""
    scene.box.agent.wait_ready(timeout_s=CONTENT_S)
    last: dict[str, Any] = {}

    def whole() -> bool:
        last.clear()
        last.update(why(scene))
        states = {hop["state"] for hop in last["hops"]}
        return states == {"ok"}

    _explained(whole, ASKED_S, "healthy path", last)
