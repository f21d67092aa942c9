"""What a scrape shows: how many series, and which networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest

from ovn_metadata.agent.exported import Collector
from ovn_metadata.agent.haproxy.asks import SHIELD
from ovn_metadata.agent.haproxy.counters import Counted
from ovn_metadata.agent.metrics.catalog import (
    HOST_SERIES,
    KINDS,
    NETWORK_SERIES,
    PREFIX,
)
from ovn_metadata.agent.metrics.meter import Meter

SOUTHBOUND = {"connected": True, "rows": 7, "changed": 7.0}
REGISTRATION = {"heartbeat": 7.0}


@dataclasses.dataclass(frozen=True, slots=True)
class Known(Collector):
    """A collector that knows of haproxies what it is given."""

    memory: float | None = 4096

    def _memory(self, _network: str) -> float | None:
        return self.memory

    def _ended(self) -> int:
        return 7


def network(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "served": True,
        "spare": "",
        "error": "",
        "instances": 2,
        "over_share": (),
        "shares": {},
        **changes,
    }


def server(
    address: str, latency_ms: int | None, *, state: str = "up"
) -> dict[str, Any]:
    """Return what `NovaWatch` reports of one of Nova's addresses."""
    return {"address": address, "state": state, "latency_ms": latency_ms}


def sources(
    entries: dict[str, Any],
    *,
    ready: bool = True,
    problems: Iterable[tuple[str, str]] = (),
    southbound: Mapping[str, float] | None = SOUTHBOUND,
    registration: Mapping[str, float | None] | None = REGISTRATION,
    wanted: Iterable[str] = (),
    nova: Iterable[Mapping[str, Any]] = (),
    **more: Any,
) -> Collector:
    status: dict[str, Any] = {"networks": entries, "ready": ready}
    status["problems"] = [
        {"code": code, "severity": severity} for code, severity in problems
    ]
    status |= {"started": 1.5, "version": "1.0"}
    status["queue"] = {"length": 0, "oldest_s": 0.0}
    status |= {"southbound": southbound, "registration": registration}
    status["nova"] = [*nova]
    site: Any = SimpleNamespace(status=SimpleNamespace(as_dict=lambda: status))
    rows = SimpleNamespace(networks=dict.fromkeys(wanted))
    snapshots: Any = SimpleNamespace(chassis=rows)
    return Known(site, snapshots, **more)


def page(meter: Meter, found: Collector) -> list[str]:
    site: Any = SimpleNamespace(status=found.site.status, meter=meter)
    text = generate_latest(dataclasses.replace(found, site=site)).decode()
    return text.splitlines()


def scrape(meter: Meter, found: Collector) -> list[str]:
    """Return the lines with samples."""
    return [line for line in page(meter, found) if not line.startswith("#")]


def test_no_host_and_no_network_has_more_series_than_promised():
    networks = [network(number) for number in range(200)]
    meter = Meter()
    for each in networks:
        meter.counted(
            each,
            Counted(
                process="1 1",
                answers=(1, 2, 3, 4, 5),
                shield=dict.fromkeys(SHIELD, 1),
            ),
        )
    codes = [(f"OVNMD-{number}", "error") for number in range(101, 150)]
    nova = [server(f"192.0.2.{n}:8775", 1) for n in range(9)]
    lines = scrape(
        meter,
        sources(
            {**dict.fromkeys(networks, entry()), "gateway": entry()},
            problems=codes,
            nova=nova,
        ),
    )
    for each in networks:
        assert len([x for x in lines if each in x]) == NETWORK_SERIES
    others = [x for x in lines if "network=" not in x]
    assert len(others) == HOST_SERIES
    assert sum("problems{" in x for x in others) >= 3
    assert {x.partition("{")[0].split()[0] for x in lines} <= {
        PREFIX + name + part
        for name, kind in KINDS.items()
        for part in ("", "_bucket", "_sum", "_count")
        if part == "" or kind.type == "histogram"
    }


