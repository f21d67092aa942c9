"""A real Prometheus that scrapes the agent, with our rules."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

from . import host
from .daemons import Daemon
from .waiting import wait_for

RULES = host.REPOSITORY / "docs/reference/alerts.yml"
JOB = "ovn-metadata"
INTERVAL_S = 5


def free_address() -> str:
    """Return an address of this host that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


class Prometheus:
    """Scrapes TARGET every INTERVAL_S; its files are in FOLDER.

    It evaluates the rules as often as that, not as often as they say.
    """

    def __init__(
        self, folder: Path, target: str, *, interval_s: int = INTERVAL_S
    ) -> None:
        self.address = free_address()
        interval = f"{interval_s}s"
        rules = folder / "rules.yml"
        text = RULES.read_text()
        assert text.count("\n    interval: ") == 1
        rules.write_text(
            re.sub(
                r"(?m)^    interval: .*$", f"    interval: {interval}", text
            )
        )
        config = {
            "global": {
                "scrape_interval": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": JOB, "static_configs": [{"targets": [target]}]}
            ],
        }
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        self._daemon = Daemon(
            name="prometheus",
            command=(
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self.address}",
            ),
            output=folder / "prometheus.log",
        )

    def __enter__(self) -> Prometheus:
        """Start it; return after its first scrape."""
        self._daemon.start()
        wait_for(
            lambda: self.query(f'up{{job="{JOB}"}}'),
            timeout_s=60,
            what="a scrape",
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._daemon.stop()

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the result of the query TEXT."""
        found: list[dict[str, Any]] = self._get("query", query=text)["result"]
        return found

    def query_range(
        self, text: str, start: float, end: float
    ) -> list[dict[str, Any]]:
        """Return the series of the query TEXT from START to END."""
        found: list[dict[str, Any]] = self._get(
            "query_range",
            query=text,
            start=str(start),
            end=str(end),
            step=str(INTERVAL_S),
        )["result"]
        return found

    def rules(self) -> set[str]:
        """Return the names of the alerts that it has loaded."""
        groups = self._get("rules")["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]}

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire, each with its code."""
        return {
            (each["labels"]["alertname"], each["labels"].get("code", ""))
            for each in self._get("alerts")["alerts"]
            if each["state"] == "firing"
        }

    def _get(self, what: str, **arguments: str) -> Any:
        words = urllib.parse.urlencode(arguments)
        url = f"http://{self.address}/api/v1/{what}?{words}"
        done = subprocess.run(
            ["curl", "--silent", "--max-time", "10", url],
            capture_output=True,
            check=False,
        )
        try:
            return json.loads(done.stdout)["data"]
        except ValueError:  # it starts
            return {"result": [], "alerts": [], "groups": []}
