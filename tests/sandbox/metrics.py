"""Ask the agent for its metrics, and read them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import host

SOCKET = host.HOME / "ovn-metadata-agent-metrics.sock"
COUNTERS = host.HOME / "ovn-metadata-agent-counters.json"
PREFIX = "ovn_metadata_"
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = tuple[str, tuple[tuple[str, str], ...]]
Samples = dict[Series, float]


def scrape(address: str = "", *, path: Path = SOCKET) -> str:
    """Return what the exporter answers on ADDRESS, or on the socket PATH."""
    how = [f"http://{address}/metrics"]
    if not address:
        how = ["--unix-socket", str(path), "http://localhost/metrics"]
    command = ["curl", "--silent", "--fail", "--max-time", "30", *how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def parse(text: str) -> Samples:
    """Return series (name, sorted labels) -> value."""
    return dict(_samples(text))


def _samples(text: str) -> Iterator[tuple[Series, float]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            labels = tuple(sorted(_LABEL.findall(match[2] or "")))
            yield (match[1], labels), float(match[3])


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the series NAME that have LABELS."""
    return sum(
        number
        for (found, has), number in samples.items()
        if found == PREFIX + name and labels.items() <= dict(has).items()
    )


def counters(text: str) -> Samples:
    """Return the samples of counters and histograms in TEXT."""
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))

    def is_counter(name: str) -> bool:
        family = re.sub("_(bucket|count|sum)$", "", name)
        return kinds.get(name) == "counter" or (
            kinds.get(family) == "histogram"
        )

    return {
        series: number
        for series, number in parse(text).items()
        if is_counter(series[0])
    }
