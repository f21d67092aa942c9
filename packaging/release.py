#!/usr/bin/python3
"""Tell a build its version, its date and its release notes.

The version is in setup.py and nowhere else; what changed is in CHANGELOG.md
and nowhere else. What a package or a release page says of either is printed
by this program, from these two.

The version in setup.py is that of the release which is being worked on:

- without a section of its own in CHANGELOG.md it is not released yet, and
  its notes are the section [Unreleased];
- with one ("## [1.2.0] - 2026-11-26") it is released, and [Unreleased] has
  to be empty: who goes on working raises the version first. Two builds of
  one version, different in what they do, are refused this way.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import datetime
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "ovn-metadata-agent"
MAINTAINER = (
    "ovn-metadata-agent maintainers <maintainers@ovn-metadata-agent.invalid>"
)
UNRELEASED = "Unreleased"
HEADING = re.compile(
    r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.M
)
# What X.Y.Z is for setuptools, dpkg, rpm and a tag alike.
VERSION = re.compile(r"\d+\.\d+\.\d+")
COLUMNS = 79
WHAT = (
    *("version", "epoch", "notes"),
    *("debian-changelog", "rpm-changelog", "rpm-spec"),
)
SPEC = "packaging/rpm/ovn-metadata-agent.spec.in"


class ReleaseError(Exception):
    """The version and the changelog do not fit together."""


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One release of the changelog."""

    version: str
    date: datetime.date | None  # None: not released yet
    body: str  # Markdown, without the heading


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """What is below one "### " of a section."""

    title: str  # "Added"
    entries: tuple[str, ...]  # each a paragraph on one line


def parse_version(setup: str) -> str:
    """Return the version that the text of setup.py gives to setup()."""
    for node in ast.walk(ast.parse(setup)):
        if isinstance(node, ast.keyword) and node.arg == "version":
            value = ast.literal_eval(node.value)
            if VERSION.fullmatch(str(value)):
                return str(value)
            raise ReleaseError(f"setup.py: version {value!r} is not X.Y.Z")
    raise ReleaseError("setup.py: no version")


def parse_changelog(text: str, version: str) -> tuple[Section, ...]:
    """Return the sections of CHANGELOG.md, the one of VERSION first.

    [Unreleased] is VERSION's while that has no section of its own.
    """
    found = _sections(text)
    (unreleased, *released) = found
    if unreleased.version != UNRELEASED:
        raise ReleaseError("CHANGELOG.md: [Unreleased] is not the first")
    for section in released:
        if section.date is None or not VERSION.fullmatch(section.version):
            raise ReleaseError(
                f"CHANGELOG.md: [{section.version}] is not"
                ' "## [X.Y.Z] - YYYY-MM-DD"'
            )
    names = [section.version for section in released]
    if version not in names:
        pending = dataclasses.replace(unreleased, version=version)
        return (pending, *released)
    if unreleased.body:
        raise ReleaseError(
            f"{version} is released (CHANGELOG.md) and [Unreleased] has"
            " entries: raise the version in setup.py"
        )
    if names[0] != version:
        raise ReleaseError(
            f"setup.py: version {version}, but CHANGELOG.md's newest is"
            f" {names[0]}"
        )
    return tuple(released)


def _sections(text: str) -> list[Section]:
    headings = list(HEADING.finditer(text))
    if not headings:
        raise ReleaseError("CHANGELOG.md: no section")
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return [
        Section(
            heading["name"],
            datetime.date.fromisoformat(heading["date"])
            if heading["date"]
            else None,
            text[heading.end() : end].strip(),
        )
        for heading, end in zip(headings, ends, strict=True)
    ]


def parse_groups(body: str) -> tuple[Group, ...]:
    """Return the groups of a section's BODY; text before the first too."""
    title, *rest = re.split(r"^### (.+)\n", f"### Notes\n{body}", flags=re.M)
    assert not title  # noqa: S101 # the text begins with a heading
    return tuple(
        Group(title, entries)
        for title, text in zip(rest[::2], rest[1::2], strict=True)
        if (entries := _entries(text))
    )


