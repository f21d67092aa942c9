"""`agent-status why`: walk the path of an instance's metadata."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.codes import KINDS
from . import client

_EPILOG = """\
exit code: 0 the path is whole; 1 the agent does not answer; 3 broken; 4 not on
this host; 5 whole, with warnings; 64 wrong usage, or several ports are meant
"""
# Longer than all that the agent looks at may take.
_TIMEOUT_S = 25.0
# Verdict -> exit code; of several networks, the last one here counts.
_CODES = {
    "whole": client.OK,
    "unseen": client.WITH_PROBLEMS,
    "warnings": client.WITH_PROBLEMS,
    "not here": client.ABSENT,
    "ambiguous": client.USAGE,
    "broken": client.DEGRADED,
    "no answer": client.NO_ANSWER,
}
_WORDS = {"ok": "OK", "warn": "WARN", "fail": "FAIL", "unknown": "??"}
_INDENT = " " * 9  # the width of "[ WARN ] "
_WHOLE = {
    "whole": "The path is whole.",
    "warnings": "The path is whole, with warnings.",
    "unseen": "What could be seen of the path works.",
}


def main(socket: Path, argv: list[str]) -> int:
    """Ask the agent at SOCKET why; print it and return the exit code."""
    parser = client.Parser(
        prog="agent-status why",
        description="Walk the path of an instance's metadata, hop by hop, "
        "up to the first one that is broken. It changes nothing.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    what = "an instance, a port, an address or a network"
    parser.add_argument("name", nargs="?", default="", help=what)
    what = "one port of each network; in full only what is broken"
    parser.add_argument("--all", action="store_true", help=what)
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args(argv)
    if arguments.all == bool(arguments.name):
        parser.error("give one name, or --all")
    name = arguments.name.strip()
    is_name = name.isprintable() and 0 < len(name) <= client.MOST_NAME
    if arguments.name and not is_name:
        parser.error(f"{arguments.name!r:.60} is no name")
    question = {"why": name}
    try:
        answer = client.ask_handler(socket, question, timeout_s=_TIMEOUT_S)
    except (OSError, ValueError) as error:
        answer = _no_answer(error)
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(render(answer)))
    return exit_code(answer)


def _no_answer(error: Exception) -> dict[str, Any]:
    """Return the agent as the first broken hop."""
    code, remedy = "OVNMD-407", "systemctl start ovn-metadata-agent"
    if isinstance(error, PermissionError):
        remedy = "ask as root: use sudo"
    elif not isinstance(error, client.NOBODY):
        remedy = KINDS[code].remedy
    text = f"the agent does not answer: {error}"
    hop = {"step": "agent", "state": "fail", "text": text, "code": code}
    hops = [{**hop, "remedy": remedy, "detail": ""}]
    return {"verdict": "no answer", "name": "", "hops": hops, "behind": []}


def exit_code(answer: Mapping[str, Any]) -> int:
    """Return the exit code for ANSWER: of the worst network of several."""
    verdicts = [each["verdict"] for each in answer.get("networks", [answer])]
    verdicts += ["unseen"] * bool(answer.get("late"))
    return max(
        (_CODES[each] for each in verdicts),
        key=[*_CODES.values()].index,
        default=client.OK,
    )


def render(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of ANSWER for an operator."""
    if "networks" not in answer:
        yield from _render_one(answer)
        return
    verdicts = [each["verdict"] for each in answer["networks"]]
    for each in answer["networks"]:
        if each["verdict"] == "broken":
            yield from _render_one(each)
            continue
        word = _WORDS["ok" if each["verdict"] == "whole" else "warn"]
        yield (
            f"{f'[ {word} ]':9}network {each['network']}, instance "
            f"{each['instance']} at {each['address']}"
        )
        yield from _hops(each, ("warn",))
    yield (
        f"{len(verdicts)} networks, {verdicts.count('broken')} broken, "
        f"{verdicts.count('warnings')} with warnings; one port of each, and "
        f"the gateway answered in Nova's place"
    )
    if late := answer.get("late"):
        yield f"{late} more networks: there was no time to look at them"


def _render_one(one: Mapping[str, Any]) -> Iterator[str]:
    if "network" in one:
        instance, port = one["instance"], one["port"]
        who = f"instance {instance}" if instance else f"port {port}"
        yield (
            f"How {who} at {one['address']} on network {one['network']} gets "
            f"its metadata:"
        )
    yield from _hops(one, _WORDS)
    if one.get("behind"):
        yield f"Unknown, because it lies behind: {', '.join(one['behind'])}."
    if one["verdict"] in _WHOLE:
        yield _WHOLE[one["verdict"]]
    if hint := one.get("hint"):
        yield f"{hint['code']}: {hint['text']}"
        yield f"{_INDENT}see: {KINDS[hint['code']].link}"
    if one.get("candidates"):
        also = " also" * ("network" in one)
        yield f"{one['name']}{also} means these ports of this host:"
    for each in one.get("candidates", ()):
        yield (
            f"    port {each['port']} at {each['address']}, instance "
            f"{each['instance']}, network {each['network']}"
        )
    if one.get("commands"):
        yield "To look deeper (as root):"
        yield from (f"    {each}" for each in one["commands"])


def _hops(one: Mapping[str, Any], states: Collection[str]) -> Iterator[str]:
    for hop in one.get("hops", ()):
        code, state = hop["code"], hop["state"]
        if state not in states:
            continue
        named = f"{code}: " if code else ""
        word = f"[ {_WORDS[state]} ]"
        yield f"{word:9}{hop['step']}: {named}{hop['text']}"
        if hop["detail"]:
            yield f"{_INDENT}{hop['detail']}"
        if code:
            yield f"{_INDENT}do: {hop['remedy']}"
            yield f"{_INDENT}see: {KINDS[code].link}"
