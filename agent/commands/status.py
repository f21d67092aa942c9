"""`agent-status`: print what the agent serves, for operators and probes."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...privsep import names
from ..errors import AgentError
from ..haproxy.counters import LIMITED
from ..monitor.status_socket import MAX_WAIT_S
from . import asks, why
from .client import (
    ABSENT,
    DEGRADED,
    NO_ANSWER,
    NOT_READY,
    OK,
    WITH_PROBLEMS,
    Parser,
    ask,
    find_socket,
    printable,
    source_options,
)

_MARGIN_S = 1.0  # after the time that the agent was asked to wait

# Word -> a function of the agent's socket and the arguments after the word,
# which returns the exit code.
COMMANDS: dict[str, Callable[[Path, list[str]], int]] = {
    "asks": asks.run,
    "why": why.main,
}

_EPILOG = """\
exit code: 0 every network is served; 1 the agent does not answer; 2 it is not
ready or waits for a database; 3 a network (it is named) can't be served; 4 the
agent is ready, and what --wait waits for is not on this host; 64 wrong usage
"""
_DEFAULT_WAIT_S = 60.0
# Between two attempts to ask an agent that does not answer.
_PAUSE_S = 0.2
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


def main(argv: list[str] | None = None) -> int:
    """Print the agent's status; return the exit code for a health check."""
    given = sys.argv[1:] if argv is None else argv
    source, rest = source_options().parse_known_args(given)
    if rest[:1] == ["dump"]:
        # It needs no agent that answers, and no configuration without errors.
        from . import dump  # noqa: PLC0415 # what it loads takes 0.1 s

        return dump.run(source, rest[1:])
    command = COMMANDS.get(rest[0]) if rest else None
    arguments = _parse(given) if command is None else source
    try:
        path, closed = find_socket(arguments)
    except AgentError as error:
        print(printable(str(error)), file=sys.stderr)
        return NO_ANSWER
    if command is not None:
        return command(path, rest[1:])
    if arguments.wait:
        return _wait(path, arguments)
    try:
        status = ask(path)
    except (OSError, ValueError) as error:
        print(f"the agent does not answer: {error}{closed}", file=sys.stderr)
        return NO_ANSWER
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        print(render(status))
    return exit_code(status)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="agent-status",
        description=__doc__,
        epilog=_EPILOG,
        parents=[source_options()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--json", action="store_true", help="everything, for programs"
    )
    how.add_argument(
        "--wait",
        action="store_true",
        help="until it is served: all, or what the next options name",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--network", type=_network, help="a network's id")
    what.add_argument("--instance", type=_instance, help="an instance's id")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help=f"how long --wait waits (default: {_DEFAULT_WAIT_S:.0f})",
    )
    arguments = parser.parse_args(argv)
    for name in ("network", "instance", "timeout"):
        if getattr(arguments, name) is not None and not arguments.wait:
            parser.error(f"--{name} needs --wait")
    if arguments.timeout is None:
        arguments.timeout = _DEFAULT_WAIT_S
    return arguments


