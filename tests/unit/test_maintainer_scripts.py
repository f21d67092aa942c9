"""Python in Debian's maintainer scripts names what is there."""

import importlib
import re
from pathlib import Path

import pytest

DEBIAN = Path(__file__).parents[2] / "packaging" / "debian"
IMPORT = re.compile(r"^from (ovn_metadata[\w.]*) import (\w+)$", re.MULTILINE)
FOUND = [
    (script.name, text, *match.groups())
    for script in sorted(DEBIAN.iterdir())
    if script.is_file()
    for text in [script.read_text()]
    for match in IMPORT.finditer(text)
]


def test_there_are_some():
    assert FOUND


@pytest.mark.parametrize(
    ("text", "package", "name"),
    [found[1:] for found in FOUND],
    ids=[found[0] for found in FOUND],
)
def test_what_a_script_calls_is_there(text, package, name):
    module = importlib.import_module(f"{package}.{name}")
    for called in re.findall(rf"^{name}\.(\w+)\(", text, re.MULTILINE):
        assert callable(getattr(module, called))
