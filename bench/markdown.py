"""Results as Markdown: a section for each benchmark, its plots in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def read(folder: Path) -> list[Result]:
    """Return the results in FOLDER, by their names."""
    return [
        json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))
    ]


def plot_name(title: str) -> str:
    """Return the file of the plot TITLE."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"{words}.svg"


def render(results: list[Result], *, pictures: str = "") -> str:
    """Return RESULTS as text; plots are where PICTURES begins to say."""
    return "\n".join(
        [
            *_about(results),
            *(line for r in results for line in _of(r, pictures)),
        ]
    )


def _about(results: list[Result]) -> Iterator[str]:
    """Yield what was measured on what; once if all were on the same."""
    abouts: list[dict[str, str]] = []
    for result in results:
        if result["about"] not in abouts:
            abouts.append(result["about"])
    for about in abouts:
        names = [r["benchmark"] for r in results if r["about"] == about]
        yield f"Measured with, for {', '.join(names)}:\n"
        yield from (f"- {name}: {value}" for name, value in about.items())
        yield ""


def _of(result: Result, pictures: str) -> Iterator[str]:
    """Yield the section of RESULT."""
    quick = ", the quick form" if result["quick"] else ""
    yield f"### {result['benchmark']}{quick}\n"
    yield _row("", *result["columns"])
    yield "|---" * (1 + len(result["columns"])) + "|"
    for label, values in result["rows"].items():
        yield _row(label, *map(cell, values))
    yield ""
    for bound in result["bounds"]:
        word = "ok" if bound["met"] else "**MISSED**"
        yield (
            f"- {word}: {bound['what']}: {bound['value']:.3g} "
            f"(bound {bound['relation']} {bound['limit']:g})"
        )
    yield ""
    for plot in result["plots"]:
        name = plot_name(plot["title"])
        yield f"![{plot['title']}]({pictures}{name})\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def cell(value: float | str) -> str:
    """Return VALUE with three digits; a text as it is."""
    if isinstance(value, str):
        return value
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"
