"""How Sphinx makes a site of docs/: `make docs`.

docs/README.md is its index: the navigation has the pages that it links, in
that order, below the same headings. A link to a file outside of docs/ becomes
a download; one to a folder, or to a document there, becomes its path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!https?:)([^)#\s]+)[^)\s]*\)")
_PAGE = re.compile(r"\]\(([\w/-]+)\.md[)#]")

project = "ovn-metadata-agent"
version = release = re.findall(
    r'version="([^"]+)"', (ROOT / "setup.py").read_text("utf-8")
)[0]
html_title = f"{project} {version}"
html_theme = "furo"
html_static_path = [str(ROOT / "packaging/site/style.css")]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
extensions = ["myst_parser"]
root_doc = "README"
# The anchors of headings are GitHub's, so a link works in both.
myst_heading_anchors = 4
highlight_language = "none"


def navigation(index: str) -> str:
    """Return the navigation for INDEX, the text of docs/README.md."""
    text = ""
    for section in re.split(r"(?m)^## ", index)[1:]:
        heading, _, rest = section.partition("\n")
        pages = dict.fromkeys(_PAGE.findall(rest))
        options = f":hidden:\n:caption: {heading}\n"
        text += f"\n```{{toctree}}\n{options}\n" + "\n".join(pages) + "\n```\n"
    return text


def without_links_outside(page: Path, text: str) -> str:
    """Return TEXT of PAGE with paths in place of links that have no page."""

    def replaced(link: re.Match[str]) -> str:
        target = (page.parent / link[2]).resolve()
        if target.is_relative_to(DOCS) or not target.is_relative_to(ROOT):
            return link[0]
        if not target.is_dir() and target.suffix != ".md":
            return link[0]
        path = target.relative_to(ROOT).as_posix()
        return (
            f"`{path}`" if path.endswith(link[1]) else f"{link[1]} (`{path}`)"
        )

    return _LINK.sub(replaced, text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.srcdir, f"{name}.md").resolve()
    source[0] = without_links_outside(page, source[0])
    if name == root_doc:
        source[0] += navigation(source[0])


def setup(app: Sphinx) -> None:
    """Let Sphinx read the documents as they are meant."""
    app.connect("source-read", _read)
