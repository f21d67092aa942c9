"""The table of metrics, and the documents that use it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ovn_metadata.agent.metrics.catalog import KINDS, PREFIX

DOCS = Path(__file__).parents[4] / "docs"
NAMES = {
    PREFIX + name + part
    for name, kind in KINDS.items()
    for part in (
        ("_bucket", "_count", "_sum") if kind.type == "histogram" else ("",)
    )
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_metric_is_as_promised(kind):
    assert kind.type in ("counter", "gauge", "histogram", "info")
    assert (kind.type == "counter") == kind.name.endswith("_total")
    assert (kind.type == "info") == kind.name.endswith("_info")
    if "timestamp" in kind.name:
        assert kind.type == "gauge"
        assert kind.name.endswith("_timestamp_seconds")
    assert not re.search("_(ms|mib|minutes|percent)", kind.name)
    assert kind.help.endswith(".")
    assert not {"instance", "port", "address"} & {*kind.labels}


def test_the_dashboard_has_queries_of_our_metrics_alone():
    dashboard = json.loads((DOCS / "reference/dashboard.json").read_text())
    queries = [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    used = {*re.findall(rf"{PREFIX}\w+", " ".join(queries))}
    assert used <= NAMES
    # What is shown nowhere, and why.
    rest = {name.removeprefix(PREFIX) for name in NAMES - used}
    assert rest == {
        *("build_info", "network_info"),  # names, to be joined
        *("start_time_seconds", "southbound_rows", "southbound_connected"),
        *("network_up", "privsep_seconds_total"),
        # While the shield is off they are 0.
        *("network_shield_requests_total", "shield_ended_at_hop_limit"),
        *(
            f"reconcile_duration_seconds_{p}"
            for p in ("bucket", "count", "sum")
        ),
    }
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        assert panel["title"]


def test_the_alerts_are_about_our_metrics_alone():
    text = (DOCS / "reference/alerts.yml").read_text()
    used = {*re.findall(rf"{PREFIX}\w+", text)}
    assert used == {f"{PREFIX}problems", f"{PREFIX}start_time_seconds"}
