"""haproxy's configurations: what an instance can't forge, digests, TLS."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ovn_metadata.agent.config.settings import (
    FairShare,
    NovaServer,
    RateLimit,
    Timeouts,
)
from ovn_metadata.agent.core.codes import DOCS
from ovn_metadata.agent.haproxy import answers, inside
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.render import (
    Rendered,
    Tls,
    render_gateway,
    render_network,
)
from ovn_metadata.agent.haproxy.unknown import ADDRESS, ASKED, SET_ADDRESS

from ..config.test_options import DEFAULTS

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
PLACES = Places(Path("/var/x"), Path("/state"), Path("/var/pids"))
TIMEOUTS = Timeouts(30, 32, 33, 29, 28)
NOVA = (NovaServer("10.0.0.1", 8775),)


SETTINGS = dataclasses.replace(
    DEFAULTS,
    nova=dataclasses.replace(DEFAULTS.nova, hosts=(("nova", None),)),
    workers=3,
    timeouts=TIMEOUTS,
    fair_share=FairShare(
        connections=128,
        uploads=2,
        greedy_rate=50,
        greedy_requests=4,
        logged_rate=20,
    ),
)


def network(
    *,
    ipv6: bool = True,
    **options: Any,
) -> Rendered:
    return render_network(
        NETWORK,
        places=PLACES,
        settings=dataclasses.replace(SETTINGS, **options),
        ipv6=ipv6,
    )


def gateway(
    nova: Sequence[NovaServer] = NOVA,
    *,
    tls: Tls | None = None,
    **options: Any,
) -> Rendered:
    return render_gateway(
        places=PLACES,
        nova=nova,
        tls=tls,
        settings=dataclasses.replace(SETTINGS, **options),
        socket_mode="666",
    )


def lines_of(rendered: Rendered) -> list[str]:
    return [line.strip() for line in rendered.text.splitlines()]


BOTH = pytest.mark.parametrize("render", [network, gateway])


@BOTH
def test_the_description_is_the_digest_of_all_the_rest(render):
    rendered = render()
    line = f"    description {rendered.digest}\n"
    assert rendered.text.count(line) == 1
    rest = rendered.text.replace(line, "")
    assert hashlib.sha256(rest.encode()).hexdigest() == rendered.digest


@BOTH
@pytest.mark.parametrize(
    "name", [f.name for f in dataclasses.fields(Timeouts)]
)
def test_another_timeout_is_another_digest(render, name):
    changed = dataclasses.replace(TIMEOUTS, **{name: 2})
    assert render(timeouts=changed).digest != render().digest
    words = name.removesuffix("_s").replace("_", "-")
    assert f"timeout {words} 2s" in lines_of(render(timeouts=changed))


def test_what_can_be_forged_is_removed_before_anything_is_set():
    text = lines_of(network())
    headers = [line for line in text if "-header" in line]
    assert headers[:3] == [
        "http-request del-header "
        "^([^a-z0-9]*x[^a-z0-9]|forwarded$|traceparent$) -m reg",
        "unique-id-header X-OpenStack-Request-ID",
        "http-after-response set-header X-OpenStack-Request-ID %[unique-id]",
    ]
    backend = text[text.index("backend gateway") :]
    backend = backend[: backend.index("backend hold")]
    assert [line for line in backend if "-header" in line] == [
        f"http-request del-header {ASKED}",
        f"http-request set-header {ASKED} alive if {inside.CONDITION} "
        f"{{ path {inside.ALIVE_PATH} }}",
        f"http-request add-header X-Forwarded-For %[{ADDRESS}]",
        *(
            f"http-request add-header X-{name} "
            f"%[var(txn.identity),field({number},|)]"
            for number, name in (
                (1, "Instance-ID"),
                (2, "Tenant-ID"),
                (-1, "Instance-ID-Signature"),
            )
        ),
    ]


def test_the_agents_own_requests_come_before_all_limits():
    text = [line for line in lines_of(network()) if line.startswith("tcp-")]
    source = "if { src 169.254.169.254 fe80::a9fe:a9fe }"
    assert text[:3] == [
        f"tcp-request connection set-var(sess.inside) bool(true) {source}",
        f"tcp-request connection expect-proxy layer4 {source}",
        f"tcp-request connection accept {source}",
    ]
    (alive,) = [line for line in lines_of(gateway()) if "status 200" in line]
    assert alive.endswith(" if { var(txn.asked) -m str alive }")


def test_an_unknown_address_gets_no_further():
    text = lines_of(network())
    identity = f"{ADDRESS},map_str({PLACES.map(NETWORK)})"
    assert text.count(SET_ADDRESS) == 2
    assert f"http-request set-var(txn.identity) {identity}" in text
    known = "{ var(txn.identity) -m found }"
    hold = text.index(f"use_backend hold unless {known}")
    assert text[hold + 1] == "default_backend gateway"
    again = text[text.index("frontend again") :]
    assert (
        f"tcp-request content set-var(txn.identity) {identity} if WAIT_END"
        in again
    )
    held = again.index(f"use_backend gateway if {known}")
    assert again[held + 1] == "default_backend strangers"


def test_the_gateway_answers_a_request_without_identity_itself():
    rules = [
        line
        for line in lines_of(gateway())
        if " return status 404 " in line and "txn.asked" not in line
    ]
    assert len(rules) == 1
    assert rules[0].endswith(
        " unless { var(txn.who) -m found } "
        "{ req.fhdr(X-Instance-ID-Signature) -m found }"
    )


def test_a_nova_that_is_down_is_a_503_with_retry_after():
    found = [
        line
        for line in lines_of(gateway())
        if line.startswith("http-error status 503")
    ]
    assert len(found) == 4  # Nova's, and each lane's
    for line in found:
        assert line.endswith(" hdr Retry-After 1")


@pytest.mark.parametrize(("connect_s", "expected"), [(1, 1), (3, 3), (30, 3)])
def test_nova_has_to_connect_before_cloud_init_gives_up(connect_s, expected):
    timeouts = dataclasses.replace(TIMEOUTS, connect_s=connect_s)
    line = f"timeout connect {expected}s"
    assert line in lines_of(gateway(timeouts=timeouts))


def test_listens_on_what_it_is_given_alone():
    binds = [line for line in lines_of(network()) if line.startswith("bind")]
    own = "bind unix@again.sock accept-proxy mode 600"
    assert binds == ["bind fd@3 proto h1", "bind fd@4 proto h1", own]
    ipv4 = lines_of(network(ipv6=False))
    binds.remove("bind fd@4 proto h1")
    assert [line for line in ipv4 if line.startswith("bind")] == binds


def test_haproxys_own_exporter_is_in_the_gateway_if_wanted():
    rule = "http-request use-service prometheus-exporter if { path /metrics }"
    assert rule not in lines_of(gateway())
    lines = lines_of(gateway(gateway_metrics=True))
    assert rule in lines
    assert "bind unix@metrics.sock mode 600" in lines


def test_both_meet_at_the_gateways_socket():
    servers = [each.split() for each in lines_of(network())]
    where = {each[2] for each in servers if each[:1] == ["server"]}
    assert "unix@/var/x/gateway.sock" in where
    assert "bind fd@0 proto h1" in lines_of(gateway())
    assert (
        "bind unix@../../socket/metadata_proxy proto h1 "
        "mode 666 backlog 4096" in lines_of(gateway())
    )
    assert "nbthread 3" in lines_of(gateway())


def test_each_has_its_own_files():
    paths = [
        place(name)
        for place in (PLACES.config, PLACES.map, PLACES.pid, PLACES.stats)
        for name in (NETWORK, "gateway")
    ]
    assert len(set(paths)) == len(paths)
    assert "stats socket unix@stats.sock mode 666 level admin" in (
        lines_of(network())
    )


CA = Path("/etc/ca.pem")
CERT = Path("/etc/client.pem")


@pytest.mark.parametrize(
    ("nova", "tls", "servers"),
    [
        pytest.param(
            [("10.0.0.1", "")], None, ["10.0.0.1:8775"], id="http, an address"
        ),
        pytest.param(
            [("fd00::1", "nova")],
            None,
            ["[fd00::1]:8775"],
            id="an IPv6 address stands in brackets",
        ),
        pytest.param(
            [("10.0.0.1", ""), ("10.0.0.2", "b")],
            None,
            [
                f"10.0.0.{number}:8775 "
                "check inter 2s fastinter 500ms fall 2 rise 1"
                for number in (1, 2)
            ],
            id="several are checked",
        ),
        pytest.param(
            [("10.0.0.1", "nova")],
            Tls(False, None, None),
            [
                "10.0.0.1:8775 ssl verify required "
                "ca-file @system-ca verifyhost nova sni str(nova)"
                " check-sni nova"
            ],
            id="https trusts the system",
        ),
        pytest.param(
            [("10.0.0.1", "")],
            Tls(False, CA, CERT),
            [
                "10.0.0.1:8775 ssl verify required "
                "ca-file /etc/ca.pem sni var(txn.none) crt /etc/client.pem"
            ],
            id="https to an address, with certificates: no name to check",
        ),
        pytest.param(
            [("10.0.0.1", "nova")],
            Tls(True, CA, None),
            ["10.0.0.1:8775 ssl verify none sni str(nova) check-sni nova"],
            id="insecure as asked",
        ),
        pytest.param([], None, [], id="no address is known"),
    ],
)
def test_servers(nova, tls, servers):
    addresses = [NovaServer(address, 8775, name) for address, name in nova]
    rendered = gateway(addresses, tls=tls)
    found = servers_of(rendered, "nova") + servers_of(rendered, "nova-alone")
    # A single one stands there twice: no second is waited before a retry.
    wanted = servers if len(servers) > 1 else servers * 2
    shared = [
        f"server nova{number} {text}" for number, text in enumerate(wanted)
    ]
    # Checked once, whichever way a request goes.
    check = "check inter 2s fastinter 500ms fall 2 rise 1"
    alone = [
        text.replace(check, f"track nova/nova{number}")
        for number, text in enumerate(shared)
    ]
    assert found == shared + alone


def test_what_may_hide_a_request_shares_no_connection():
    text = gateway().text
    head, _, alone = text.partition("\nbackend nova-alone\n")
    _, _, shared = head.partition("\nbackend nova\n")
    assert "http-reuse always" in shared
    assert "set-header Connection close if { be_sess_rate lt " in shared
    assert "http-reuse never" in alone
    assert "option http-server-close" in alone
    assert "use_backend nova-alone unless { method GET } " in head


def test_the_gateway_passes_on_an_origin_form_and_its_own_host():
    """In this order: see `refusals`."""
    lines = lines_of(gateway())
    refused, uri, removed, host = (
        next(n for n, line in enumerate(lines) if line.startswith(words))
        for words in (
            "http-request return status 411 ",
            "http-request set-uri %[pathq]",
            "http-request del-header '^(?!x-forwarded-for$|",
            "http-request add-header Host nova:8775",
        )
    )
    assert refused < uri < removed < host


def servers_of(rendered: Rendered, backend: str) -> list[str]:
    """Return the lines of BACKEND's servers."""
    section = rendered.text.split(f"\nbackend {backend}\n")[1]
    lines = section.split("\nbackend ")[0].splitlines()
    return [line.strip() for line in lines if " server " in line]


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        pytest.param(1, [4], id="of one: all"),
        pytest.param(2, [2, 2], id="of two: half each"),
        pytest.param(5, [1] * 5, id="of more than there are: one each"),
    ],
)
def test_lane_is_shared_out_over_the_servers(count, shares):
    nova = [NovaServer(f"10.0.0.{n}", 8775) for n in range(count)]
    found = servers_of(gateway(nova), "greedy")
    track = " track nova/nova{0}" if count > 1 else ""
    assert found == [
        f"server nova{n} 10.0.0.{n}:8775 maxconn {share}{track.format(n)}"
        for n, share in enumerate(shares)
    ]


