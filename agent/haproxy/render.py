"""Render the configurations of the networks' haproxies and the gateway's.

Each has the digest of its text as its `description`. The running haproxy
reports that on its stats socket, so the agent can find out which configuration
it runs, even after the agent has restarted.
"""

import dataclasses
import hashlib
import os.path
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...privsep import names
from ..config.settings import NovaServer, RateLimit, Settings
from . import (
    answers,
    asks,
    counters,
    inside,
    limits,
    refusals,
    shield,
    unknown,
)
from .places import Places

# Neutron's tag and facility: deployments sort their logs by them.
_LOG_TAG = "haproxy-metadata-proxy"
# Timers, status, bytes and termination state, as in haproxy's own format for
# HTTP.
_TIMES = "%TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc"
# What an instance could forge, and our rules add. WSGI servers read _ as -.
_FORGED = f"^([^a-z0-9]*x[^a-z0-9]|forwarded$|{refusals.TRACE}$)"
# The network's haproxy makes a request's id, whatever an instance sends. The
# gateway makes one only for a client of its socket that sends none.
_NEW_ID = "req-%[uuid()]"
_ID = "'^req-[-0-9a-f]{36}$'"
# What an instance's id is made of. The last one of each is logged as it is.
_WHO = "'^[A-Za-z0-9_.:-]+$'"
# The gateway makes this one of the digits of the id: only Nova reads it.
_DIGITS = [
    f"%[var(txn.id),bytes({at},{size})]"
    for at, size in ((4, 8), (13, 4), (18, 4), (23, 4), (28, 12))
]
_TRACE = f"00-{''.join(_DIGITS)}-{_DIGITS[-1]}0001-01"
_REASON = "%{+Q}[var(txn.why)]"
# Besides two for each connection: listeners, checks, threads.
_MORE_DESCRIPTORS = 600
# Requests that it sends to the gateway at the same time; more wait. Those over
# kept connections and the others are counted apart.
_NETWORK_REQUESTS = 512
_NETWORK_KEPT = 63  # connections without a request that it keeps
# cloud-init gives up after 10 s, and three attempts take less than that.
_NOVA_CONNECT_S = 3
_NOVA_RETRIES = 2
# Retries take no time: supervisord holds the gateway's socket when a gateway
# dies. Each gateway that dies with the request in its hands takes one.
_GATEWAY_RETRIES = 8
_CHECK = "check inter 2s fastinter 500ms fall 2 rise 1"
_HARD_STOP_S = 60
_NO_IDENTITY = "The request has no identity."
_WITHOUT_IDENTITY = (
    "unless { var(txn.who) -m found } "
    "{ req.fhdr(X-Instance-ID-Signature) -m found }"
)
_TOO_MANY = "Too many requests."
_TRACK = f"track {limits.LANE}/nova{{}}"

# haproxy's own exporter answers Prometheus, in the working folder.
_EXPORTER = """
frontend metrics
    bind unix@metrics.sock mode 600
    # With "no log" haproxy would warn that it has no use for the log-format.
    http-request set-log-level silent
    http-request use-service prometheus-exporter if { path /metrics }
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Rendered:
    """A configuration's text and the digest in it."""

    text: str
    digest: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """How to speak https with Nova."""

    insecure: bool  # its certificate is not checked
    authority: Path | None  # PEM; None: the system's authorities
    client: Path | None  # PEM, the gateway's certificate and its key
    store: str = ""  # what changes with the system's authorities