@pytest.mark.parametrize(
    ("has", "state"),
    [
        ({}, "served"),
        ({"spare": "kept"}, "spare"),
        ({"error": "no bridge"}, "failing"),
        ({"error": "no bridge", "spare": "kept"}, "failing"),
        ({"served": False}, "pending"),
    ],
)
def test_a_network_is_in_one_state(has, state):
    lines = scrape(Meter(), sources({network(1): entry(**has)}))
    states = [x for x in lines if "_networks{" in x and x.endswith(" 1.0")]
    assert states == [f'{PREFIX}networks{{state="{state}"}} 1.0']
    up = f"{float(state in ('served', 'spare'))}"
    assert f'{PREFIX}network_up{{network="{network(1)}"}} {up}' in lines


def test_a_network_of_the_rows_alone_is_pending():
    found = sources({network(1): entry()}, wanted=[network(2)])
    lines = scrape(Meter(), found)
    assert f'{PREFIX}networks{{state="pending"}} 1.0' in lines


def test_counters_of_the_agent_before_are_shown_until_this_one_is_ready():
    meter = Meter()
    meter.counted(network(1), Counted(process="1 1"))
    meter.counted(network(2), Counted(process="1 1"))
    meter.saw({network(1): {"pid": 5, "start": 1}})

    def shown(*, ready: bool) -> set[int]:
        lines = scrape(meter, sources({}, ready=ready))
        return {n for n in (1, 2) if any(network(n) in x for x in lines)}

    assert shown(ready=False) == {1}  # the other had gone before
    assert shown(ready=True) == set()


def test_the_worst_problems_are_shown_with_their_number():
    problems = [("OVNMD-101", "warning"), ("OVNMD-202", "error")] * 2
    lines = scrape(Meter(), sources({}, problems=problems))
    shown = [x for x in lines if "problems{" in x]
    assert shown == [
        f'{PREFIX}problems{{code="OVNMD-202",severity="error"}} 2.0',
        f'{PREFIX}problems{{code="OVNMD-101",severity="warning"}} 2.0',
    ]


def test_what_is_not_known_has_no_sample():
    found = sources(
        {network(1): entry()},
        registration={"heartbeat": None},
        memory=None,
    )
    lines = scrape(Meter(), found)
    assert not [x for x in lines if "memory" in x or "heartbeat" in x]


def test_metrics_without_samples_are_left_out():
    lines = page(Meter(), sources({}))
    assert [x for x in lines if x.startswith(f"# HELP {PREFIX}instances ")]
    assert not [x for x in lines if "nova_up" in x]


def test_a_database_that_was_never_there_is_not_connected():
    found = sources({}, southbound=None, registration=None)
    lines = scrape(Meter(), found)
    assert f"{PREFIX}southbound_connected 0.0" in lines
    assert f"{PREFIX}southbound_rows 0.0" in lines
    assert not [x for x in lines if "change_timestamp" in x]


def test_an_endpoint_of_nova_s_is_up_or_down():
    found = sources(
        {}, nova=[server("a:1", 250), server("b:1", None, state="down")]
    )
    lines = [x for x in scrape(Meter(), found) if "nova" in x]
    assert lines == [
        f'{PREFIX}nova_up{{endpoint="a:1"}} 1.0',
        f'{PREFIX}nova_up{{endpoint="b:1"}} 0.0',
        f'{PREFIX}nova_response_seconds{{endpoint="a:1"}} 0.25',
        f'{PREFIX}nova_response_seconds{{endpoint="b:1"}} 0.0',
    ]


def test_a_name_with_quotes_is_escaped():
    found = sources({network(1): entry(name='a"b\\c\nd')})
    lines = scrape(Meter(), found)
    (info,) = [x for x in lines if "network_info" in x]
    assert 'name="a\\"b\\\\c\\nd"' in info