def _network(text: str) -> str:
    if not names.is_network(text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a uuid")
    return text.lower()


def _instance(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not an id")
    return text.lower() if names.is_network(text.lower()) else text


def _seconds(text: str) -> float:
    if _SECONDS.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not in seconds")
    return float(text)


def _wait(path: Path, arguments: argparse.Namespace) -> int:
    """Wait until it is served; report in one line, return the exit code."""
    network, instance = arguments.network or "", arguments.instance or ""
    what = "every network"
    if network or instance:
        what = f"network {network}" if network else f"instance {instance}"
    question = {"network": network, "instance": instance}
    deadline = time.monotonic() + arguments.timeout
    while True:
        began = time.monotonic()
        wait_s = max(0.0, min(deadline - began, MAX_WAIT_S))
        code, reason = _ask_once(path, {**question, "wait_s": wait_s})
        if code == OK:
            print(f"{what} is served")
            return OK
        now = time.monotonic()
        if now >= deadline:
            waited = f"{arguments.timeout:g} s"
            print(
                f"{what} is not served after {waited}: {reason}",
                file=sys.stderr,
            )
            return code
        # An agent with too many clients that wait answers at once too.
        time.sleep(max(0.0, min(began + _PAUSE_S, deadline) - now))


def _ask_once(path: Path, question: Mapping[str, Any]) -> tuple[int, str]:
    """Return the exit code for the answer to QUESTION, and the reason."""
    try:
        status = ask(path, question, timeout_s=question["wait_s"] + _MARGIN_S)
    except (OSError, ValueError) as error:
        return NO_ANSWER, f"the agent does not answer: {error}"
    if status.get("served"):
        return OK, ""
    if not status["ready"]:
        reasons = [*status["waiting"].values()] or ["it has no rows yet"]
        return NOT_READY, f"the agent is not ready: {'; '.join(reasons)}"
    failed = [
        f"{network} can't be served: {entry['error']}"
        for network, entry in status["networks"].items()
        if entry["error"]
    ]
    if not failed:
        return ABSENT, "the agent is ready and has no such port on this host"
    more = f" (and {len(failed) - 1} more)" if failed[1:] else ""
    return DEGRADED, failed[0] + more


def exit_code(status: Mapping[str, Any]) -> int:
    """Return the exit code for STATUS."""
    if not status["ready"]:
        return NOT_READY
    if any(problem["cuts_service"] for problem in status["problems"]):
        return DEGRADED
    return WITH_PROBLEMS if status["problems"] else OK


def render(status: dict[str, Any]) -> str:
    """Return STATUS as text for an operator."""
    word = "ready" if status["ready"] else "not ready"
    silent_s = status.get("southbound_silent_s")
    heard = ""
    if silent_s is not None:
        heard = f", heard from Southbound {silent_s:.0f} s ago"
    lines = [
        f"agent {status['version']} pid {status['pid']}: {word}, "
        f"chassis {status['chassis'] or 'not known yet'}{heard}"
    ]
    reasons = {problem["reason"] for problem in status["problems"]}
    waiting = status["waiting"].values()
    lines += [f"waiting: {why}" for why in waiting if why not in reasons]
    lines += [line for each in status["problems"] for line in _problem(each)]
    networks = status["networks"].items()
    shares = [entry.get("shares", {}) for _, entry in networks]
    if limited := sum(share.get(LIMITED, 0) for share in shares):
        lines.append(f"{limited} requests over metadata_rate_limiting (429)")
    failed = sum(bool(entry["error"]) for _, entry in networks)
    if failed:
        lines.append(f"{failed} of {len(networks)} can't be served:")
    # Failed ones first: a chassis may serve hundreds of networks.
    for network, entry in sorted(networks, key=lambda n: not n[1]["error"]):
        if entry["error"]:
            lines.append(f"{network}: FAILED: {entry['error']}")
        elif network == "gateway":
            lines.append("gateway: serves")
        else:
            why = f" ({entry['spare']})" if entry.get("spare") else ""
            lines.append(
                f"{network}: serves {entry['instances']} instances on "
                f"{', '.join(entry['addresses'])}{why}"
            )
        lines += [f"  left out: {text}" for text in entry["conflicts"]]
        lines += _shares(entry)
    return "\n".join(lines)


def _problem(problem: Mapping[str, Any]) -> list[str]:
    """Return the lines about PROBLEM: what is wrong, what to do."""
    where = problem["network_name"] or problem["network"]
    return [
        f"{problem['severity']} {problem['code']}: {problem['title']}"
        f"{f' (network {where})' if where else ''}: {problem['reason']}",
        f"  do: {problem['remedy']}",
    ]


def _shares(entry: dict[str, Any]) -> list[str]:
    """Return the lines about the clients that are over their share."""
    sums = {what: n for what, n in entry.get("shares", {}).items() if n}
    lines = []
    if sums:
        counts = ", ".join(
            f"{number} {what.replace('_', ' ')}"
            for what, number in sums.items()
        )
        lines.append(f"  beyond a share: {counts}")
    lines += [
        f"  over its share: {source}" for source in entry.get("over_share", ())
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
