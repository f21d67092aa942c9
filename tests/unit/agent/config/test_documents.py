"""What is made of the options, and docs/reference/bad-input.md, is true."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from ovn_metadata.agent.errors import ConfigError

ROOT = Path(__file__).parents[4]
DOCUMENT = ROOT / "docs/reference/bad-input.md"
SPEC = importlib.util.spec_from_file_location(
    "option_pages", ROOT / "packaging/option_pages.py"
)
assert SPEC is not None
assert SPEC.loader is not None
PAGES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PAGES)


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of the document's tables, by the heading above."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("| "):
            cells = line.strip("|").split(" | ")
            plain = [cell.strip().strip("`") for cell in cells]
            found.setdefault(heading, []).append(plain)
    return {heading: rows[1:] for heading, rows in found.items()}


TABLES = tables()


@pytest.mark.parametrize(("path", "text"), PAGES.pages())
def test_page_is_not_stale(path, text):
    assert path.read_text() == text, "run `make options`"


def test_sample_is_what_the_agent_does_without_a_file(load):
    sample = PAGES.SAMPLE.read_text()
    everything = re.sub(r"(?m)^#(?=\w+ =)", "", sample)
    defaults = load("")
    for text in (sample, everything):
        read = load(text)
        assert dataclasses.replace(read, workers=None) == defaults
    assert max(map(len, sample.splitlines())) <= 79


@pytest.mark.parametrize(
    ("lines", "message"),
    TABLES["Options that must fit together"] + TABLES["Files"],
)
def test_lines_are_refused_as_documented(load, file, lines, message):
    with pytest.raises(ConfigError) as caught:
        load(lines.replace(r"\n", "\n") + "\n")
    assert str(caught.value) == message.replace("FILE", str(file))


@pytest.mark.parametrize(
    ("lines", "message"), TABLES["Accepted with a warning"]
)
def test_lines_are_warned_of_as_documented(load, file, lines, message):
    warnings = load(lines.replace(r"\n", "\n") + "\n").warnings
    assert message.replace("FILE", str(file)) in warnings


def test_example_of_a_refusal_is_true(load, file):
    (line,) = re.findall(
        r"(?m)^    ovn-metadata-agent: (.*)$", DOCUMENT.read_text()
    )
    with pytest.raises(ConfigError) as caught:
        load("[ovn]\novsdb_probe_interval = 60s\n")
    assert str(caught.value) == line.replace("FILE", str(file))
