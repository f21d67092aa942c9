"""docs/reference/bad-input.md is true: each value has its words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.option_table import OPTIONS
from ovn_metadata.agent.config.settings import Settings
from ovn_metadata.agent.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs/reference/bad-input.md"
MAX_SHOWN = 80
LONG = re.compile(r"(.+)\.\.\. \((\d+) characters\)")


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of the document's tables, by the heading above."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("| "):
            found.setdefault(heading, []).append(
                [_plain(cell) for cell in line.strip("|").split(" | ")]
            )
    return {heading: rows[1:] for heading, rows in found.items()}


def _plain(cell: str) -> str:
    """Return what CELL stands for in a configuration file."""
    text = cell.strip().strip("`").replace(r"\n", "\n")
    if long := LONG.fullmatch(text):
        text = long[1].ljust(int(long[2]), long[1][-1])
    return text


TABLES = tables()
VALUES = [
    (heading.strip("[]"), *row)
    for heading, rows in TABLES.items()
    if heading.startswith("[")
    for row in rows
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "x.ini"


def load(file: Path, text: str) -> Settings:
    """Load TEXT alone, as the file."""
    file.write_text(text + "\n")
    (file.parent / "empty").mkdir()
    named = ["--config-file", str(file)]
    argv = [*named, "--config-dir", str(file.parent / "empty")]
    return options.load(argv, "ovn-metadata-agent")[1]


def refusal(file: Path, text: str) -> str:
    """Return the words that TEXT is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    return str(caught.value)


def shown(value: str) -> str:
    """Return VALUE as a message has it."""
    text = "\n".join(line.strip() for line in value.splitlines())
    if len(text) > MAX_SHOWN:
        text = text[:MAX_SHOWN] + "..."
    return json.dumps(text)


@pytest.mark.parametrize(("section", "option", "value", "why"), VALUES)
def test_value_is_refused_as_documented(file, section, option, value, why):
    said = refusal(file, f"[{section}]\n{option} = {value}")
    is_secret = option == "metadata_proxy_shared_secret"
    what = option if is_secret else f"{option} = {shown(value)}"
    assert said == f"{file}: [{section}] {what}: {why}"


@pytest.mark.parametrize(
    ("lines", "message"),
    TABLES["Options that must fit together"] + TABLES["Files"],
)
def test_lines_are_refused_as_documented(file, lines, message):
    assert refusal(file, lines) == message.replace("FILE", str(file))


@pytest.mark.parametrize(
    ("lines", "message"), TABLES["Accepted with a warning"]
)
def test_lines_are_warned_of_as_documented(file, lines, message):
    warnings = load(file, lines).warnings
    assert message.replace("FILE", str(file)) in warnings


def test_example_at_the_top_is_a_row_of_a_table():
    (line,) = re.findall(
        r"(?m)^    ovn-metadata-agent: (.*)$", DOCUMENT.read_text()
    )
    rows = {
        f"FILE: [{section}] {option} = {shown(value)}: {why}"
        for section, option, value, why in VALUES
    }
    assert line in rows


def test_every_option_is_in_the_document():
    documented = {(section, option) for section, option, _, _ in VALUES}
    assert documented >= {
        (group, option.dest)
        for group, group_options in OPTIONS.items()
        for option in group_options
    }
