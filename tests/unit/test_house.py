"""The house rules that no linter knows: short functions, few parameters.

What is an exception is listed here, with the reason. The lists only shrink.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_LINES = 45  # of a function, its decorators and docstring included
MOST_PARAMETERS = 6  # of a constructor, without self

_TEMPLATE = "a template: it reads from top to bottom as its file does"
_TABLE = "a table: a line for each option"
LONG = {
    "_head": _TEMPLATE,
    "build": _TABLE,
    "render_gateway": _TEMPLATE,
    "render_network": _TEMPLATE,
}
CROWDED: dict[str, str] = {}
# Lines of all modules below these folders.
BUDGETS = {("agent", "privsep"): 21_402, ("privsep",): 4_920}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*folders: str) -> list[Path]:
    """Return the modules below FOLDERS of the repository."""
    return [
        path
        for folder in folders
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    ]


@functools.cache
def functions() -> dict[str, Function]:
    """Return every function of the program, by a name to list it by."""
    found = {}
    for path in modules("agent", "privsep"):
        module = str(path.relative_to(REPOSITORY).with_suffix(""))
        for name, function in named(ast.parse(path.read_text()), ""):
            found[f"{module}:{name}"] = function
    return found


def named(tree: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """Yield the functions in TREE, those in classes and functions too."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.ClassDef | Function):
            name = f"{prefix}.{node.name}".lstrip(".")
        if isinstance(node, Function):
            yield name, node
        yield from named(node, name)


def line_count(function: Function) -> int:
    """Return the lines of FUNCTION, from its first decorator on."""
    first = min(node.lineno for node in (function, *function.decorator_list))
    assert function.end_lineno is not None
    return function.end_lineno - first + 1


def parameter_count(function: Function) -> int:
    """Return how many parameters FUNCTION has besides self."""
    given = function.args
    return len(given.posonlyargs + given.args + given.kwonlyargs) - 1


def test_no_function_is_longer_than_a_screen():
    long = [
        each
        for each, function in functions().items()
        if line_count(function) > MOST_LINES
    ]
    assert [each for each in long if each.partition(":")[2] not in LONG] == []


def test_no_constructor_takes_more_than_one_can_keep_in_mind():
    crowded = [
        each.removesuffix(".__init__")
        for each, function in functions().items()
        if each.endswith("__init__")
        and parameter_count(function) > MOST_PARAMETERS
    ]
    found = [each.partition(":")[2] for each in crowded]
    assert [name for name in found if name not in CROWDED] == []


@pytest.mark.parametrize("folders", BUDGETS, ids="+".join)
def test_what_one_has_to_read_has_a_limit(folders):
    """Lines of code, comments and docstrings together."""
    lines = sum(len(p.read_text().splitlines()) for p in modules(*folders))
    assert lines <= BUDGETS[folders]
