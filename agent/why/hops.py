"""A hop on the path, and the judgement of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..core.codes import KINDS
from .facts import Unseen

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Hop:
    """One step on the path: whether it works, and what to do if not."""

    step: str
    state: str
    text: str
    code: str = ""
    remedy: str = ""
    detail: str = ""


class Judge:
    """Judges one step: the first failure counts, else the first warning.

    CODE is that of the step's usual problem; each note may have another.
    """

    def __init__(self, step: str, code: str) -> None:
        self.step = step
        self._code = code
        self._found: dict[str, Hop] = {}

    def fail(
        self, is_so: object, text: str, remedy: str = "", *, code: str = ""
    ) -> None:
        """Note that the step is broken, if IS_SO."""
        self._note(FAIL, is_so, text, remedy, code or self._code)

    def warn(
        self, is_so: object, text: str, remedy: str = "", *, code: str = ""
    ) -> None:
        """Note a problem that does not break the step, if IS_SO."""
        self._note(WARN, is_so, text, remedy, code or self._code)

    def _note(
        self, state: str, is_so: object, text: str, remedy: str, code: str
    ) -> None:
        if is_so and state not in self._found:
            remedy = remedy or KINDS[code].remedy
            self._found[state] = Hop(self.step, state, text, code, remedy)

    def ok(self, text: str) -> Hop:
        """Return the judgement; TEXT says how the step works if it does."""
        good = Hop(self.step, OK, text)
        return self._found.get(FAIL) or self._found.get(WARN) or good

    def unknown(self, seen: Unseen) -> Hop:
        """Return that the step could not be looked at."""
        return Hop(self.step, UNKNOWN, f"can't be seen: {seen.reason}")


def remove_ports(named: str) -> str:
    """Return the command that removes the ports NAMED; one takes one port."""
    return "ovs-vsctl " + " -- ".join(f"del-port {n}" for n in named.split())


def fault(row: Mapping[str, Any]) -> str:
    """Return why the interface of ROW does not work; "" if it does."""
    no_port = "it has no OpenFlow port" * (row["ofport"] < 1)
    return str(row["error"]) or no_port
