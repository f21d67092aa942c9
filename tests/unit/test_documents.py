"""The documents: every link leads to a file and a heading that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (ROOT, ROOT / "docs", ROOT / "packaging")
    for page in (
        folder.glob("*.md") if folder == ROOT else folder.rglob("*.md")
    )
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of PAGE's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.*)$", page.read_text())
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for link in _LINK.findall(page.read_text()):
        if link.startswith(("http:", "https:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_index_has_every_page():
    index = ROOT / "docs/README.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for link in _LINK.findall(index.read_text())
    }
    assert linked >= {*(ROOT / "docs").rglob("*.md")} - {index}


def test_tests_that_are_named_exist():
    names = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in (
            file.stem,
            *re.findall(r"(?m)^def (test_\w+)", file.read_text()),
        )
    }
    for page in PAGES:
        named = re.findall(r"\b(test_\w+)", page.read_text())
        assert {*named} <= names, page
