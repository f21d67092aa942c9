"""What the gateway says of its requests to Nova, as numbers."""

from __future__ import annotations

import pytest

from ovn_metadata.agent.haproxy.nova_answers import NovaAnswers, parse

COLUMNS = (
    *("pxname", "svname", "econ", "eresp", "status"),
    *(f"hrsp_{kind}xx" for kind in "12345"),
)
HEAD = f"# {','.join(COLUMNS)}"
VALUE = "proc.nova_refused: type=sint value=<{}>"


def row(name: str, **numbers: object) -> str:
    values = {"pxname": name, "svname": "BACKEND", "status": "UP", **numbers}
    return ",".join(str(values.get(column, 0)) for column in COLUMNS)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], NovaAnswers(), id="nothing"),
        pytest.param(
            [HEAD, row("nova", econ=1, eresp=2, hrsp_2xx=10, hrsp_5xx=9)],
            NovaAnswers(told=10, failed=3),
            id="5xx are no answer, and not counted twice",
        ),
        pytest.param(
            [
                *(HEAD, row("nova", hrsp_2xx=1, hrsp_4xx=5), ""),
                *(HEAD, row("nova-alone", hrsp_4xx=2, econ=4)),
                *("", VALUE.format(3)),
            ],
            NovaAnswers(told=8, failed=4, refused=3),
            id="both backends, and 403 among them",
        ),
        pytest.param(
            [HEAD, row("nova", status="DOWN")],
            NovaAnswers(is_down=True),
            id="no server is up",
        ),
        pytest.param(
            [HEAD, row("nova", econ="", hrsp_2xx="x"), "nova,BACKEND", "a\0b"],
            NovaAnswers(),
            id="nonsense",
        ),
        pytest.param(
            [HEAD, row("nova", econ="9" * 5000, eresp=1)],
            NovaAnswers(failed=1),
            id="more digits than an integer may have",
        ),
        pytest.param(
            [row("nova", econ=1)], NovaAnswers(), id="columns without names"
        ),
        pytest.param(
            [HEAD, row("lane", econ=1), VALUE.format("-1")],
            NovaAnswers(),
            id="what is not asked for",
        ),
    ],
)
def test_numbers_are_read(lines, expected):
    assert parse("\n".join(lines) + "\n") == expected
