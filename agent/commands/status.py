"""`agent-status`: print what the agent serves, for operators and probes."""

import argparse
import contextlib
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...privsep import names
from ..core import health
from ..core.codes import KINDS
from ..monitor.status_socket import MAX_WAIT_S
from . import asks, client, why
from .status_text import headline, render

# It takes 0.2 s to start; one second is promised for all of it.
_PATIENCE_S = 0.7
_MARGIN_S = 1.0  # after the time that the agent was asked to wait

# Word -> a function of the agent's socket and the arguments after the word,
# which returns the exit code.
COMMANDS: dict[str, Callable[[Path, list[str]], int]] = {
    "asks": asks.run,
    "why": why.main,
}

_USAGE = """agent-status [OPTION]...
       agent-status --wait [--network ID | --instance ID] [--timeout SECONDS]
       agent-status (why | asks | dump) ...; see there: --help"""
_EPILOG = """\
exit code: 0 all is served; 1 the agent does not answer, or hangs; 2 it is not
ready, or waits for a database; 3 a problem keeps an instance from its
metadata; 4 the agent is ready, and what --wait waits for is not on this host;
5 all is served, and there are problems; 64 wrong usage
"""
_FLAGS = {
    "json": "everything, for programs (docs/reference/status.md)",
    "wide": "more of each network",
    "watch": "print it again on each change; with --json a line for each",
    "ready": "exit with 0 if all is served: for readiness probes",
    "live": "exit with 0 if the agent makes progress: for liveness probes",
    "wait": "until it is served: all, or what the next options name",
}
_TOGETHER = ({"json", "watch"}, {"wide", "watch"})
_CODES = {
    health.HEALTHY: client.OK,
    health.WITH_PROBLEMS: client.WITH_PROBLEMS,
    health.DEGRADED: client.DEGRADED,
    health.NOT_READY: client.NOT_READY,
}
_DEFAULT_WAIT_S = 60.0
# Between two attempts to ask an agent that does not answer.
_PAUSE_S = 0.2
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


def main(argv: list[str] | None = None) -> int:
    """Print the agent's status; return the exit code for a health check."""
    given = sys.argv[1:] if argv is None else argv
    source, rest = client.source_options().parse_known_args(given)
    if rest[:1] == ["dump"]:
        # It needs no agent that answers, and no configuration without errors.
        from . import dump  # noqa: PLC0415 # what it loads takes 0.1 s

        return dump.run(source, rest[1:])
    if argv is None:  # Ctrl-C ends it, and so does `head` when it leaves
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A network's name may have letters that the locale has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = COMMANDS.get(rest[0]) if rest else None
    arguments = _parse(given) if command is None else source
    path, closed = client.find_socket(arguments)
    try:
        code = command(path, rest[1:]) if command else _run(path, arguments)
    except (OSError, ValueError) as error:
        print(_silence(error), file=sys.stderr)
        code = client.NO_ANSWER
    if closed and code == client.NO_ANSWER:
        print(closed, file=sys.stderr)
    return code


def _run(path: Path, arguments: argparse.Namespace) -> int:
    if arguments.wait:
        return _wait(path, arguments)
    if arguments.watch:
        return _watch(path, arguments)
    if arguments.live:
        return _live(path)
    status = client.ask(path, timeout_s=_PATIENCE_S)
    code = _CODES[status["health"]]
    if arguments.ready:
        print(headline(status))
        return client.OK if code == client.WITH_PROBLEMS else code
    print(_shown(status, arguments))
    return code


def _silence(error: Exception) -> str:
    """Return what ERROR says of an agent that gave no good answer."""
    kind = KINDS["OVNMD-407"]
    if isinstance(error, TimeoutError):
        return f"the agent hangs ({kind.code}): {error}; {kind.remedy}"
    if isinstance(error, ValueError):
        return f"the answer can't be used: {error}"
    said = f"the agent does not answer: {error}"
    if isinstance(error, client.NOBODY):
        said += f"; start it: the networks are still served ({kind.code})"
    return said