def test_who_has_closed_its_side_is_answered():
    """Without this, haproxy 3.4 answers 400."""
    for rendered in (network(), gateway()):
        defaults = rendered.text.partition("\ndefaults\n")[2]
        assert "    no option abortonclose\n" in defaults


def test_only_what_has_a_rule_behind_it_is_logged():
    """What haproxy can't parse it logs as "info", for whoever sends it."""
    for rendered in (network(), gateway()):
        assert "log /dev/log local0 notice" in lines_of(rendered)
        assert "http-request set-log-level notice" in lines_of(rendered)


@pytest.mark.parametrize(
    ("versions", "condition"),
    [
        ((4,), " { dst 169.254.169.254 }"),
        ((6,), " { dst fe80::a9fe:a9fe }"),
        ((4, 6), ""),
    ],
)
def test_rate_limit_counts_in_two_windows(versions, condition):
    condition = f" if !{inside.CONDITION}{condition}"
    limit = RateLimit(True, versions, 60, 20, 5, 7)
    text = network(rate_limit=limit).text.split("\nbackend gateway\n")[1]
    lines = [line.strip() for line in text.splitlines()]
    assert f"http-request track-sc0 src table base{condition}" in lines
    assert f"http-request track-sc1 src table burst{condition}" in lines
    refusals = [line for line in lines if " 429 " in line]
    assert [line.split(" hdr ")[2] for line in refusals] == [
        "Retry-After 60 if { sc_gpc0_rate(0,base) ge 20 }",
        "Retry-After 5 if { sc_gpc0_rate(1,burst) ge 7 }",
    ]
    tables = [line for line in lines if "store gpc0_rate" in line]
    assert [line.split(" expire ")[1] for line in tables] == [
        "60s store gpc0_rate(60s)",
        "5s store gpc0_rate(5s)",
    ]
    # Who is refused is not counted, and not passed on.
    order = [
        next(n for n, line in enumerate(lines) if part in line)
        for part in (
            "track-sc0",
            "status 429",
            "sc-inc-gpc0(0)",
            "set-header",
        )
    ]
    assert order == sorted(order)


def test_without_a_rate_limit_nothing_is_counted():
    lines = lines_of(network())
    tables = [line for line in lines if line.startswith("stick-table")]
    assert len(tables) == 3  # what instances and strangers hold
    assert not [line for line in lines if " return status 429 " in line]


def test_each_reason_is_in_the_documents():
    """An operator searches for the words that an instance was answered."""
    text = (Path(__file__).parents[4] / DOCS).read_text()
    limit = RateLimit(
        enabled=True,
        base_window_s=10,
        base_requests=50,
        burst_window_s=1,
        burst_requests=5,
        ip_versions=(4, 6),
    )
    for rendered in (network(rate_limit=limit), gateway()):
        reasons = re.findall(rf'{answers.REASON} "([^"]+)"', rendered.text)
        assert len({*reasons}) > 5
        assert not [each for each in {*reasons} if f"`{each}`" not in text]
