"""The agent's status as text: what is wrong and what to do, then the rest."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...privsep import names
from ..core import health
from ..core.codes import KINDS
from ..haproxy.asks import SHIELD
from ..haproxy.counters import LIMITED

_RED, _GREEN, _YELLOW = 31, 32, 33
_COLOURS = {health.HEALTHY: _GREEN, health.WITH_PROBLEMS: _YELLOW}
_WORDS = {health.WITH_PROBLEMS: "served, with problems"}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def render(
    status: Mapping[str, Any], *, wide: bool = False, colour: bool = False
) -> str:
    """Return STATUS as text for an operator; WIDE: all that is known."""

    def paint(text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colour else text

    lines = [paint(headline(status), _COLOURS.get(status["health"], _RED))]
    reasons = {problem["reason"] for problem in status["problems"]}
    waiting = status["waiting"].values()
    lines += [f"waiting: {why}" for why in waiting if why not in reasons]
    for problem in status["problems"]:
        lines += _problem(problem, status["now"], paint)
    lines += ["", *_agent(status), ""]
    networks = status["networks"].items()
    shares = [entry["shares"] for _, entry in networks]
    if limited := sum(share.get(LIMITED, 0) for share in shares):
        lines.append(f"{limited} requests over metadata_rate_limiting (429)")
    # Failed ones first: a chassis may serve hundreds of networks.
    for network, entry in sorted(networks, key=lambda n: not n[1]["error"]):
        lines += _network(network, entry, status["now"], wide=wide)
    return "\n".join(lines)


def headline(status: Mapping[str, Any]) -> str:
    """Return the health of STATUS in one line."""
    word, counts = status["health"], status["counts"]
    return (
        f"{_WORDS.get(word, word)}: {counts['served']} of "
        f"{_count(counts['wanted'], 'network')} served"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def span(seconds: float) -> str:
    """Return SECONDS in words, as exact as one needs them."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _problem(
    problem: Mapping[str, Any], now: float, paint: Callable[[str, int], str]
) -> Iterator[str]:
    severity = problem["severity"]
    code = paint(
        f"{severity.upper()} {problem['code']}",
        _RED if severity == "error" else _YELLOW,
    )
    began = time.strftime("%d %b %H:%M:%S", time.localtime(problem["since"]))
    where = ""
    if network := problem["network"]:
        where = f", network {_called(network, problem['network_name'])}"
    yield (
        f"{code} {problem['title']}{where} "
        f"(since {began}, {span(now - problem['since'])})"
    )
    yield f"  {problem['reason']}"
    for caused in problem["explains"]:
        yield f"  because of it: {caused} {KINDS[caused].title}"
    yield f"  do: {problem['remedy']}"
    yield f"  see: {problem['link']}"


def _called(identity: str, name: str) -> str:
    return f"{identity} ({name})" if name else identity


def _agent(status: Mapping[str, Any]) -> Iterator[str]:
    now = status["now"]
    yield (
        f"agent: {status['version']}, pid {status['pid']}, up "
        f"{span(now - status['started'])}, {status['pace']}, chassis "
        f"{status['chassis'] or 'not known yet'}"
    )
    if registered := status.get("registration"):
        written = registered["heartbeat"]
        beat = "no heartbeat yet"
        if written is not None:
            beat = f"heartbeat {span(now - written)} ago"
        yield f"registration: {registered['agent_id']}, {beat}"
    yield f"OVN Southbound: {_database(status.get('southbound'), now)}"
    yield f"Open vSwitch: {_database(status.get('vswitch'), now)}"
    queue = status["queue"]
    if queue["length"]:
        yield (
            f"queue: {_count(queue['length'], 'network')}, the oldest for "
            f"{span(queue['oldest_s'])}"
        )
    if fleet := status.get("fleet"):
        yield f"supervisord: {_process(fleet['supervisord'], now)}"
    for server in status.get("nova", ()):
        latency, state = server["latency_ms"], server["state"]
        is_shown = state == "up" and latency is not None
        took = f", answers in {latency:.0f} ms" if is_shown else ""
        yield f"Nova: {server['address']} {state}{took}"


def _database(known: Mapping[str, Any] | None, now: float) -> str:
    if known is None:
        return "not connected yet"
    word = "connected" if known["connected"] else "DISCONNECTED"
    changed = span(now - known["changed"])
    return (
        f"{known['remote']} {word} for {span(now - known['since'])}, heard "
        f"{span(known['silent_s'])} ago, changed {changed} ago, "
        f"{known['rows']} rows"
    )


def _process(process: Mapping[str, Any], now: float) -> str:
    if not process["pid"]:
        return str(process["state"])
    restarts = process["restarts"]
    again = f", {restarts} restarts" if restarts else ""
    return (
        f"{process['state']}, pid {process['pid']}, up "
        f"{span(now - process['since'])}{again}"
    )


def _network(
    network: str, entry: Mapping[str, Any], now: float, *, wide: bool
) -> Iterator[str]:
    called = _called(network, entry["name"])
    if entry["error"]:
        yield (
            f"{called}: FAILED for {span(now - entry['since'])}, "
            f"{entry['code']}: {entry['error']}"
        )
    elif network == names.GATEWAY:
        yield "gateway: serves"
    else:
        why = f" ({entry['spare']})" if entry["spare"] else ""
        yield (
            f"{called}: serves {_count(entry['instances'], 'instance')} on "
            f"{', '.join(entry['addresses'])}{why}"
        )
    yield from (f"  left out: {text}" for text in entry["conflicts"])
    yield from _shares(entry)
    if wide:
        yield from _details(entry, now)


def _details(entry: Mapping[str, Any], now: float) -> Iterator[str]:
    process = entry["process"]
    if process:
        yield f"  haproxy: {_process(process, now)}"
        runs = process["digest"] or "not read yet"
        is_same = process["digest"] == entry["digest"]
        wanted = "as wanted" if is_same else f"wanted {entry['digest']}"
        yield f"  configuration: {runs}, {wanted}"
    yield (
        f"  reconciled {entry['reconciles']} times, failed "
        f"{entry['failures']}, repaired {entry['repairs']}"
    )
    for instance, port in entry["instance_names"].items():
        yield f"  instance {_called(instance, port and f'port {port}')}"


def _shares(entry: Mapping[str, Any]) -> Iterator[str]:
    for title, is_shield in (("over a share", False), ("shield", True)):
        if counts := ", ".join(
            f"{number} {what.replace('_', ' ')}"
            for what, number in entry["shares"].items()
            if number and (what in SHIELD) == is_shield
        ):
            yield f"  {title}: {counts}"
    for source in entry["over_share"]:
        port = entry["instance_names"].get(source, "")
        yield f"  over its share: {_called(source, port and f'port {port}')}"
