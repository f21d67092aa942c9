"""Limits that keep one instance from taking the service away from others.

These functions return parts of the configurations in `render`. A source is an
instance, whatever address it sends from. All addresses that belong to no
instance are one source together. A source is known as soon as it connects, so
its connections are limited before it sends anything.
"""

from pathlib import Path
from typing import NamedTuple

from ..config.settings import FairShare
from . import answers, asks, refusals

# The tables of the counters. In a network's haproxy, SOURCES: gpc0 is the
# connections that were refused, gpc1 the requests that were not logged, gpc2
# those over the rate limit; gpt0 is 1 if one of them is not 0; the next gpc
# are those of `asks`. In the gateway, INSTANCES: gpc0 is the requests that
# were sent to the greedy lane, gpc1 those that were refused.
SOURCES = asks.TABLE
INSTANCES = "instances"

# Connections at a time; more wait in the kernel. An idle one costs 1 kB, one
# that is busy two buffers of 16 kB, and one that never comes 160 bytes.
NETWORK_CONNECTIONS = 2048
GATEWAY_CONNECTIONS = 8192

# Rates are counted over this long: a boot sends its requests in a burst.
_WINDOW_S = 10
_RATE = f"conn_cur,http_req_rate({_WINDOW_S}s)"
# A source is forgotten this long after its last request. The agent reads the
# counters more often, and no lane is kept free for older sources.
_EXPIRE_S = 60
# The keys of tables, and how many entries a table has at most. An instance's
# id may have 255 letters.
_SOURCES = "string len 255 size 10k"
_INSTANCES = "string len 255 size 100k"
ADDRESSES = "ipv6 size 10k"
# More than Windows' password; less than a buffer of haproxy: haproxy has the
# whole body before it connects to Nova.
_SMALL_BODY = 8192
# So many instances can upload at the same time, each up to its limit.
_UPLOADERS = 4
# cloud-init gives up after 10 s.
_QUEUE_S = 9
# haproxy's stick counters; 0 and 1 of a network are the rate limit's.
SOURCE = 2
_CALLER = 1
COUNT_LIMITED = (f"sc-inc-gpc(2,{SOURCE})", f"sc-set-gpt0({SOURCE}) 1")
# Addresses of no instance: all of them together may have so many times the
# connections of an instance, and one of them this part of those.
_CALLERS = "callers"
_CALLERS_PER_INSTANCE = 2
_INSTANCE, _UPLOAD = 0, 1
# Variables of the gateway: an instance's id, and whether it is greedy.
_WHO = "var(txn.who)"
_IS_GREEDY = "{ var(txn.greedy) -m found }"
# Ids in the agent's own requests (hex: ovn-metadata-). They are not counted.
AGENT, NOBODY = "agent", "6f766e2d-6d65-7461-6461-74612d000000"
# A header of the agent's own requests: the server of Nova that is to answer.
# Without it haproxy may choose the same one each time.
SERVER = "X-OVN-Metadata-Server"
CHOSEN = "use-server %[var(txn.server)] if { var(txn.server) -m found }"
LANE, LONE_LANE = "nova", "nova-alone"
_GREEDY_LANE, _LONE_GREEDY_LANE = "greedy", "greedy-alone"
_UPLOAD_LANE = "uploads"
# The lines of a backend whose requests share connections to Nova. A server
# with few processes or threads may serve nobody else while one of them has an
# idle connection. So a connection is kept only while requests come at a rate
# (each second) at which a new one for each would cost more than that, and for
# some requests only: one instance can keep up that rate for ever. haproxy 2.6
# ignores max-reuse for HTTP/1.
_SHARED_RATE = 200
_SHARED_REQUESTS = 64  # on average
_SHARED = (
    "http-reuse always",
    "default-server pool-purge-delay 100ms",
    "http-request set-header Connection close "
    f"if {{ be_sess_rate lt {_SHARED_RATE} }} "
    f"|| {{ rand({_SHARED_REQUESTS}) eq 0 }}",
)
# And of one in which each has a connection of its own.
_ALONE = ("option http-server-close", "http-reuse never")
_NOT_NOW = "No Nova metadata API answers, or too many requests wait for one."
_LIMITED = (
    f"http-error {answers.text(503, _NOT_NOW)}",
    f"timeout queue {_QUEUE_S}s",
)
_UPLOADS = f"stick-table type {_INSTANCES} expire {_EXPIRE_S}s store conn_cur"
_TOO_MANY_UPLOADS = "Too many uploads at a time."


