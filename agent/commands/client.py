"""Ask the agent over its status socket: what `agent-status` builds on."""

import argparse
import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from .. import unixsocket
from ..config import options
from ..errors import AgentError
from ..monitor.status import SCHEMA

DEFAULT_SOCKET = Path("/var/lib/neutron/ovn-metadata-agent.sock")
_MAX_SHOWN = 1000  # characters
MOST_NAME = 255  # characters; Neutron's names have no more
_MAX_ANSWER = 64 * 1024 * 1024  # bytes

OK = 0
NO_ANSWER = 1
NOT_READY = 2
DEGRADED = 3
ABSENT = 4
WITH_PROBLEMS = 5
USAGE = 64  # EX_USAGE, <sysexits.h>
# These errors mean that no agent runs. With any other one it may run.
NOBODY = (FileNotFoundError, ConnectionRefusedError)


class Parser(argparse.ArgumentParser):
    """Answers a wrong argument with one line, the usage and exit code 64."""

    def error(self, message: str) -> NoReturn:
        """Exit with a code that means no state of the agent."""
        line = printable(message)
        self.exit(
            USAGE, f"{self.prog}: {line}; see --help\n{self.format_usage()}"
        )


def printable(text: str) -> str:
    """Return TEXT on one line that no terminal obeys, cut if it is long.

    An argument may have anything in it, and may not be UTF-8.
    """
    line = " ".join(text[:_MAX_SHOWN].split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return f"{line}..." if len(text) > _MAX_SHOWN else line


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return VALUE, of the types of JSON, with CHANGE made to each text."""
    if isinstance(value, dict):
        return {change(k): each_text(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [each_text(one, change) for one in value]
    return change(value) if isinstance(value, str) else value


def _visible(text: str) -> str:
    """Return TEXT without what a terminal would obey.

    Other hosts and projects write names into OVN's databases.
    """
    visible = (c if c.isprintable() else "?" for c in text)
    return text if text.isprintable() else "".join(visible)


def source_options() -> Parser:
    """Return a parser, for `parents=`, of the options that find the socket."""
    parser = Parser("agent-status", add_help=False, allow_abbrev=False)
    parser.add_argument("--socket", type=Path, help="the agent's socket")
    for name, what in (
        ("--config-file", "the agent's configuration, if in another file"),
        ("--config-dir", "the same, for a folder of such files"),
    ):
        parser.add_argument(name, action="append", default=[], help=what)
    return parser


def config_arguments(arguments: argparse.Namespace) -> list[str]:
    """Return those of ARGUMENTS that name configuration files."""
    files = [f"--config-file={name}" for name in arguments.config_file]
    return files + [f"--config-dir={name}" for name in arguments.config_dir]


def find_socket(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Return the socket that ARGUMENTS name, and what to say if it is silent.

    It is the usual one if the configuration can't be used: an agent that
    started before it was edited still runs, and a user who may not read the
    secret may still ask.
    """
    if arguments.socket is not None:
        return arguments.socket, ""
    argv = config_arguments(arguments)
    try:
        return options.status_socket(argv), ""
    except AgentError as error:
        return DEFAULT_SOCKET, f"configuration: {printable(str(error))}"


def ask(
    path: Path,
    question: Mapping[str, Any] | None = None,
    *,
    timeout_s: float,
) -> dict[str, Any]:
    """Return the status of the agent at PATH, or its answer to QUESTION.

    Raises OSError if it does not answer, ValueError if another program does.
    """
    answer = _ask(path, question, timeout_s)
    if "ready" not in answer:
        raise _not_the_agents(path)
    if answer.get("schema") != SCHEMA:
        raise ValueError("it has another version: restart it")
    return answer


def ask_handler(
    path: Path, question: Mapping[str, Any], *, timeout_s: float
) -> dict[str, Any]:
    """Return what a handler of the agent at PATH answers to QUESTION.

    Raises OSError if the agent does not answer, ValueError with a sentence
    if the handler failed or another program answers.
    """
    answer = _ask(path, question, timeout_s)
    if isinstance(answer.get("error"), str):
        raise ValueError(answer["error"])
    if "ready" in answer:
        raise ValueError("the agent is older than this program: restart it")
    return answer


def _ask(
    path: Path, question: Mapping[str, Any] | None, timeout_s: float
) -> dict[str, Any]:
    line = json.dumps(question).encode() + b"\n"
    try:
        text = unixsocket.exchange(
            path, line, max_bytes=_MAX_ANSWER, timeout_s=timeout_s
        )
    except OSError as error:
        if isinstance(error, TimeoutError) and error.errno is None:
            late = f"no answer within {timeout_s:g} s"
            raise TimeoutError(late) from None
        why = f"{printable(str(path))}: {error.strerror or error}"
        if isinstance(error, PermissionError):
            why += "; only root and the agent's group may ask: use sudo"
        raise type(error)(why) from None
    if not text:
        raise ConnectionError("it closed the connection; its log says why")
    answer: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        answer = each_text(json.loads(text), _visible)
    if not isinstance(answer, dict):
        raise _not_the_agents(path)
    return answer


def _not_the_agents(path: Path) -> ValueError:
    return ValueError(f"{printable(str(path))} is not the agent's socket")
