"""What a benchmark says: a table, one JSON line, an exit code.

In the folder that RESULTS names it leaves the JSON as a file, from which
`bench.markdown` and `bench.plots` make the rest.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .about import about
from .markdown import cell

RESULTS = "BENCH_RESULTS"  # in the environment: the folder
QUICK = "QUICK"  # in the environment: "1" for less of everything
Number = TypeVar("Number")
Points = Sequence[Sequence[float]]  # x, y
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge}


def sized(full: Number, quick: Number) -> Number:
    """Return FULL, or QUICK where there is little time."""
    return quick if os.environ.get(QUICK) else full


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A number and what the issue asks of it."""

    what: str
    value: float
    relation: str  # "<", "<=" or ">="
    limit: float

    @property
    def met(self) -> bool:
        """Whether the number is as asked."""
        return bool(_COMPARE[self.relation](self.value, self.limit))

    def __str__(self) -> str:
        """Return it as a line for people."""
        word = "ok    " if self.met else "MISSED"
        return (
            f"{word} {self.what}: {self.value:.3g} "
            f"(bound {self.relation} {self.limit:g})"
        )


@dataclasses.dataclass(slots=True)
class Report:
    """The results of the benchmark NAME, as they come."""

    name: str
    columns: Sequence[str]
    rows: list[tuple[str, list[float | str]]] = dataclasses.field(
        default_factory=list
    )
    bounds: list[Bound] = dataclasses.field(default_factory=list)
    plots: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def row(self, label: str, *values: float | str) -> None:
        """Add a line to the table; "" for what was not measured."""
        self.rows.append((label, list(values)))

    def bound(
        self, what: str, value: float, relation: str, limit: float
    ) -> None:
        """Add a bound of the issue."""
        self.bounds.append(Bound(what, value, relation, limit))

    def plot(
        self,
        title: str,
        series: Mapping[str, Points],
        *,
        axes: tuple[str, str],
        log: str = "",
    ) -> None:
        """Add a picture of SERIES, a line each, over AXES (x and y).

        LOG names the axes that are logarithmic: "x", "y" or "xy".
        """
        names = dict(zip("xy", axes, strict=True))
        given = {name: list(points) for name, points in series.items()}
        self.plots.append(
            {"title": title, **names, "log": log, "series": given}
        )

    def text(self) -> str:
        """Return the table and the bounds."""
        cells = [["", *self.columns]]
        for label, values in self.rows:
            cells.append([label, *(cell(value) for value in values)])
        widths = [
            max(len(line[i]) for line in cells) for i in range(len(cells[0]))
        ]
        lines = [f"== {self.name}"]
        for first, *rest in cells:
            columns = [
                cell.rjust(width)
                for cell, width in zip(rest, widths[1:], strict=True)
            ]
            lines.append("  ".join([first.ljust(widths[0]), *columns]))
        lines += [str(bound) for bound in self.bounds]
        return "\n".join(line.rstrip() for line in lines)

    def json(self) -> str:
        """Return all of it as one line."""
        return json.dumps(
            {
                "benchmark": self.name,
                "columns": list(self.columns),
                "rows": dict(self.rows),
                "bounds": [
                    {**dataclasses.asdict(bound), "met": bound.met}
                    for bound in self.bounds
                ],
                "met": all(bound.met for bound in self.bounds),
                "plots": self.plots,
                "quick": bool(os.environ.get(QUICK)),
                "about": about(),
            }
        )

    def finish(self) -> int:
        """Print and keep it; return the exit code, 1 for a missed bound."""
        text = self.json()
        print(self.text())
        print(text, flush=True)
        if folder := os.environ.get(RESULTS):
            Path(folder, f"{self.name}.json").write_text(f"{text}\n")
        return 0 if all(bound.met for bound in self.bounds) else 1


def progress(text: str) -> None:
    """Tell whoever watches what is going on."""
    print(f"# {text}", file=sys.stderr, flush=True)
