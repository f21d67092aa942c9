"""A hop on the path, and the judgement of it."""

import dataclasses

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
    """Judges one step: the first failure counts, else the first warning."""

    def __init__(self, step: str) -> None:
        self.step = step
        self._found: dict[str, Hop] = {}

    def fail(
        self, is_so: object, code: str, text: str, remedy: str = ""
    ) -> None:
        """Note that the step is broken, if IS_SO."""
        self._note(FAIL, is_so, code, text, remedy)

    def warn(
        self, is_so: object, code: str, text: str, remedy: str = ""
    ) -> None:
        """Note a problem that does not break the step, if IS_SO."""
        self._note(WARN, is_so, code, text, remedy)

    def _note(
        self, state: str, is_so: object, code: str, text: str, remedy: str
    ) -> None:
        if is_so and state not in self._found:
            remedy = remedy or KINDS[code].remedy
            self._found[state] = Hop(self.step, state, text, code, remedy)

    def ok(self, text: str) -> Hop:
        """Return the judgement; TEXT says how the step works if it does."""
        good = Hop(self.step, OK, text)
        return self._found.get(FAIL) or self._found.get(WARN) or good

    def unknown(self, what: str, seen: Unseen) -> Hop:
        """Return that WHAT could not be looked at."""
        text = f"{what} can't be seen: {seen.reason}"
        return Hop(self.step, UNKNOWN, text)


def remove_ports(named: str) -> str:
    """Return the command that removes the ports NAMED; one takes one port."""
    return "ovs-vsctl " + " -- ".join(f"del-port {n}" for n in named.split())