def _entries(text: str) -> tuple[str, ...]:
    items = re.split(r"^- |\n\s*\n", text, flags=re.M)
    return tuple(" ".join(item.split()) for item in items if item.strip())


def render_debian(
    sections: tuple[Section, ...], *, revision: str, pending: int
) -> str:
    """Return debian/changelog. PENDING: when what is unreleased was made."""
    return "\n".join(
        f"{NAME} ({section.version}-{revision}) "
        f"{'unstable' if section.date else 'UNRELEASED'}; urgency=medium\n"
        f"\n{_lines(section, first='  * ', below='    - ')}\n"
        f"\n -- {MAINTAINER}  "
        f"{_moment(section, pending):%a, %d %b %Y %H:%M:%S +0000}\n"
        for section in sections
    )


def render_rpm(
    sections: tuple[Section, ...], *, revision: str, pending: int
) -> str:
    """Return what a spec has below %changelog."""
    return "\n".join(
        f"* {_moment(section, pending):%a %b %d %Y} {MAINTAINER}"
        f" - {section.version}-{revision}\n"
        # rpm expands macros here too.
        + _lines(section, first="- ", below="  . ").replace("%", "%%")
        + "\n"
        for section in sections
    )


def _lines(section: Section, *, first: str, below: str) -> str:
    """Return SECTION's entries, each below its group's title."""
    lines = []
    for group in parse_groups(section.body):
        lines.append(f"{first}{group.title}:")
        for entry in group.entries:
            lines += textwrap.wrap(
                entry,
                COLUMNS,
                initial_indent=below,
                subsequent_indent=" " * len(below),
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines or [f"{first}No changes yet."])


def _moment(section: Section, pending: int) -> datetime.datetime:
    if section.date is None:
        return datetime.datetime.fromtimestamp(pending, datetime.UTC)
    return datetime.datetime.combine(
        section.date, datetime.time(), datetime.UTC
    )


def find_epoch(root: Path) -> int:
    """Return the seconds that a build is dated with.

    That is SOURCE_DATE_EPOCH, if set; else the last commit's date; else, in
    an unpacked source distribution, that of its files, which is the same. Not
    the day of release: what is built on that day would in part be older.
    """
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if (root / ".git").exists():
        return int(
            subprocess.run(
                # Wherever git is: a build's PATH is the builder's own.
                # Nor is there to be a word on its signature.
                (
                    *("git", "-C", str(root), "-c", "log.showSignature=false"),
                    *("log", "-1", "--format=%ct"),
                ),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        )
    return int((root / "CHANGELOG.md").stat().st_mtime)


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        choices=WHAT,
        help="epoch: seconds, for SOURCE_DATE_EPOCH; notes: Markdown",
    )
    parser.add_argument(
        "--revision", default="1", help="of the package, after the version"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="of the sources"
    )
    given = parser.parse_args()
    # The same bytes in every locale.
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    try:
        print(_answer(given.what, given.root, given.revision).rstrip("\n"))
    except ReleaseError as error:
        sys.exit(f"release.py: {error}")


def _answer(what: str, root: Path, revision: str) -> str:
    version = parse_version((root / "setup.py").read_text("utf-8"))
    sections = parse_changelog(
        (root / "CHANGELOG.md").read_text("utf-8"), version
    )
    if what == "version":
        return version
    if what == "notes":
        return sections[0].body
    pending = find_epoch(root)
    if what == "epoch":
        return str(pending)
    render = render_debian if what == "debian-changelog" else render_rpm
    changelog = render(sections, revision=revision, pending=pending)
    if what != "rpm-spec":
        return changelog
    return (
        (root / SPEC)
        .read_text("utf-8")
        .replace("@VERSION@", version)
        .replace("@CHANGELOG@", changelog)
    )


if __name__ == "__main__":
    main()
