"""Which parts of the agent have to make progress, and which do not."""

from collections.abc import Callable


class Progress:
    """When each part made progress; safe for any number of threads.

    A part is late if it has made none for longer than it may take.
    """

    def __init__(self) -> None:
        # Part -> for how long it may make no progress, and a function that
        # returns for how long it has made none.
        self._parts: dict[str, tuple[float, Callable[[], float]]] = {}

    def expect(
        self, part: str, most_s: float, age_s: Callable[[], float]
    ) -> None:
        """Expect progress of PART every MOST_S; AGE_S tells its last."""
        self._parts[part] = most_s, age_s

    def ages(self) -> dict[str, float]:
        """Return part -> seconds since its last progress."""
        known = self._parts.copy()  # other threads add some
        return {part: age() for part, (_, age) in known.items()}

    def late(self) -> dict[str, float]:
        """Return the same for the parts that take longer than they may."""
        ages = self.ages()
        return {p: s for p, s in ages.items() if s > self._parts[p][0]}
