"""`agent-status`: print what the agent serves, for operators and probes."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from .. import unixsocket
from ..config import options
from ..errors import AgentError

_TIMEOUT_S = 5.0
_MAX_ANSWER = 64 * 1024 * 1024  # bytes

OK = 0
NO_ANSWER = 1
NOT_READY = 2
DEGRADED = 3
USAGE = 64  # EX_USAGE, <sysexits.h>

_EPILOG = """\
exit code: 0 every network is served; 1 the agent does not answer; 2 it is not
ready or waits for a database; 3 a network (it is named) can't be served; 64
wrong usage
"""


def main(argv: list[str] | None = None) -> int:
    """Print the agent's status; return the exit code for a health check."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    try:
        path = arguments.socket or _configured_socket(arguments)
    except AgentError as error:
        print(f"configuration: {error}", file=sys.stderr)
        return NO_ANSWER
    try:
        status = ask(path)
    except (OSError, ValueError) as error:
        print(f"the agent does not answer: {error}", file=sys.stderr)
        return NO_ANSWER
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        print(render(status))
    return exit_code(status)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with a code that means no state of the agent."""
        self.exit(USAGE, f"{self.prog}: {message}; see --help\n")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="agent-status",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--socket", type=Path, help="the agent's socket")
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        help="the agent's configuration file, if not in the usual place",
    )
    parser.add_argument(
        "--config-dir",
        action="append",
        default=[],
        help="the same for a folder of files",
    )
    parser.add_argument(
        "--json", action="store_true", help="everything, for programs"
    )
    return parser.parse_args(argv)


def _configured_socket(arguments: argparse.Namespace) -> Path:
    argv = [f"--config-file={name}" for name in arguments.config_file]
    argv += [f"--config-dir={name}" for name in arguments.config_dir]
    return options.status_socket(argv, "ovn-metadata-agent")


def ask(path: Path) -> dict[str, Any]:
    """Return the status of the agent at PATH.

    Raises OSError if it does not answer, ValueError if another program does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            unixsocket.connect(connection, path)
        except OSError as error:
            raise OSError(f"{path}: {error.strerror or error}") from None
        answer = json.loads(
            unixsocket.read_all(
                connection, max_bytes=_MAX_ANSWER, timeout_s=_TIMEOUT_S
            )
        )
    if not isinstance(answer, dict) or "ready" not in answer:
        raise ValueError(f"{path} is not the agent's socket")
    return answer


def exit_code(status: dict[str, Any]) -> int:
    """Return the exit code for STATUS."""
    if not status["ready"]:
        return NOT_READY
    if any(entry["error"] for entry in status["networks"].values()):
        return DEGRADED
    return OK


def render(status: dict[str, Any]) -> str:
    """Return STATUS as text for an operator."""
    word = "ready" if status["ready"] else "not ready"
    lines = [
        f"agent {status['version']} pid {status['pid']}: {word}, "
        f"chassis {status['chassis'] or 'not known yet'}"
    ]
    lines += [f"waiting: {why}" for why in status["waiting"].values()]
    lines += [f"problem: {text}" for text in status["problems"]]
    networks = status["networks"].items()
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
            lines.append(
                f"{network}: serves {entry['instances']} instances on "
                f"{', '.join(entry['addresses'])}"
            )
        lines += [f"  left out: {text}" for text in entry["conflicts"]]
        lines += _shares(entry)
    return "\n".join(lines)


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
