"""Plain English: phrases that readers did not understand stay out.

A document, a man page or a comment with one of them fails here, with the
plain form. Many readers learn English as a second or third language.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Folders and files, from the root of the repository.
PLACES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "agent",
    "docs",
    "etc",
    "packaging",
    "privsep",
    "rootwrap",
    "tests/unit/agent",
)
KINDS = {".py", ".md", ".scd", ".svg", ".sample", ".conf", ".yml", ".yaml"}
KINDS |= {".service", ".socket", ".container", ".Debian", ".j2", ".in", ""}
KINDS |= {".filters"}
# A regular expression -> its plain form. A blank stands for any white space.
PLAIN = {
    r"who(ever)? asks": "a client; any client",
    r"whom asked|from whom": "name the instance, user or process",
    r"who it (is|was)": "which instance (user, process) it is",
    r"goes before": "takes precedence over",
    r"anew": "again; recreated",
    r"has come": "is there; listens; runs",
    r"own pace": "with back-off",
    r"(is|are|was|were|be|been) told(?! to\b)": "logged; reported",
    r"(said|says|say) so": "reported; logs it",
    r"news of": "whether it changed",
    r"serve[sd]? on(?=[.,;:]| (while|and|until|without))": "still serves",
    r"(before|old one|what runs|what ran) runs? on": "still runs",
    r"(file|folder|socket|daemon)s? of root's": "owned by root",
    r"(is|are|was|not) root's": "owned by root",
    r"nobody's": "belongs to no one; served to no one",
    r"but for(?! no\b)": "except",
    r"(is|are|was|were) away": "disconnected",
    r"(runs?|serves?|listens?|lives?) yet": "still",
    r"lacks? in": "is missing from",
    r"let go": "removed",
    r"unheard": "while disconnected",
    r"by lot": "in random order",
    r"(is|was|are) to be had|could not be had": "available",
    r", for (it|they|there|who|whoever|these|those) ": "because",
    r"in the stead of": "instead of",
    r"not to be (trusted|told)": "must not be trusted; does not answer",
}


def files() -> list[Path]:
    """Return the files to read."""
    places = [ROOT / place for place in PLACES]
    found = [file for path in places for file in (path, *path.rglob("*"))]
    return sorted(
        file for file in found if file.is_file() and file.suffix in KINDS
    )


def prose(text: str) -> str:
    """Return TEXT with comments' line breaks as single blanks."""
    return re.sub(r"\s+(?:#+ )?\s*", " ", text)


@pytest.mark.parametrize(
    "file", files(), ids=lambda file: str(file.relative_to(ROOT))
)
def test_phrases_have_their_plain_form(file: Path):
    text = prose(file.read_text())
    found = [
        f"{match[0]!r} is better {plain!r}: ...{text[max(0, at - 40) : at]}"
        for phrase, plain in PLAIN.items()
        for match in re.finditer(rf"\b(?:{phrase})", text, re.IGNORECASE)
        if (at := match.start()) >= 0
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "is_plain"),
    [
        ("It is told\n# so.", False),
        ("It is told to end.", True),
        ("The others serve on.", False),
        ("They serve on port 80.", True),
        ("root runs it, for there is no other", False),
    ],
)
def test_phrases_are_found_across_lines(line: str, is_plain: bool):
    assert is_plain != any(
        re.search(rf"\b(?:{phrase})", prose(line), re.IGNORECASE)
        for phrase in PLAIN
    )
