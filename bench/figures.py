"""Put the results in a folder into the documentation: `make figures`.

The page's part between two comments is written anew, and the plots are copied
beside the other pictures.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from . import markdown

_DOCS = Path(__file__).parents[1] / "docs"
PAGE = _DOCS / "explanation/performance.md"
_PICTURES = _DOCS / "pictures"
_BEGIN = "<!-- Written by `make figures`: -->\n"
_END = "<!-- so far. -->\n"


def main() -> None:
    """Do it for the folder that the command line names."""
    folder = Path(sys.argv[1])
    results = markdown.read(folder)
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    figures = markdown.render(results, pictures="../pictures/bench-")
    PAGE.write_text(f"{before}{_BEGIN}\n{figures}\n{_END}{after}")
    for result in results:
        for plot in result["plots"]:
            name = markdown.plot_name(plot["title"])
            shutil.copy(folder / name, _PICTURES / f"bench-{name}")


if __name__ == "__main__":
    main()
