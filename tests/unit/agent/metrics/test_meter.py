"""Counters that never fall, whatever restarts; and the file of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import registry

from ovn_metadata.agent.exporter import Exporter
from ovn_metadata.agent.haproxy.asks import SHIELD
from ovn_metadata.agent.haproxy.counters import Counted
from ovn_metadata.agent.metrics import COUNTERS
from ovn_metadata.agent.metrics.meter import Meter

NETWORK = "21d6f0c5-7383-4ccc-98bc-2ca1db765706"
OTHER = "00000000-0000-4000-8000-000000000000"
GOOD = "network_requests_total", NETWORK, "2xx"


def counted(process: str = "7 1", good: int = 0) -> Counted:
    return Counted(process=process, answers=(good, 0, 0, 0, 0))


def requests(meter: Meter) -> float:
    return meter.totals().get(GOOD, 0)


def of(meter: Meter, metric: str) -> dict[tuple[str, ...], float]:
    """Return the sums of METRIC by the values of its labels."""
    found = meter.totals().items()
    return {key[1:]: total for key, total in found if key[0] == metric}


def again(meter: Meter) -> Meter:
    """Return what the next agent has, after `plain` was the last it kept."""
    following = Meter()
    following.restore(json.loads(json.dumps(meter.plain())))
    return following


def test_a_new_process_counts_from_0():
    meter = Meter()
    meter.counted(NETWORK, counted("7 1", 5))
    meter.counted(NETWORK, counted("7 1", 8))
    meter.counted(NETWORK, counted("9 2", 20))  # more than the one before had
    meter.counted(NETWORK, counted("9 2", 1))  # somebody cleared them
    assert requests(meter) == 8 + 20 + 1


def test_the_next_agent_goes_on_with_the_same_process():
    meter = Meter()
    meter.counted(NETWORK, counted("7 1", 5))
    following = again(meter)
    following.counted(NETWORK, counted("7 1", 9))
    assert requests(following) == 9
    following = again(following)
    following.counted(NETWORK, counted("8 2", 1))
    assert requests(following) == 10


ACTS = st.lists(
    st.one_of(
        st.integers(0, 9).map(lambda n: ("answers", n)),
        st.sampled_from([("poll", 0), ("scrape", 0)]),
        st.sampled_from([("new haproxy", 0), ("new agent", 0)]),
    ),
    max_size=60,
)


@given(acts=ACTS)
def test_counters_never_fall_and_count_nothing_twice(acts):
    """A scrape keeps what it shows; an agent that is killed keeps no more."""
    meter, kept_then = Meter(), Meter().plain()
    process, has, answered, shown = 0, 0, 0, 0.0
    for act, number in acts:
        if act == "answers":
            has, answered = has + number, answered + number
        elif act == "poll":
            meter.counted(NETWORK, counted(f"{process} 1", has))
        elif act == "scrape":
            assert shown <= requests(meter) <= answered
            shown = requests(meter)
            kept_then = json.loads(json.dumps(meter.plain()))
        elif act == "new haproxy":
            process, has = process + 1, 0
        else:
            meter = Meter()
            meter.restore(kept_then)
    meter.counted(NETWORK, counted(f"{process} 1", has))
    assert shown <= requests(meter) <= answered


def test_a_new_process_is_a_restart_and_the_first_is_not():
    meter = Meter()

    def restarts() -> tuple[float, float]:
        totals = meter.totals()
        ours = totals.get(("network_haproxy_restarts_total", NETWORK), 0)
        return ours, totals["gateway_restarts_total",]

    def saw(pid: int, **others: int) -> None:
        pids = {NETWORK: pid, **others}
        meter.saw({n: {"pid": p, "start": 5} for n, p in pids.items()})

    saw(3, gateway=4)
    saw(3, gateway=4)
    assert restarts() == (0, 0)
    saw(0, gateway=5)  # supervisord waits with the next start
    assert restarts() == (0, 1)
    saw(6)
    assert restarts() == (1, 1)
    meter = again(meter)
    saw(8)
    assert restarts() == (2, 1)
    meter.saw({})  # removed
    saw(9)
    assert restarts() == (2, 1)


def test_a_histogram_s_buckets_hold_all_that_is_less():
    meter = Meter()
    for seconds in (0.05, 0.1, 0.5, 60):
        meter.observe("provision_duration_seconds", seconds)
    assert of(meter, "provision_duration_seconds") == {
        ("bucket", "0.1"): 2,
        ("bucket", "1.0"): 3,
        ("bucket", "10.0"): 3,
        ("bucket", "+Inf"): 4,
        ("count",): 4,
        ("sum",): 60.65,
    }


def test_an_answer_that_is_no_haproxy_s_counts_nothing():
    meter = Meter()
    meter.counted(NETWORK, counted("7 1", 5))
    meter.counted(NETWORK, Counted())
    meter.counted(NETWORK, counted("7 1", 6))
    assert requests(meter) == 6


def test_networks_that_have_gone_are_forgotten_in_the_end():
    meter = Meter()
    meter.counted(NETWORK, counted(good=1))
    for number in range(1001):
        meter.counted(f"{number:08x}-0000-4000-8000-000000000000", counted())
    assert NETWORK not in meter.plain()["raw"]
    assert requests(meter) == 0
    assert len(meter.plain()["raw"]) == 1000


def loaded(folder: Path, meter: Meter) -> Exporter:
    """Return an exporter of METER, which continues the file in FOLDER."""
    settings = SimpleNamespace(
        state_path=folder, metrics_socket=None, metrics_address=None
    )
    site: Any = SimpleNamespace(settings=lambda: settings, meter=meter)
    return Exporter(site, registry.REGISTRY)


GOOD_FILE = {
    "totals": [[*GOOD, 5], ["privsep_calls_total", 7]],
    "raw": {NETWORK: ["7 1", [5, 0, 0, 0, 0, 0]]},
    "programs": {NETWORK: "7 1"},
}


def changed(**parts: object) -> str:
    return json.dumps({**GOOD_FILE, **parts})


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", "{}", "7", "null", "\x00" * 100, "[" * 10**6),
        json.dumps(GOOD_FILE)[:-9],
        changed(totals=7),
        changed(totals=[[]]),
        changed(totals=[[*GOOD, -1]]),
        changed(totals=[[*GOOD, "5"]]),
        changed(totals=[[*GOOD, float("nan")]]),
        changed(totals=[[*GOOD, float("inf")]]),
        changed(totals=[[*GOOD, 5], ["privsep_calls_total", None]]),
        changed(totals=[["network_requests_total", 'x"} 1\n', "2xx", 5]]),
        changed(totals=[[["network_requests_total"], NETWORK, "2xx", 5]]),
        changed(raw={NETWORK: 7}),
        changed(raw={NETWORK: ["7 1", ["a"]]}),
        changed(raw=[NETWORK]),
        changed(programs={NETWORK: "x"}),
        changed(programs={NETWORK: 7}),
        changed(programs={NETWORK: "9" * 99}),
    ],
    ids=lambda text: text[:60],
)
def test_nonsense_in_the_file_is_ignored_with_a_word(text, tmp_path, caplog):
    file = tmp_path / COUNTERS
    file.write_text(text)
    meter = Meter()
    loaded(tmp_path, meter)
    assert meter.plain() == Meter().plain()
    (record,) = caplog.records
    assert f"{file} can't be used" in record.getMessage()


def test_a_file_of_bytes_that_are_no_text_is_ignored(tmp_path, caplog):
    (tmp_path / COUNTERS).write_bytes(b"\xff\xfe\x00")
    loaded(tmp_path, Meter())
    assert len(caplog.records) == 1


def test_what_was_kept_is_read(tmp_path, caplog):
    meter = Meter()
    meter.restore(GOOD_FILE)
    loaded(tmp_path, meter)._save()
    following = Meter()
    loaded(tmp_path, following)
    assert following.plain() == meter.plain()
    assert requests(following) == 5
    assert following.networks() == {NETWORK}
    assert not caplog.records
    loaded(tmp_path / "missing", following)
    assert not caplog.records


def test_metrics_of_another_version_are_left_out():
    totals = [["its_own_total", 3], ["networks", "served", 5], [*GOOD, 1]]
    totals += [["provision_duration_seconds", "bucket", "7.0", 3]]
    totals += [["network_requests_total", NETWORK, "9xx", 3]]
    meter = Meter()
    meter.restore({**GOOD_FILE, "totals": totals})
    assert requests(meter) == 1
    assert meter.totals().keys() - Meter().totals().keys() == {GOOD}


def test_what_the_shield_counted_is_a_network_s():
    """The first agent is of a version that knew no shield."""
    first, second, _ = SHIELD
    old = Meter()
    plain = again(old).plain()
    plain["raw"] = {NETWORK: ["7 1", [5, 0, 0, 0, 0, 0]]}
    meter = Meter()
    meter.restore(plain)
    meter.counted(NETWORK, counted("7 1", 6))
    assert requests(meter) == 1
    seen = dataclasses.replace(counted("7 1", 6), shield={first: 4})
    meter.counted(NETWORK, seen)
    seen = dataclasses.replace(seen, shield={first: 5, second: 1})
    meter.counted(NETWORK, seen)
    found = of(again(meter), "network_shield_requests_total")
    assert found == {(NETWORK, first): 5, (NETWORK, second): 1}
    assert not of(again(old), "network_shield_requests_total")


def test_a_broken_in_haproxy_s_numbers_stay_its_own():
    meter = Meter()
    most = dataclasses.replace(counted(), answers=(10**18,) * 5)
    meter.counted(OTHER, most)
    meter.counted(NETWORK, counted(good=3))
    assert requests(again(meter)) == 3
