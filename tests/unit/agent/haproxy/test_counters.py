"""What haproxy 2.6 answers about its counters, and what anything else may."""

from __future__ import annotations

import json

import pytest

from ovn_metadata.agent.haproxy import asks, counters
from ovn_metadata.agent.haproxy.counters import (
    CALM_S,
    Counted,
    Endpoint,
    NovaCounted,
    Sums,
)
from ovn_metadata.agent.metrics.meter import Meter

STAT = "# pxname,svname,qcur,ereq,econ"
TABLE = f"""\
# table: sources, type: string, size:10240, used:2
0x564bed50d7d8: key=de60d107-5179-47fd-94e1-9abbb1cf6ccf use=32 exp=59997 \
conn_cur=32 http_req_rate(10000)=1308 gpt0=1 \
gpc0=692151 gpc1=13975 gpc2=7 gpc3=44 gpc10=8
0x564bed5176e8: key=- use=0 exp=59482 gpc0=0 conn_cur=0 \
http_req_rate(10000)=49 gpc0_rate(1000)=0 gpc1=1

{STAT}
metadata,FRONTEND,,17,
"""
NOVA_COLUMNS = (
    *("pxname", "svname", "econ", "eresp", "status"),
    *(f"hrsp_{kind}xx" for kind in "12345"),
)
CHECKS = ("addr", "check_status", "check_duration", "last_chk")
HEAD = f"# {','.join([*NOVA_COLUMNS, *CHECKS])}"
VALUE = "proc.nova_refused: type=sint value=<{}>"


def nova(name: str, **numbers: object) -> str:
    values = {"pxname": name, "svname": "BACKEND", "status": "UP", **numbers}
    cells = [str(values.get(column, 0)) for column in NOVA_COLUMNS]
    return ",".join([*cells, *(str(values.get(name, "")) for name in CHECKS)])


def test_tables_and_errors_are_read():
    assert counters.parse(TABLE) == Counted(
        17,
        {
            "de60d107-5179-47fd-94e1-9abbb1cf6ccf": (692151, 13975, 7),
            "-": (0, 1, 0),
        },
    )


def test_the_limit_of_connections_is_read():
    answer = "# pxname,svname,slim,ereq\nmetadata,FRONTEND,497,3\n"
    assert counters.parse(answer) == Counted(3, connections=497)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "No such table\n",
        "metadata,FRONTEND,,17,",
        f"{STAT}\nmetadata,FRONTEND,,",
        f"{STAT}\nmetadata,FRONTEND,,{'9' * 5000},",
        "0x1: key=\x1b[2J use=1 gpc0=1",
        "0x1: key=a",
    ],
)
def test_what_is_not_understood_counts_as_nothing(answer):
    assert counters.parse(answer) == Counted()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], NovaCounted(), id="nothing"),
        pytest.param(
            [HEAD, nova("nova", econ=1, eresp=2, hrsp_2xx=10, hrsp_5xx=9)],
            NovaCounted(answered=10, good=10, unconnected=1, failed=2),
            id="5xx are no answer, and not counted twice",
        ),
        pytest.param(
            [
                *(HEAD, nova("nova", hrsp_2xx=1, hrsp_4xx=5), ""),
                *(HEAD, nova("nova-alone", hrsp_4xx=2, econ=4)),
                *("", VALUE.format(3)),
            ],
            NovaCounted(answered=8, good=1, unconnected=4, refused=3),
            id="both backends, and 403 among them",
        ),
        pytest.param(
            [
                HEAD,
                nova("nova", svname="nova0", addr="[fd00::1]:8775"),
                nova(
                    "nova",
                    svname="nova1",
                    addr="192.0.2.1:8775",
                    status="DOWN 1/2",
                    check_status="L4CON",
                    check_duration="7",
                    last_chk="Connection\x1b refused",
                    hrsp_5xx="3",
                ),
                nova("nova-alone", svname="nova0", hrsp_5xx="1"),
            ],
            NovaCounted(
                errors=4,
                endpoints=(
                    Endpoint("192.0.2.1:8775", True, "Connection refused", 7),
                    Endpoint("[fd00::1]:8775"),
                ),
            ),
            id="servers",
        ),
        pytest.param(
            [HEAD, nova("nova", status="DOWN")],
            NovaCounted(is_down=True),
            id="no server is up",
        ),
        pytest.param(
            [HEAD, nova("nova", econ="", hrsp_2xx="x"), "nova,BACKEND", "\0"],
            NovaCounted(),
            id="nonsense",
        ),
        pytest.param(
            [HEAD, nova("nova", econ="9" * 5000, eresp=1)],
            NovaCounted(failed=1),
            id="more digits than an integer may have",
        ),
        pytest.param(
            [nova("nova", econ=1)], NovaCounted(), id="columns without names"
        ),
        pytest.param(
            [HEAD, nova("lane", econ=1), VALUE.format("-1")],
            NovaCounted(),
            id="what was not in the command",
        ),
    ],
)
def test_answers_of_nova_are_read(lines, expected):
    assert counters.parse_nova("\n".join(lines) + "\n") == expected


