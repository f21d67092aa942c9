"""The sysctls of a namespace: operators find each one in the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovn_metadata.privsep.namespace import sysctls

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "files.md"
SET = [
    *(
        f"net.ipv4.conf.*.{name} = {value}"
        for name, value in sysctls.IPV4.items()
    ),
    *(
        f"net.ipv6.conf.*.{name} = {value}"
        for name, value in sysctls.IPV6.items()
    ),
    *(f"{p.replace('/', '.')} = {v}" for p, v in sysctls.NAMESPACE.items()),
]


@pytest.mark.parametrize("setting", SET)
def test_each_has_its_reason_in_the_reference(setting: str):
    assert f"\n| `{setting}` | " in PAGE.read_text()
