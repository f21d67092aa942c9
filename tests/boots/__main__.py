"""Play the lottery and print the table: `make boots`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox import peer

from .lottery import OUTAGES
from .outages import OURS, THEIRS

WORDS = {
    "none": "left alone",
    "stopped": "stopped, back after 5 s",
    "killed": "killed, back after 5 s",
    "upgraded": "upgraded",
    "hangs": "hangs for {longest:g} s",
    "southbound": "started without Southbound for {southbound:g} s",
}
# The suite, and how long its cloud-init may find no agent: before 25.1 it
# asks once a stage, for 10 s, and two stages are all there is.
RELEASES = {"bookworm": 5.0, "trixie": 20.0, "sid": 20.0}
Boots = list[dict[str, Any]]


def main() -> int:
    """Print a table; return 1 if a boot was lost with our agent."""
    parser = argparse.ArgumentParser(prog="boots", description=__doc__)
    parser.add_argument("roots", type=Path, help="has a root for each suite")
    parser.add_argument("--boots", type=int, default=12, help="a release")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--suites", default=",".join(RELEASES))
    parser.add_argument("--agents", default=f"{OURS},{THEIRS}")
    given = parser.parse_args()
    agents = given.agents.split(",")
    peer.install(peer.default_prefix())
    print("| cloud-init | the agent is |" + " | ".join(_heads(agents)) + " |")
    print("|---|---|" + "---|" * len(_heads(agents)))
    lost = 0
    for suite in given.suites.split(","):
        played = {agent: _play(agent, suite, given) for agent in agents}
        for line in _lines(suite, given.roots / suite, played):
            print(line, flush=True)
        lost += sum(not boot["found"] for boot in played.get(OURS, ()))
    return int(lost > 0)


def _play(agent: str, suite: str, given: argparse.Namespace) -> Boots:
    """Return what became of SUITE's boots with AGENT."""
    root = given.roots / suite
    logs = given.roots / "logs" / f"{suite}-{agent}"
    command = [
        *(sys.executable, "-m", "sandbox.enter"),
        *(sys.executable, "-m", "boots.rounds", agent, str(root)),
        *("--boots", str(given.boots), "--seed", str(given.seed)),
        *("--longest", str(RELEASES[suite]), "--logs", str(logs)),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _heads(agents: list[str]) -> list[str]:
    """Return the heads of the columns of AGENTS."""
    names = {OURS: "this agent", THEIRS: "Neutron's"}
    return [
        f"{names[agent]}: {what}"
        for agent in agents
        for what in ("served network", "first port", "lost", "longest, s")
    ]


def _lines(suite: str, root: Path, played: dict[str, Boots]) -> Iterator[str]:
    """Yield the rows of SUITE: an outage each, and all."""
    version = _version(root)
    longest = RELEASES[suite]
    for name in (*OUTAGES, ""):
        cells = [
            cell
            for boots in played.values()
            for cell in _cells(
                [boot for boot in boots if name in ("", boot["outage"])]
            )
        ]
        words = WORDS.get(name, "all").format(
            longest=longest, southbound=min(15.0, longest)
        )
        yield " | ".join([f"| {version}", words, *cells]) + " |"


def _cells(boots: Boots) -> list[str]:
    """Return found of all on a served network, of first ports; lost."""
    found = []
    for first in (False, True):
        those = [boot["found"] for boot in boots if boot["first"] == first]
        found.append(f"{sum(those)} of {len(those)}")
    lost = sum(not boot["found"] for boot in boots)
    longest = max((boot["seconds"] for boot in boots), default=0.0)
    return [*found, str(lost), f"{longest:.0f}"]


def _version(root: Path) -> str:
    """Return the version of the cloud-init in ROOT."""
    said = subprocess.run(
        ("chroot", str(root), "cloud-init", "--version"),
        capture_output=True,
        text=True,
        check=True,
    )
    return (said.stdout or said.stderr).split()[1].partition("-")[0]


if __name__ == "__main__":
    sys.exit(main())