def test_an_address_that_is_listed_twice_is_one():
    """A single address of Nova's is: haproxy then tries it again at once."""
    columns = "# pxname,svname,status,addr,rtime"
    rows = [f"nova,nova{n},no check,192.0.2.1:8775,{n * 7}" for n in (1, 0)]
    found = counters.parse_nova("\n".join([columns, *rows]) + "\n").endpoints
    assert [(each.address, each.response_ms) for each in found] == [
        ("192.0.2.1:8775", 7)
    ]


def test_sums_go_on_when_haproxy_starts_again():
    sums = Sums()
    for counted in (
        Counted(3, {"a": (5, 1, 3)}),
        Counted(4, {"a": (7, 1, 5), "b": (1, 0, 0)}),
        Counted(1, {"a": (2, 2, 1)}),  # it has restarted
        # Another process does not continue where that one was.
        Counted(3, {"a": (4, 2, 1)}, process="2 9"),
        Counted(3, {"a": (4, 2, 1)}, process="2 9"),
        Counted(1, {}),  # it has forgotten a
        Counted(1, {"a": (1, 0, 0)}),
    ):
        sums.add(counted, 0.0)
    assert sums.by_name(is_gateway=False) == {
        "refused_connections": 5 + 2 + 1 + 2 + 4 + 1,
        "unlogged_requests": 1 + 1 + 2,
        "rate_limited_requests": 3 + 2 + 1 + 1,
        "incomplete_requests": 2 + 3 + 1,  # the first three: before us
    }
    assert set(sums.by_name(is_gateway=True)) == {
        "queued_requests",
        "refused_requests",
        "incomplete_requests",
    }


def test_what_the_shield_counted_goes_on_too():
    names = asks.SHIELD
    said = "\n".join(
        f"proc.{name}: type=sint value=<{number}>"
        for number, name in enumerate(names)
    )
    counted = counters.parse(f"{said}\nproc.other: type=sint value=<9>\n")
    assert counted.shield == {name: n for n, name in enumerate(names)}
    sums = Sums()
    for number in (3, 5, 1):  # it has restarted
        sums.add(Counted(shield={names[0]: number}), 0.0)
    sums.add(Counted(), 0.0)  # it has not counted anything yet
    sums.add(Counted(shield={names[0]: 2, names[1]: 1}), 0.0)
    found = sums.by_name(is_gateway=False)
    assert {name: found[name] for name in names if name in found} == {
        names[0]: 2 + 1 + 2,
        names[1]: 1,
    }
    assert names[0] not in sums.by_name(is_gateway=True)


def test_networks_alone_are_asked_for_the_shields_counters():
    assert "proc." in counters.command(is_gateway=False)
    assert "proc." not in counters.command(is_gateway=True)


def test_a_source_is_new_once_until_it_was_calm():
    sums = Sums()
    assert sums.add(Counted(0, {"a": (1, 0, 0)}), 0.0) == ["a"]
    assert sums.add(Counted(0, {"a": (2, 0, 0), "b": (0, 1, 0)}), 5.0) == ["b"]
    assert sums.over == ("a", "b")
    later = 5.0 + CALM_S + 1
    assert sums.add(Counted(0, {"a": (2, 0, 0)}), later) == []
    assert not sums.over
    assert sums.add(Counted(0, {"a": (3, 0, 0)}), later) == ["a"]


def test_invented_sources_are_not_all_reported():
    """A haproxy that was broken into names new ones in each answer."""
    sums = Sums()
    new = []
    for round_number in range(5):
        made = {f"{round_number}-{n}": (1, 0, 0) for n in range(200)}
        new += sums.add(Counted(sources=made), float(round_number))
    assert len(new) == len(set(new)) == len(sums.over) == 100
    assert sums.add(Counted(sources={"late": (1, 0, 0)}), 100.0) == ["late"]


def test_incomplete_requests_are_nobodys():
    """Haproxy can't know their source; a probe of the port makes some."""
    sums = Sums()
    assert sums.add(Counted(5000), 0.0) == []
    assert sums.add(Counted(5000 + 101), 1.0) == []
    assert sums.by_name(is_gateway=True)["incomplete_requests"] == 101


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "12é", "\u0661", "9" * 41, "$(x)"]
)
def test_the_next_agent_reads_what_a_hostile_haproxy_says_of_itself(text):
    """Its counters go into a file, which is refused as a whole."""
    said = f"Version: {text}\nPid: {text}\nStart_time_sec: {text}\n"
    before, after = Meter(), Meter()
    network = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
    before.add("privsep_calls_total", 5)
    before.counted(network, counters.parse(said + "Pid: 7\n"))
    before.counted(network, counters.parse(said))
    after.restore(json.loads(json.dumps(before.plain())))
    assert after.totals() == before.totals()
