"""`agent-status asks`: what instances ask for, the newest first."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .client import ABSENT, MOST_NAME, OK, Parser, ask_handler

PROGRAM = "agent-status asks"
_TIMEOUT_S = 10.0


def run(path: Path, argv: list[str]) -> int:
    """Ask the agent at PATH what ARGV names; print it, return the exit code.

    It is 4 if nothing has asked. Raises what `ask_handler` does.
    """
    parser = Parser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "instance",
        metavar="INSTANCE",
        nargs="?",
        default="",
        help="an instance: its id, name, port or address; without it: all",
    )
    arguments = parser.parse_args(argv)
    if len(arguments.instance) > MOST_NAME:
        parser.error("INSTANCE is too long")
    question = {"asks": arguments.instance}
    answer = ask_handler(path, question, timeout_s=_TIMEOUT_S)
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print(render(answer, time.time()))
    return OK if answer["asks"] else ABSENT


def render(answer: Mapping[str, Any], now: float) -> str:
    """Return ANSWER as text for an operator, at NOW."""
    lines = []
    for entry in answer["asks"]:
        port, network = entry["port_name"], entry["network_name"]
        lines.append(
            f"{entry['instance']}{f' ({port})' * bool(port)}, network "
            f"{entry['network']}{f' ({network})' * bool(network)}"
        )
        idle_s = max(0, int(now - entry["last_seen"]))
        count, plural = entry["requests"], "s" * (entry["requests"] != 1)
        lines.append(f"  {count} request{plural}, last {idle_s} s ago")
        lines += [
            f"  {what}: {', '.join(_counts(entry[what]))}"
            for what in ("paths", "clients", "answers")
            if what in entry
        ]
        if "shield" in entry:
            counts = ", ".join(_counts(entry["shield"])).replace("_", " ")
            lines.append(f"  shield: {counts}")
        if entry["forwarded"]:
            lines.append(
                f"  forwarded for somebody else: {entry['forwarded']}"
            )
    lines += [
        f"{network}: its haproxy does not answer"
        for network in answer["unknown"]
    ]
    if not answer["is_known"]:
        lines.append(
            "no instance, port, address or network here has this name"
        )
    return "\n".join(lines or ["nothing asked since the haproxies started"])


def _counts(counts: Mapping[str, int]) -> list[str]:
    return [f"{number} {name}" for name, number in counts.items() if number]
