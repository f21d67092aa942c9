"""Which interface is taken for a port's, of several with its iface-id."""

from __future__ import annotations

from typing import Any

import pytest

from ovn_metadata.agent.ovsdb import connect
from ovn_metadata.agent.why import rows


def interface(
    name: str, ofport: int | list[Any], **ids: str
) -> dict[str, Any]:
    """Return a row of Interface as the server sends it."""
    pairs = [["iface-id", "port"], *map(list, ids.items())]
    column = ["map", [[key.replace("_", "-"), value] for key, value in pairs]]
    unset: list[Any] = ["set", []]
    return {
        "name": name,
        "ofport": ofport if ofport else unset,
        "error": unset,
        "external_ids": column,
    }


NOVAS = {"attached_mac": "fa:16:3e:00:00:01"}
MARKED = {"ovn_installed": "true"}


@pytest.mark.parametrize(
    ("one", "other", "right"),
    [
        pytest.param(
            interface("qvo1", -1, **NOVAS),
            interface("tap1", 5, **NOVAS, **MARKED),
            "tap1",
            id="one is left of another way to plug",
        ),
        pytest.param(
            interface("qvo1", 4, **NOVAS),
            interface("tap1", 5, **NOVAS, **MARKED),
            "tap1",
            id="and still has its device",
        ),
        pytest.param(
            interface("old0", 4, **MARKED),
            interface("tap1", 5, **NOVAS),
            "tap1",
            id="OVN took the one that Nova has not plugged",
        ),
        pytest.param(
            interface("tap1", 0, **NOVAS),
            interface("tap2", 0, **NOVAS),
            "tap1",
            id="no difference",
        ),
    ],
)
def test_the_one_that_works_is_the_ports(monkeypatch, one, other, right):
    """The advice is to remove the others."""
    for answer in ([one, other], [other, one]):
        monkeypatch.setattr(
            connect, "ask_first", lambda *_, a=answer: [{"rows": a}]
        )
        found = rows.interfaces("unix:ovs")["port"]
        assert found["name"] == right
        assert found["rivals"] == [*{one["name"], other["name"]} - {right}]


def test_an_instances_port_has_no_type_in_any_schema(monkeypatch):
    """A schema whose type may be empty has a set in place of a value."""
    port = {
        "logical_port": "port",
        "type": ["set", []],
        "mac": "fa:16:3e:00:00:01",
        "chassis": ["set", []],
    }
    answers = [{"rows": [port]}, *[{"rows": []}] * 9]
    monkeypatch.setattr(
        connect,
        "ask_first",
        lambda *parameters: answers[: len(parameters[2]) - 1],
    )
    found = rows.elsewhere("tcp:southbound", "port")
    assert [each["type"] for each in found["ports"]] == [""]
