"""The last hops: haproxy, the map, the gateway, Nova, a real request."""

from collections.abc import Mapping
from typing import Any

from ...privsep import names
from .facts import Facts, Haproxy, Unseen, seen
from .hops import Hop, Judge

PATH = "/openstack/latest/meta_data.json"
_SLOW_MS = 2000
_CODES = {403: "504", 404: "506", 429: "305", 504: "508"}
_ANOTHER = (
    "this is not Nova: correct nova_metadata_host or nova_metadata_port and "
    "reload the agent"
)
_NO_HEADERS = "does a proxy before Nova remove X-Instance-ID? let it pass"


def supervisord(at: Judge, facts: Facts) -> Hop:
    """Judge supervisord, which starts and watches the haproxies."""
    programs, name = facts.common.programs, names.program_name(facts.key)
    if isinstance(programs, Unseen):
        at.warn(programs, programs.reason, code="OVNMD-302")
        return at.ok("")
    found = programs.get(facts.key, {})
    state = found.get("state", "GONE")
    is_bad = state not in ("RUNNING", "STARTING")
    at.fail(is_bad, f"{name} does not run: it is {state}")
    return at.ok(f"runs {name}, pid {found.get('pid')}")


def haproxy(at: Judge, facts: Facts) -> Hop:
    """Judge the network's haproxy and its configuration."""
    entry = facts.common.entry(facts.key)
    return at.ok(_haproxy(at, facts.haproxy, entry))


def gateway(at: Judge, facts: Facts) -> Hop:
    """Judge the gateway's haproxy and its configuration."""
    entry = facts.common.entry(names.GATEWAY)
    text = _haproxy(at, facts.common.gateway, entry)
    error, code = entry.get("error"), entry.get("code", "")
    at.warn(error, f"{error}; it serves as before", code=code)
    taken = facts.common.foreign_socket
    about_it = f"{taken} leads to another agent's socket"
    at.warn(taken, about_it, code="OVNMD-308")
    return at.ok(f"{text}; it listens at {facts.common.gateway_socket}")


def _haproxy(at: Judge, found: Haproxy, entry: Mapping[str, Any]) -> str:
    """Judge the haproxy FOUND by its status ENTRY; return how it works."""
    at.fail(not found.pid, f"it does not answer: {found.problem}")
    rendered = entry.get("digest")  # none before the agent has
    is_edited = rendered and found.in_file != rendered
    text = f"{found.config} is not what the agent has written"
    do = "do not edit it: the agent writes it again with its next pass"
    at.fail(is_edited or not found.in_file, text, do)
    is_old = found.running != found.in_file
    text = f"it runs on another text than {found.config}"
    at.fail(is_old, text, "the agent reloads it with its next pass")
    return (
        f"pid {found.pid} runs {found.config} as the agent wrote it (digest "
        f"{found.running[:12]})"
    )


def identity(at: Judge, facts: Facts) -> Hop:
    """Judge who the instance is for haproxy."""
    address, desired = facts.target.address, seen(facts.desired)
    owner = {str(a): o for a, o in desired.instances.items()}.get(address)
    if owner is None:
        rivals = [c for c in desired.conflicts if c.startswith(f"{address} ")]
        text = "; ".join(rivals) or f"no instance may use {address} alone"
        at.fail(address, text, code="OVNMD-203")
        return at.ok("")
    mine = [owner.instance, owner.project]
    for what, found in (
        (facts.map_file, facts.map_text),
        ("haproxy's memory", facts.map_memory),
    ):
        known = seen(found).get(address, "").split("|")
        text = f"{address} is {known[0] or 'nobody'} in {what}, not {mine[0]}"
        at.fail(known[:2] != mine, text)
    shield = ""
    if len(known) > 3:  # see `shield.entry`
        shield = f"; refuse_forwarded {known[2]}, tokens {known[3]}"
    return at.ok(
        f"{address} is instance {mine[0]} of project {mine[1]} in "
        f"{facts.map_file} and in haproxy's memory; no other port claims it"
        f"{shield}"
    )


def nova(at: Judge, facts: Facts) -> Hop:
    """Judge whether this host reaches Nova's metadata API."""
    tried = seen(facts.common.nova)
    bad = [each for each in tried if each.problem]
    told = "; ".join(f"{each.url}: {each.problem}" for each in bad)
    good = ", ".join(
        f"{each.url} ({each.address}, {each.took_ms:.1f} ms)"
        for each in tried
        if not each.problem
    )
    # The gateway is another process, and may reach what we do not.
    answers = not isinstance(facts.answer, Unseen) and (
        facts.answer["status"] < 500
    )
    if bad:
        at.fail(not good and not answers, told, code=bad[0].code)
        at.warn(bad, f"{told}; connected: {good or 'none'}")
    return at.ok(f"accepts connections: {good}")


def request(at: Judge, facts: Facts) -> Hop:
    """Judge the answer to a real request from inside the namespace."""
    answer = facts.answer
    asked = f"GET {facts.path} from inside, as {facts.target.address}"
    if isinstance(answer, Unseen):
        if not answer.code:
            return at.unknown(answer)
        do = (
            f"look for a firewall, or a routing rule: ip netns exec "
            f"{facts.space} nft list ruleset; ip -n {facts.space} rule"
        )
        do = do if answer.code == "OVNMD-306" else ""
        at.fail(answer, f"{asked}: {answer.reason}", do, code=answer.code)
        return at.ok("")
    who = "Nova" if facts.path == PATH else "the gateway"
    code, do = refusal(answer)
    text = (
        f"{asked}: {answer['status']}, {answer['body_bytes']} bytes, "
        f"connected in {answer['connect_ms']} ms, answered in "
        f"{answer['answer_ms']} ms"
    )
    text += ", a web page" * (code != "" and answer["status"] == 200)
    at.fail(code, text, do, code=code)
    at.warn(answer["answer_ms"] > _SLOW_MS, text)
    return at.ok(f"{text} by {who}")


def refusal(answer: Mapping[str, object]) -> tuple[str, str]:
    """Return the code of the problem behind ANSWER, and what to do.

    Either is "" if there is none, or nothing but what its kind advises.
    """
    status, head = int(str(answer["status"])), str(answer["head"]).lower()
    if status == 200:  # an error of Nova's may be a web page
        is_page = "content-type: text/html" in head
        return ("OVNMD-505", _ANOTHER) if is_page else ("", "")
    if status == 503 and "retry-after" in head:
        return "OVNMD-501", ""  # the gateway's
    is_other = status < 400 or status == 401
    do = _ANOTHER if is_other else _NO_HEADERS * (status == 400)
    return f"OVNMD-{_CODES.get(status, '505')}", do
