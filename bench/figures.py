"""Put the results in a folder into the documentation: `make figures`.

The page's part between two comments is written anew, but for benchmarks that
the folder lacks; the plots are copied beside the other pictures.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from . import markdown

_DOCS = Path(__file__).parents[1] / "docs"
PAGE = _DOCS / "explanation/performance.md"
_PICTURES = _DOCS / "pictures"
_BEGIN = "<!-- Written by `make figures`: -->\n"
_END = "<!-- so far. -->\n"
_FOR = re.compile(r"Measured with, for (.+):\n")


def main() -> None:
    """Do it for the folder that the command line names."""
    folder = Path(sys.argv[1])
    results = markdown.read(folder)
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    old, _, after = rest.partition(_END)
    new = markdown.render(results, pictures="../pictures/bench-")
    figures = merged(old.strip("\n") + "\n", new)
    PAGE.write_text(f"{before}{_BEGIN}\n{figures}\n{_END}{after}")
    for result in results:
        for plot in result["plots"]:
            name = markdown.plot_name(plot["title"])
            shutil.copy(folder / name, _PICTURES / f"bench-{name}")


def merged(old: str, new: str) -> str:
    """Return NEW with those benchmarks of OLD that it lacks."""
    (was, sections), (now, fresh) = map(_split, (old, new))
    heads = []
    for head in re.split(r"(?=^Measured with)", was, flags=re.M):
        if found := _FOR.match(head):
            left = [n for n in found[1].split(", ") if n not in fresh]
            if left:
                line = f"Measured with, for {', '.join(left)}:\n"
                heads.append(_FOR.sub(line, head).rstrip("\n"))
    heads.append(now.rstrip("\n"))
    sections |= fresh
    bodies = [f"### {sections[key]}".rstrip("\n") for key in sorted(sections)]
    return "\n\n".join([*heads, *bodies]) + "\n"


def _split(part: str) -> tuple[str, dict[str, str]]:
    """Return what comes first in PART, and the rest by benchmark."""
    first, *rest = re.split(r"^### ", part, flags=re.M)
    return first, {re.split("[,\n]", each)[0]: each for each in rest}


if __name__ == "__main__":
    main()
