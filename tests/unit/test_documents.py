"""The documents: every link leads somewhere, every code has its section."""

from __future__ import annotations

import importlib.util
import re
import urllib.parse
from pathlib import Path

import pytest

from ovn_metadata.agent.core.codes import KINDS
from sandbox import documented

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (ROOT, ROOT / "docs", ROOT / "packaging")
    for page in (
        folder.glob("*.md") if folder == ROOT else folder.rglob("*.md")
    )
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
SPEC = importlib.util.spec_from_file_location(
    "code_pages", ROOT / "packaging/code_pages.py"
)
assert SPEC is not None
assert SPEC.loader is not None
CODE_PAGES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CODE_PAGES)


def anchors(page: Path) -> set[str]:
    """Return the anchors of PAGE's headings, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.*)$", text)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_the_world_have_the_form_of_one(page: Path):
    """Nothing here connects to them."""
    for link in _LINK.findall(page.read_text()):
        if ":" in link:
            parts = urllib.parse.urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"([\w-]+\.)+[a-z]+", parts.netloc), link
            assert not link.endswith((".", ",")), link


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


@pytest.mark.parametrize(("path", "text"), CODE_PAGES.pages())
def test_what_is_made_of_the_codes_is_not_stale(path: Path, text: str):
    assert path.read_text() == text, "run `make options`"


def test_each_code_has_a_section_and_each_section_a_code():
    """In the same order: a reader finds the neighbours of a code."""
    assert CODE_PAGES.codes(CODE_PAGES.SECTIONS.read_text()) == [*KINDS]


@pytest.mark.parametrize("code", KINDS)
def test_section_says_what_it_does_to_whom(code: str):
    """Titles and remedies are the program's; these are written by hand."""
    text = CODE_PAGES.SECTIONS.read_text().partition(f"### {code}\n")[2]
    section = text.partition("\n### ")[0]
    assert KINDS[code].link.endswith(f"#{code.lower()}")
    for word in ("**Instances:**", "**Found by:**", "**Do:**"):
        assert section.count(word) == 1, word


@pytest.mark.parametrize("folder", ["agent", "privsep", "docs", "packaging"])
def test_codes_that_are_named_exist(folder: str):
    for file in (ROOT / folder).rglob("*"):
        if file.suffix in {".py", ".md", ".scd", ".yml", ".yaml", ".json"}:
            named = re.findall(r"OVNMD-\d+", file.read_text())
            assert {*named} <= {*KINDS}, file


def test_commands_are_in_blocks_of_shell():
    """Where a test finds and runs them: test_documented.py."""
    programs = {each.text.split()[0] for each in documented.commands()}
    assert {"agent-status", "curl", "ovs-vsctl"} <= programs
    for page in documented.pages():
        for line in documented.other_blocks(page):
            first = f"{line} ".partition(" ")[0]
            if " [--" in line:
                continue  # a synopsis
            assert first not in programs, f"{page}: {line}: use ```sh"


def test_commands_that_are_not_run_are_listed_for_a_reason():
    texts = [f"{each.text}\n" for each in documented.commands()]
    for start, reason in documented.NOT_RUN.items():
        assert reason
        assert any(text.startswith(start) for text in texts), start
    assert sum(not each.why_not for each in documented.commands()) >= 58


def test_picture_has_each_code_at_its_step():
    picture = (ROOT / "docs/pictures/where-it-breaks.svg").read_text()
    shown = []
    for text in re.findall(r'class="code"[^>]*>([^<]+)<', picture):
        first, _, last = text.partition(" to ")
        codes = range(int(first), int(last) + 1) if last else text.split()
        shown += [f"OVNMD-{code}" for code in codes]
    assert sorted(shown) == [*KINDS]