def _shown(status: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    if arguments.json:
        return json.dumps(status, indent=None if arguments.watch else 2)
    dumb = {"NO_COLOR": "", "TERM": ""} | os.environ
    colour = not dumb["NO_COLOR"] and dumb["TERM"] not in ("", "dumb")
    return render(
        status, wide=arguments.wide, colour=colour and sys.stdout.isatty()
    )


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = client.Parser(
        prog="agent-status",
        usage=_USAGE,
        description=__doc__,
        epilog=_EPILOG,
        parents=[client.source_options()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, help_ in _FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=help_)
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
    flags = {name for name in _FLAGS if getattr(arguments, name)}
    if len(flags) > 1 and flags not in _TOGETHER:
        one, other, *_ = sorted(flags)
        parser.error(f"--{one}: not allowed with --{other}")
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


def _live(path: Path) -> int:
    """Report whether the agent makes progress: what a restart helps with."""
    answer = client.ask_handler(path, {"live": True}, timeout_s=_PATIENCE_S)
    if answer["live"]:
        print("the agent makes progress")
        return client.OK
    late = [f"{part} for {age:.0f} s" for part, age in answer["late"].items()]
    print(f"the agent hangs: {', '.join(late)}", file=sys.stderr)
    return client.NO_ANSWER


def _watch(path: Path, arguments: argparse.Namespace) -> int:
    """Print the status again whenever it changes, until interrupted."""
    seen, code = "", client.NO_ANSWER
    limit_s = MAX_WAIT_S + _MARGIN_S
    with contextlib.suppress(BrokenPipeError):
        while True:
            began = time.monotonic()
            question = {"seen": seen, "wait_s": MAX_WAIT_S}
            try:
                status = client.ask(path, question, timeout_s=limit_s)
            except (OSError, ValueError) as error:
                change, code = _silence(error), client.NO_ANSWER
                text = json.dumps({"error": change})
                text = text if arguments.json else change
            else:
                change, code = status["change"], _CODES[status["health"]]
                text = _shown(status, arguments)
            if change != seen:
                seen = change
                if not arguments.json:
                    print(time.strftime("---- %H:%M:%S"))
                print(text, flush=True)
            # An agent with too many clients that wait answers at once.
            time.sleep(max(0.0, began + _PAUSE_S - time.monotonic()))
    return code


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
        if code == client.OK:
            print(f"{what} is served")
            return client.OK
        now = time.monotonic()
        if now >= deadline:
            after = f"after {arguments.timeout:g} s"
            print(f"{what} is not served {after}: {reason}", file=sys.stderr)
            return code
        # An agent with too many clients that wait answers at once too.
        time.sleep(max(0.0, min(began + _PAUSE_S, deadline) - now))


def _ask_once(path: Path, question: Mapping[str, Any]) -> tuple[int, str]:
    """Return the exit code for the answer to QUESTION, and the reason."""
    try:
        limit_s = question["wait_s"] + _MARGIN_S
        status = client.ask(path, question, timeout_s=limit_s)
    except (OSError, ValueError) as error:
        return client.NO_ANSWER, _silence(error)
    if status.get("served"):
        return client.OK, ""
    if not status["ready"]:
        reasons = [*status["waiting"].values()] or ["it has no rows yet"]
        reason = f"the agent is not ready: {'; '.join(reasons)}"
        return client.NOT_READY, reason
    failed = [
        f"{network} can't be served: {entry['error']}"
        for network, entry in status["networks"].items()
        if entry["error"]
    ]
    if failed:
        more = f" (and {len(failed) - 1} more)" if failed[1:] else ""
        return client.DEGRADED, failed[0] + more
    if question["network"] or question["instance"]:
        reason = "the agent is ready and has no such port on this host"
        return client.ABSENT, reason
    waiting = status["queue"]["length"]
    return client.NOT_READY, f"networks that wait for the agent: {waiting}"
