"""SPECIFICATION.md: few promises, and each is kept by something that runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SPECIFICATION.md").read_text()
PROMISES = [
    line.strip("| ").split(" | ")
    for line in PAGE.splitlines()
    if re.match(r"\| \d+ \|", line)
]
MOST = 14


def functions(file: Path) -> dict[str, ast.FunctionDef]:
    """Return the functions of FILE by their names."""
    tree = ast.parse(file.read_text())
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


TESTS = {
    name: node
    for file in (ROOT / "tests/functional").glob("test_*.py")
    for name, node in functions(file).items()
}


def test_are_few_and_numbered():
    numbers = [int(number) for number, *_ in PROMISES]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert len(numbers) <= MOST


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p[1])
def test_has_a_figure_and_what_fails_without_it(promise: list[str]):
    _, _, figure, kept_by = promise
    assert re.search(r"\d", figure)
    names = re.findall(r"`([^`]+)`", kept_by)
    assert names
    for name in names:
        if name.startswith("bench/"):
            assert ".bound(" in (ROOT / name).read_text(), name
        else:
            asserts = [*ast.walk(TESTS[name])]
            assert any(isinstance(n, ast.Assert) for n in asserts), name


def test_readme_links_to_it_first():
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"\]\(([^)]+\.md)", text)[0] == "SPECIFICATION.md"