def connection_rules(share: FairShare, map_file: Path) -> list[str]:
    """Return the rules for connections to a network's haproxy.

    Connections over a source's limit are reset at once and not logged. One
    address of no instance may not take the places of the others: one of those
    may be that of an instance that boots.
    """
    known = f"src,map_str({map_file})"
    key = f"src,map_str({map_file},{asks.NOBODY}),field(1,|)"
    rules = [
        f"tcp-request connection track-sc{SOURCE} {key} table {SOURCES}",
        f"tcp-request connection track-sc{_CALLER} src table {_CALLERS} "
        f"unless {{ {known} -m found }}",
    ]
    if share.connections:
        source = f"{{ sc_conn_cur({SOURCE}) gt"
        caller = max(1, share.connections // _CALLERS_PER_INSTANCE)
        for over in (
            f"{source} {share.connections} }} {{ {known} -m found }}",
            f"{source} {share.connections * _CALLERS_PER_INSTANCE} }}",
            f"{{ sc_conn_cur({_CALLER}) gt {caller} }}",
        ):
            rules += [
                f"tcp-request connection {action} if {over}"
                for action in (
                    f"sc-inc-gpc0({SOURCE})",
                    f"sc-set-gpt0({SOURCE}) 1",
                    "reject",
                )
            ]
    return rules


def request_rules(share: FairShare) -> list[str]:
    """Return the rules for requests to a network's haproxy.

    A body that arrives slowly occupies only this haproxy. Requests wait for
    the gateway; those whose source has the fewest connections go first.
    """
    return [
        "option http-buffer-request",
        *_log_rules(share, SOURCE, counts=True),
        f"http-request set-priority-class sc_conn_cur({SOURCE})",
        *asks.rules(SOURCE),
    ]


def source_tables(more: int) -> str:
    """Return the tables of a network's sources, with MORE counters."""
    stored = f"{_RATE},{asks.STORED},gpc({asks.NEXT + more}),gpt0"
    sources = table(SOURCES, _SOURCES, asks.EXPIRE_S, stored)
    return sources + table(_CALLERS, ADDRESSES, _WINDOW_S, "conn_cur")


def gateway_rules(share: FairShare) -> tuple[list[str], list[str]]:
    """Return the gateway's rules for requests, and those that choose a lane.

    An instance is greedy if its rate of requests is over the limit; where Nova
    is slow, if it has many open ones. The only one is not slowed down. Else
    all greedy instances share a backend with few slots; the one with the
    fewest open requests is served first. A body too long for a buffer occupies
    a worker of Nova as long as its sender likes, so uploads have a lane of
    their own, of which each instance gets a part.
    """
    rules = [
        f"http-request track-sc{_INSTANCE} {_WHO} table {INSTANCES} "
        f"unless {{ {_WHO} -m str {AGENT} {NOBODY} }}",
        *_log_rules(share, _INSTANCE, counts=False),
        f"http-request set-priority-class sc_conn_cur({_INSTANCE})",
    ]
    switches: list[str] = []
    if share.uploads:
        over = f"if {{ sc_conn_cur({_UPLOAD}) gt {share.uploads} }}"
        rules += [
            f"acl upload req.body_size gt {_SMALL_BODY}",
            f"http-request track-sc{_UPLOAD} {_WHO} table {_UPLOAD_LANE} "
            "if upload",
            f"http-request sc-inc-gpc1({_INSTANCE}) {over}",
            answers.refuse(429, _TOO_MANY_UPLOADS, over),
        ]
        switches.append(f"use_backend {_UPLOAD_LANE} if upload")
    if share.greedy_rate:
        requests = share.greedy_rate * _WINDOW_S
        opened = max(1, share.greedy_requests // 2)
        rules += [
            f"acl greedy sc_http_req_rate({_INSTANCE}) gt {requests}",
            f"acl greedy sc_conn_cur({_INSTANCE}) gt {opened}",
            f"acl others table_cnt({INSTANCES}) gt 1",
            "http-request set-var(txn.greedy) bool(true) if greedy others",
            f"http-request sc-inc-gpc0({_INSTANCE}) if {_IS_GREEDY}",
        ]
        switches += [
            f"use_backend {_GREEDY_LANE} if {_IS_GREEDY} {refusals.PLAIN}",
            f"use_backend {_LONE_GREEDY_LANE} if {_IS_GREEDY}",
        ]
    return rules, switches


class Lane(NamedTuple):
    """A backend of the gateway for some of the requests."""

    name: str
    requests: int  # at the same time; 0: any number
    lines: tuple[str, ...]  # without its servers


def lanes(share: FairShare) -> list[Lane]:
    """Return the gateway's lanes."""
    found = [Lane(LANE, 0, _SHARED), Lane(LONE_LANE, 0, _ALONE)]
    if share.uploads:
        lines = (*_LIMITED, *_ALONE, _UPLOADS)
        found.append(Lane(_UPLOAD_LANE, share.uploads * _UPLOADERS, lines))
    if share.greedy_rate:
        requests = share.greedy_requests
        found += [
            Lane(_GREEDY_LANE, requests, (*_LIMITED, *_SHARED)),
            Lane(_LONE_GREEDY_LANE, requests, (*_LIMITED, *_ALONE)),
        ]
    return found


def instance_table() -> str:
    """Return the table of the gateway's instances."""
    return table(INSTANCES, _INSTANCES, _EXPIRE_S, f"{_RATE},gpc0,gpc1")


def _log_rules(share: FairShare, counter: int, *, counts: bool) -> list[str]:
    """Return the rules that keep one source from filling the log.

    haproxy logs a request that it can't parse before any rule, at level
    "info". Our log does not take that level, so all others get a higher one.
    """
    rules = ["http-request set-log-level notice"]
    if share.logged_rate:
        requests = share.logged_rate * _WINDOW_S
        many = f"if {{ sc_http_req_rate({counter}) gt {requests} }}"
        if counts:
            rules += [
                f"http-request sc-inc-gpc1({counter}) {many}",
                f"http-request sc-set-gpt0({counter}) 1 {many}",
            ]
        rules.append(f"http-request set-log-level silent {many}")
    return rules


def table(name: str, entries: str, expire_s: int, stored: str) -> str:
    """Return the table NAME, a backend of its own; ENTRIES: keys and size."""
    return f"""
backend {name}
    stick-table type {entries} expire {expire_s}s store {stored}
"""
