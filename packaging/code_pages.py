"""Write what the documents say of codes: the table and each section's head.

Both are made of agent/core/codes.py; what follows a head is written by hand.
`make options` runs this; a unit test fails while a file is stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ovn_metadata.agent.core.codes import DOCS, KINDS, Kind

ROOT = Path(__file__).parents[1]
SECTIONS = ROOT / DOCS
TABLE = ROOT / "docs/reference/codes.md"
_SECTION = re.compile(r"(?m)^### (OVNMD-\d{3})\n\n((?:>.*\n)*)\n*")

_TABLE_HEAD = """\
# Codes

Written by `make options` from `agent/core/codes.py`; do not edit. Each code
leads to its section in [troubleshoot](../how-to/troubleshoot.md#codes).

An *error* cuts the service: some instance gets no metadata, or the wrong one,
because of it. A *warning* does not. A problem is shown once it is as old as
"after" says, and not while one of the problems "behind" it is shown for the
same network, or for the host.

| code | what | severity | after | behind |
|---|---|---|---|---|
"""


def render_table() -> str:
    """Return the text of the reference."""
    return _TABLE_HEAD + "".join(_row(kind) for kind in KINDS.values())


def _row(kind: Kind) -> str:
    link = f"../how-to/troubleshoot.md#{kind.code.lower()}"
    behind = ", ".join(kind.behind) or " "
    return (
        f"| [{kind.code}]({link}) | {kind.title} | {kind.severity} | "
        f"{_after(kind) or 'at once'} | {behind} |\n"
    ).replace("|   |", "| |")


def _after(kind: Kind) -> str:
    return f"{kind.visible_after_s:g} s" if kind.visible_after_s else ""


def head(kind: Kind) -> str:
    """Return the quoted lines at the beginning of KIND's section."""
    after = f", shown after {_after(kind)}" if kind.visible_after_s else ""
    lines = [
        f"> **{kind.title}** ({kind.severity}{after})",
        ">",
        f"> Remedy: {kind.remedy}.",
    ]
    if kind.behind:
        causes = ", ".join(
            f"[{code}](#{code.lower()})" for code in kind.behind
        )
        lines += [">", f"> May be a consequence of {causes}."]
    return "\n".join(lines) + "\n"


def codes(text: str) -> list[str]:
    """Return the codes that have a section in TEXT, in order."""
    return [match[1] for match in _SECTION.finditer(text)]


def with_heads(text: str) -> str:
    """Return TEXT with the head of each section as the program has it."""

    def section(match: re.Match[str]) -> str:
        quoted = head(KINDS[match[1]]) if match[1] in KINDS else ""
        return f"### {match[1]}\n\n{quoted}\n"

    return _SECTION.sub(section, text)


def pages() -> Iterable[tuple[Path, str]]:
    """Return the files, each with its text."""
    text = SECTIONS.read_text("utf-8")
    return (TABLE, render_table()), (SECTIONS, with_heads(text))


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, "utf-8")