def render_network(
    network: str,
    *,
    places: Places,
    settings: Settings,
    ipv6: bool,
) -> Rendered:
    """Return the configuration of the haproxy of NETWORK.

    It looks up the instance by the source address in the map, as a string:
    as addresses, haproxy would match 2002:0a00:0005::/48 with 10.0.0.5. It
    removes headers that an instance could forge and passes the rest on to the
    gateway unchanged.
    """
    listeners = [names.LISTENER_V4, names.LISTENER_V6]
    # Without `proto h1` haproxy would speak HTTP/2 to a client that does.
    binds = [f"bind fd@{number} proto h1" for number in listeners[: 1 + ipv6]]
    identity = f"{unknown.ADDRESS},map_str({places.map(network)})"
    gateway = f"unix@{places.gateway_socket}"
    rate_rules, rate_tables = _rate_limit(settings.rate_limit)
    share = settings.fair_share
    shielded = shield.is_on(settings.shield, network)
    body = f"""
{_head(network, places, settings)}
    timeout tarpit {unknown.TARPIT_S}s

frontend metadata
    log-format "%ci:%cp [%tr] %ID {_TIMES} {_REASON} %{{+Q}}r"
    # At the metadata addresses; supervisord holds these sockets.
{_block(binds)}
    tcp-request connection set-var(sess.inside) bool(true) if {inside.SOURCE}
    tcp-request connection expect-proxy layer4 if {inside.SOURCE}
    tcp-request connection accept if {inside.SOURCE}
{_block(limits.connection_rules(share, places.map(network)))}
    {unknown.SET_ADDRESS}
{_block([*limits.request_rules(share), *shielded * shield.frontend_rules()])}
    http-request set-var(txn.identity) {identity}
    http-request del-header {_FORGED} -m reg
    unique-id-format {_NEW_ID}
    unique-id-header {refusals.REQUEST_ID}
    http-after-response set-header {refusals.REQUEST_ID} %[unique-id]
    {answers.RULE}
    http-request set-log-level silent if {inside.CONDITION}
    use_backend hold unless {{ var(txn.identity) -m found }}
    default_backend gateway

backend gateway
{_block([*rate_rules, f"http-request del-header {unknown.ASKED}"])}
    http-request set-header {unknown.ASKED} {inside.ALIVE} \
if {inside.CONDITION} {{ path {inside.ALIVE_PATH} }}
    http-request add-header X-Forwarded-For %[{unknown.ADDRESS}]
    http-request add-header X-Instance-ID %[var(txn.identity),field(1,|)]
    http-request add-header X-Tenant-ID %[var(txn.identity),field(2,|)]
    http-request add-header X-Instance-ID-Signature \
%[var(txn.identity),field(-1,|)]
    http-reuse always
{_block(_retries(_GATEWAY_RETRIES) + shielded * shield.backend_rules())}
    # The gateway's haproxy closes a connection that it knows without an answer
    # if Nova gives none. Then a GET is sent again, over a new connection, on
    # which it is answered. Anything else is sent once: over a new one.
    use-server kept if METH_GET
    server kept {gateway} maxconn {_NETWORK_REQUESTS} \
pool-max-conn {_NETWORK_KEPT} weight 0
    server once {gateway} maxconn {_NETWORK_REQUESTS} pool-max-conn 0
{unknown.sections(identity, gateway, network, shielded=shielded)}\
{limits.source_tables(len(asks.SHIELD) * shielded)}{rate_tables}"""
    return _with_digest(body)


