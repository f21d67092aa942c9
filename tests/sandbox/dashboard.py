"""Draw docs/reference/dashboard.json with the figures of a real run.

`make dashboard` runs a chassis with faults, and a real Prometheus. Grafana is
in no registry that we use, so this page draws what Grafana would be answered:
each panel's own queries, in its place.
"""

from __future__ import annotations

import contextlib
import html
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import Instance, Sandbox, host
from .case import Case, ready
from .processes import send_signal
from .prometheus import Prometheus, free_address

DASHBOARD = host.REPOSITORY / "docs/reference/dashboard.json"
_COLUMN, _ROW = 50, 30  # pixels of a cell; Grafana has 24 columns
_COLOURS = ("#3b7dd8", "#d9822b", "#3aa65b", "#c2413b", "#8e5bb5", "#666")
_RATE = "20s"  # four scrapes
_NETWORKS = 6

_STYLE = """
body { margin: 0; background: #f4f5f7; font: 12px sans-serif; }
h1 { font-size: 18px; margin: 10px 12px; }
#panels { position: relative; }
.panel { position: absolute; box-sizing: border-box; background: #fff;
  border: 1px solid #d8dbe0; border-radius: 3px; padding: 6px; }
.title { font-weight: bold; white-space: nowrap; overflow: hidden; }
.stat { font-size: 30px; text-align: center; padding-top: 18px; }
.red { color: #c2413b; } .green { color: #2c8a4b; }
.key { white-space: nowrap; overflow: hidden; }
.key span { margin-right: 10px; }
"""

Series = tuple[str, list[tuple[float, float]]]


def expression(text: str) -> str:
    """Return the query TEXT with Grafana's variables replaced."""
    return text.replace("$__rate_interval", _RATE).replace("$instance", ".*")


def legend(form: str, labels: Mapping[str, str]) -> str:
    """Return the legend FORM, "{{code}}" for one, with LABELS."""
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value[:21])
    return form or "value"


def number(value: float, unit: str) -> str:
    """Return VALUE in UNIT, short."""
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.0f} ms"
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return text + {"s": " s", "reqps": "/s", "ops": "/s"}.get(unit, "")


def stat(panel: Mapping[str, Any], series: Sequence[Series]) -> str:
    """Return the inside of a panel of one number."""
    values = [points[-1][1] for _, points in series if points]
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {})
    bad = steps and any(v >= steps["steps"][1]["value"] for v in values)
    text = " of ".join(number(value, "short") for value in values)
    colour = "red" if bad else "green"
    return f'<div class="stat {colour}">{text or "-"}</div>'


def lines(
    panel: Mapping[str, Any],
    series: Sequence[Series],
    span: tuple[float, float],
) -> str:
    """Return the inside of a panel of lines over SPAN."""
    width = panel["gridPos"]["w"] * _COLUMN - 18
    height = panel["gridPos"]["h"] * _ROW - 70
    unit = panel["fieldConfig"]["defaults"]["unit"]
    most = max((v for _, points in series for _, v in points), default=0)
    most = most * 1.1 or 1
    begin, end = span
    drawn = [
        f'<line x1="60" x2="{width}" y1="{y}" y2="{y}" stroke="#e3e6ea"/>'
        f'<text x="55" y="{y + 4}" text-anchor="end" font-size="10">'
        f"{number(most * (1 - y / height), unit)}</text>"
        for y in (8, height // 2, height)
    ]
    keys = []
    for place, (name, points) in enumerate(series):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(
            f"{60 + (t - begin) / (end - begin) * (width - 60):.1f},"
            f"{height * (1 - v / most):.1f}"
            for t, v in points
        )
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="1.6"/>'
        )
        keys.append(
            f'<span style="color: {colour}">&#9644;</span>'
            f"<span>{html.escape(name)}</span>"
        )
    marks = [
        f'<text x="{60 + part * (width - 90)}" y="{height + 13}" '
        f'font-size="10">{(end - begin) * part:.0f} s</text>'
        for part in (0, 0.5, 1)
    ]
    svg = "".join(drawn + marks)
    return (
        f'<svg width="{width}" height="{height + 16}">{svg}</svg>'
        f'<div class="key">{"".join(keys[:6])}</div>'
    )


def page(prometheus: Prometheus, span: tuple[float, float]) -> str:
    """Return the page with what PROMETHEUS has for each panel."""
    dashboard = json.loads(DASHBOARD.read_text())
    parts = []
    for panel in dashboard["panels"]:
        found: list[Series] = []
        for target in panel["targets"]:
            text = expression(target["expr"])
            for each in prometheus.query_range(text, *span):
                name = legend(target["legendFormat"], each["metric"])
                points = [(float(t), float(v)) for t, v in each["values"]]
                found.append((name, [p for p in points if p[1] == p[1]]))
        inside = (
            stat(panel, found)
            if panel["type"] == "stat"
            else lines(panel, found, span)
        )
        at = panel["gridPos"]
        parts.append(
            f'<div class="panel" style="left: {at["x"] * _COLUMN}px; '
            f"top: {at['y'] * _ROW}px; width: {at['w'] * _COLUMN - 6}px; "
            f'height: {at["h"] * _ROW - 6}px"><div class="title">'
            f"{html.escape(panel['title'])}</div>{inside}</div>"
        )
    title = html.escape(dashboard["title"])
    return (
        f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>"
        f"<h1>{title}</h1><div id=panels>{''.join(parts)}</div>"
    )


@contextlib.contextmanager
def asking(instances: Sequence[Instance]) -> Iterator[None]:
    """Let INSTANCES ask all the while."""
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            for instance in instances:
                with contextlib.suppress(OSError):
                    instance.fetch(timeout=2)
            end.wait(0.3)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def run(box: Sandbox, case: Case, calm_s: float = 30) -> None:
    """Do what is to be seen in the picture."""
    instances = [
        case.instance(case.network(f"n{number}"))
        for number in range(_NETWORKS)
    ]
    with asking(instances):
        time.sleep(calm_s)
        box.nova.stop()
        time.sleep(calm_s)
        box.nova.start()
        time.sleep(calm_s)
        for process in box.agent.processes("haproxy"):
            send_signal(process.pid, signal.SIGKILL)
        time.sleep(calm_s)
        box.agent.kill9()
        box.agent.start()
        instances += [
            case.instance(case.network(f"later{number}"))
            for number in range(_NETWORKS // 2)
        ]
        time.sleep(calm_s)


def main() -> int:
    """Write the page to the file that the command line names."""
    target = free_address()
    options = {("ovn_metadata_agent", "metrics_address"): target}
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(options=options) as box,
        contextlib.closing(Case(ready(box))) as case,
        Prometheus(Path(folder), target) as prometheus,
    ):
        begin = time.time()
        run(box, case)
        text = page(prometheus, (begin, time.time()))
    Path(sys.argv[1]).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
