"""Which lines are printed."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.commands import cleanup_report
from ovn_metadata.agent.commands.cleanup_report import Found

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"

GATEWAY = Found({"gateway": {"program", "files"}}, {})
NOTHING = Found({}, {})
UNSEEN = Found({}, {}, unseen=["x: y"])
FOLDER = Found({}, {"folder /a": str}, left=["z: its"])
BOTH = Found({NETWORK: {"port"}}, {"folder /a": str})


@pytest.mark.parametrize(
    ("found", "lines", "code"),
    [
        pytest.param(NOTHING, ["nothing to remove"], 0, id="nothing"),
        pytest.param(
            GATEWAY, ["would remove gateway: files, program"], 0, id="gateway"
        ),
        pytest.param(
            FOLDER,
            ["left alone: z: its", "would remove folder /a"],
            0,
            id="something is left",
        ),
        pytest.param(
            UNSEEN,
            ["not looked at: x: y", "nothing to remove"],
            2,
            id="a database does not answer",
        ),
    ],
)
def test_plan(found, lines, code):
    assert cleanup_report.plan(found) == (lines, code)


@pytest.mark.parametrize(
    ("before", "after", "lines", "code"),
    [
        pytest.param(NOTHING, NOTHING, ["nothing to remove"], 0, id="nothing"),
        pytest.param(
            BOTH,
            NOTHING,
            [f"removed network {NETWORK}: port", "removed folder /a"],
            0,
            id="all gone, whatever the last errors",
        ),
        pytest.param(
            BOTH,
            FOLDER,
            [
                "left alone: z: its",
                f"removed network {NETWORK}: port",
                "FAILED folder /a: no right",
            ],
            1,
            id="one stays",
        ),
        pytest.param(
            NOTHING,
            GATEWAY,
            ["FAILED gateway: files, program: it is still there, or again"],
            1,
            id="one came meanwhile",
        ),
        pytest.param(
            GATEWAY,
            UNSEEN,
            ["not looked at: x: y", "removed gateway: files, program"],
            2,
            id="a database does not answer",
        ),
    ],
)
def test_result(before, after, lines, code):
    errors = {"folder /a": "no right"}
    assert cleanup_report.result(before, after, errors) == (lines, code)