def render_gateway(
    *,
    places: Places,
    nova: Sequence[NovaServer],
    tls: Tls | None,
    settings: Settings,
    socket_mode: str,
) -> Rendered:
    """Return the configuration of the gateway's haproxy.

    It passes requests with an identity on to one of the servers NOVA, by
    https if there is TLS. Without any server it answers 503. Plain requests of
    all instances share connections at high rates (see `limits`). One that is
    not plain (see `refusals`) has a connection of its own, closed after it.
    All servers get one Host: haproxy sets it before it chooses. SOCKET_MODE is
    octal, as haproxy expects it.
    """
    share = settings.fair_share
    # Linux accepts no more than 107 bytes as a socket's path.
    work = places.work_folder(names.GATEWAY)
    public = os.path.relpath(places.public_socket, work)
    lanes = "".join(_lane(lane, nova, tls) for lane in limits.lanes(share))
    rules, switches = limits.gateway_rules(share)
    exporter = _EXPORTER if settings.gateway_metrics else ""
    body = f"""
{_head(names.GATEWAY, places, settings)}
    log-format "%{{+Q}}[var(txn.id)] %{{+Q}}[var(txn.who)] {_TIMES} %s \
{_REASON} %{{+Q}}r"

frontend metadata
    # supervisord connects to see if this accepts: not an incomplete request.
    option http-ignore-probes
    # The networks' haproxies connect here; supervisord holds this socket.
    bind fd@0 proto h1
    bind unix@{public} proto h1 mode {socket_mode} \
backlog {settings.backlog}
    http-request set-var(txn.who) req.fhdr(X-Instance-ID) \
if {{ req.fhdr(X-Instance-ID,-1) -m reg {_WHO} }}
    http-request set-var(txn.server) req.fhdr({limits.SERVER})
    http-request set-header {refusals.REQUEST_ID} {_NEW_ID} \
unless {{ req.fhdr({refusals.REQUEST_ID},-1) -m reg {_ID} }}
    http-request set-var(txn.id) req.fhdr({refusals.REQUEST_ID})
    {answers.RULE}
{_block(unknown.gateway_rules(places.confirmed))}
    {answers.refuse(404, _NO_IDENTITY, _WITHOUT_IDENTITY)}
{_block(rules)}
{_block(refusals.rules(settings.nova.authority))}
    http-request add-header {refusals.TRACE} {_TRACE} \
unless {{ req.fhdr({refusals.TRACE}) -m found }}
    {answers.GOOD}
    http-response set-header {answers.REASON} "Nova answered with an error." \
if {{ status ge 400 }}
    http-response set-header {answers.REASON} "Nova refused the signature." \
if {{ status 403 }}
    http-response set-header {answers.REASON} \
"Nova has nothing at this path for this instance." if {{ status 404 }}
    {counters.COUNT_REFUSED}
{_block(switches)}
    use_backend {limits.LONE_LANE} unless {refusals.PLAIN}
    default_backend {limits.LANE}
{lanes}{limits.instance_table()}{exporter}"""
    return _with_digest(body)


def _block(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _with_digest(body: str) -> Rendered:
    body = body.lstrip("\n")
    digest = hashlib.sha256(body.encode()).hexdigest()
    text = body.replace("global\n", f"global\n    description {digest}\n", 1)
    return Rendered(text=text, digest=digest)


def digest_of(text: str) -> str:
    """Return the digest in the configuration TEXT; "" if it is not right."""
    digest = text.partition("description ")[2].partition("\n")[0].strip()
    body = text.replace(f"    description {digest}\n", "", 1)
    is_right = digest == hashlib.sha256(body.encode()).hexdigest()
    return digest if is_right else ""


def _head(network: str, places: Places, settings: Settings) -> str:
    """Return what comes before all rules of NETWORK (or "gateway").

    haproxy takes fewer connections where it may not open as many descriptors.
    With a `maxconn` it would not start there. Nothing below "notice" is
    logged: see `limits`.
    """
    timeouts, threads = settings.timeouts, 1
    connect_s, pages = timeouts.connect_s, answers.NETWORK
    connections = limits.NETWORK_CONNECTIONS
    if network == names.GATEWAY:
        connect_s, pages = min(connect_s, _NOVA_CONNECT_S), answers.GATEWAY
        connections = limits.GATEWAY_CONNECTIONS
        threads = settings.gateway_threads
    return f"""\
global
    log {places.log} local0 notice
    log-tag {_LOG_TAG}-{network}
    fd-hard-limit {2 * connections + _MORE_DESCRIPTORS}
    nbthread {threads}
    stats socket unix@{places.stats(network).name} mode 666 level admin
    stats timeout 10s
    # Each of our patterns costs less than to look for it in haproxy's cache.
    tune.pattern.cache-size 0
    # A thread that wants another's idle connections may spin for milliseconds.
    tune.idle-pool.shared off
    # It makes no request of its own: no need to load all authorities for that.
    httpclient.ssl.verify none
    # After a reload or a takeover the old process still has the old map.
    hard-stop-after {_HARD_STOP_S}s
# Nothing uses it. haproxy would make one itself, and wake for it each second.
resolvers default
    nameserver none 127.0.0.1:53
    timeout resolve 24h

defaults
    mode http
    log global
    option dontlognull
    # By default haproxy 3.4 refuses a client that closes its side (`nc -N`).
    no option abortonclose
    timeout connect {connect_s}s
    timeout client {timeouts.client_s}s
    timeout server {timeouts.server_s}s
    timeout http-request {timeouts.http_request_s}s
    timeout http-keep-alive {timeouts.http_keep_alive_s}s

{_block(answers.pages(pages))}"""


def _retries(count: int) -> list[str]:
    """Return the lines that hide a restart of the server from the client.

    A GET that got no answer at all is sent again.
    """
    return [
        f"retries {count}",
        "option redispatch 1",
        "retry-on conn-failure empty-response",
        "http-request disable-l7-retry unless METH_GET",
    ]


def _rate_limit(limit: RateLimit) -> tuple[list[str], str]:
    """Return the rules that refuse some requests, and their tables.

    Requests are counted by address, in two windows. A refused request does
    not count, so a client that does not slow down gets as many answers as one
    that does. The IP version of a request is that of the metadata address it
    was sent to. An IPv4 address is stored in the table as a mapped one.
    """
    if not limit.enabled:
        return [], ""
    which = f"if !{inside.CONDITION}"
    if limit.ip_versions == (4,):
        which += f" {{ dst {names.METADATA_ADDRESS_V4} }}"
    if limit.ip_versions == (6,):
        which += f" {{ dst {names.METADATA_ADDRESS_V6} }}"
    windows = (
        ("base", limit.base_window_s, limit.base_requests),
        ("burst", limit.burst_window_s, limit.burst_requests),
    )
    track, refuse, count, tables = [], [], [], ""
    for number, (table, seconds, requests) in enumerate(windows):
        track.append(f"track-sc{number} src table {table} {which}")
        many = f"if {{ sc_gpc0_rate({number},{table}) ge {requests} }}"
        answer = answers.text(429, _TOO_MANY, retry_after_s=seconds)
        refuse += [f"{counts} {many}" for counts in limits.COUNT_LIMITED]
        refuse.append(f"return {answer} {many}")
        count.append(f"sc-inc-gpc0({number})")
        stored = f"gpc0_rate({seconds}s)"
        tables += limits.table(table, limits.ADDRESSES, seconds, stored)
    rules = [f"http-request {rule}" for rule in track + refuse + count]
    return rules, tables


def _lane(
    lane: limits.Lane, nova: Sequence[NovaServer], tls: Tls | None
) -> str:
    more = ""
    if len(nova) > 1:
        more = _CHECK if lane.name == limits.LANE else _TRACK
    if lane.requests:
        limit = max(1, lane.requests // max(1, len(nova)))
        more = f"maxconn {limit} {more}".rstrip()
    elif len(nova) == 1:
        # haproxy waits for a second before it tries the same server again,
        # and tries another one at once.
        nova = [*nova] * 2
    lines = [
        "balance leastconn",
        *lane.lines,
        *_retries(_NOVA_RETRIES),
        *[limits.CHOSEN] * (lane.name == limits.LANE),
        *(_server(*each, tls, more) for each in enumerate(nova)),
    ]
    return f"\nbackend {lane.name}\n{_block(lines)}\n"


def _server(
    number: int, server: NovaServer, tls: Tls | None, more: str
) -> str:
    """Return the line for SERVER, with MORE, in which {} is its NUMBER."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    words = [f"server nova{number} {host}:{server.port}"]
    if tls is not None:
        words.append("ssl")
        if tls.insecure:
            words.append("verify none")
        else:
            # @system-ca needs haproxy 2.6, the oldest that is supported.
            authority = tls.authority or "@system-ca"
            words.append(f"verify required ca-file {authority}")
            if server.name:
                words.append(f"verifyhost {server.name}")
        if server.name:
            words.append(f"sni str({server.name}) check-sni {server.name}")
        else:
            # By default haproxy 3.4 wants the address in the certificate.
            words.append("sni var(txn.none)")
        if tls.client is not None:
            words.append(f"crt {tls.client}")
    if more:
        words.append(more.format(number))
    if tls is not None and tls.store:
        # haproxy reads them at its start: another text makes it start again.
        words.append(f"# {tls.store}")
    return " ".join(words)
