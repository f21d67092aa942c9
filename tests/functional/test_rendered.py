"""haproxy itself accepts whatever is rendered, and has nothing to say."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovn_metadata.agent.config import values
from ovn_metadata.agent.config.settings import (
    MAX_GATEWAY_THREADS,
    FairShare,
    NovaServer,
    RateLimit,
    Timeouts,
)
from ovn_metadata.agent.haproxy import mapfile
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.render import (
    Rendered,
    Tls,
    render_gateway,
    render_network,
)
from ovn_metadata.agent.model import Instance
from ovn_metadata.agent.reconcile.gateway import MODES
from ovn_metadata.privsep import names
from sandbox.daemons import run
from sandbox.defaults import defaults

HAPROXY = "/usr/sbin/haproxy"
# A gateway has its socket as standard input; a network's haproxy has two
# more. Without them, haproxy would find its own files at these numbers.
CHECK = f'exec "$0" -c -f "$1" {names.LISTENER_V4}<&0 {names.LISTENER_V6}<&0'

# What the options let through, their ends before all.
seconds = st.sampled_from([1, values.MAX_SECONDS]) | st.integers(
    1, values.MAX_SECONDS
)
counts = st.sampled_from([1, values.MAX_INT]) | st.integers(1, values.MAX_INT)
timeouts = st.builds(Timeouts, *[seconds] * 5)
limits = st.builds(
    RateLimit,
    enabled=st.booleans(),
    ip_versions=st.sampled_from([(4,), (6,), (4, 6)]),
    base_window_s=seconds,
    base_requests=counts,
    burst_window_s=seconds,
    burst_requests=counts,
)
up_to_a_million = st.sampled_from([0, 1, 10**6]) | st.integers(0, 10**6)
shares = st.builds(
    FairShare,
    connections=up_to_a_million,
    uploads=up_to_a_million,
    greedy_rate=up_to_a_million,
    greedy_requests=st.integers(1, 10**6),
    logged_rate=up_to_a_million,
)
hosts = st.from_regex(
    r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,250}[A-Za-z0-9_.])?", fullmatch=True
)
servers = st.lists(
    st.builds(
        NovaServer,
        host=st.ip_addresses().map(str).filter(lambda a: "%" not in a),
        port=st.integers(1, values.MAX_PORT),
        name=st.just("") | hosts,
    ),
    max_size=4,
    unique=True,
)
identifiers = st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}", fullmatch=True
)
owners = st.dictionaries(
    st.ip_addresses(),
    st.builds(Instance, identifiers, st.just("") | identifiers),
    max_size=5,
)

# 20 ms each.
bounded = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

Check = Callable[[Rendered], None]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("haproxy")
    made = Places(folder, folder / "state", folder / "pids")
    for made_folder in (made.config_folder, *made.network_parents):
        made_folder.mkdir()
    made.read_folder(names.GATEWAY).mkdir()
    made.confirmed.write_text("")
    return made


@pytest.fixture(scope="module")
def check(places: Places) -> Check:
    """Return a function that fails unless haproxy just says "valid"."""
    path = places.config_folder / "any.conf"

    def check_text(rendered: Rendered) -> None:
        path.write_text(rendered.text)
        with socket.socket(socket.AF_UNIX) as stdin:
            done = subprocess.run(
                ["/bin/sh", "-c", CHECK, HAPROXY, str(path)],
                stdin=stdin,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        if done.returncode:
            pytest.fail(f"{done.stderr}\n{rendered.text}")
        # With a warning there is a line more, and the exit code is 0 too.
        # 2.6 says that it is valid, 3.0 and later nothing.
        said = done.stdout + done.stderr
        assert said in ("", "Configuration file is valid\n")

    return check_text


@pytest.fixture(scope="module")
def pem(places: Places) -> Path:
    """Return a certificate with its key, good for an authority as well."""
    path = places.config_folder / "both.pem"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
        *("-batch", "-subj", "/CN=x", "-days", "2"),
        *("-keyout", str(path), "-out", f"{path}.crt"),
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@given(st.uuids(), timeouts, limits, shares, st.booleans(), owners)
@bounded
def test_network(check, places, network, timeouts, limit, share, ipv6, owners):
    """With its map beside it."""
    text = mapfile.render_map(mapfile.entries(owners.items(), "secret"))
    folder = places.read_folder(str(network))
    folder.mkdir()
    places.map(str(network)).write_text(text)
    try:
        check(
            render_network(
                str(network),
                places=places,
                settings=dataclasses.replace(
                    defaults(),
                    timeouts=timeouts,
                    rate_limit=limit,
                    fair_share=share,
                ),
                ipv6=ipv6,
            )
        )
    finally:
        shutil.rmtree(folder)


@given(
    servers,
    timeouts,
    shares,
    # haproxy 3.0 warns of more threads than processors.
    st.integers(1, min(MAX_GATEWAY_THREADS, len(os.sched_getaffinity(0)))),
    counts,
    st.sampled_from(sorted(set(MODES.values()))),
    st.sampled_from(["http", "https", "insecure"]),
    st.booleans(),
    st.booleans(),
)
@bounded
def test_gateway(
    check,
    places,
    pem,
    nova,
    timeouts,
    share,
    threads,
    backlog,
    mode,
    protocol,
    own_authority,
    with_certificate,
):
    tls = Tls(
        insecure=protocol == "insecure",
        authority=pem if own_authority else None,
        client=pem if with_certificate else None,
    )
    check(
        render_gateway(
            places=places,
            nova=nova,
            tls=None if protocol == "http" else tls,
            settings=dataclasses.replace(
                defaults(),
                timeouts=timeouts,
                fair_share=share,
                workers=threads,
                backlog=backlog,
                gateway_metrics=threads % 2 == 1,
            ),
            socket_mode=mode,
        )
    )


def test_a_mistake_is_seen(check, places):
    """Or the tests above could not fail."""
    network = str(uuid.uuid4())
    places.read_folder(network).mkdir()
    places.map(network).write_text(f"{ipaddress.ip_address(1)} i|p|s\n")
    good = render_network(
        network,
        places=places,
        settings=dataclasses.replace(
            defaults(), timeouts=Timeouts(1, 1, 1, 1, 1)
        ),
        ipv6=True,
    )
    check(good)
    bad = good.text.replace("timeout connect 1s", "timeout connect soon")
    with pytest.raises(pytest.fail.Exception):
        check(Rendered(bad, good.digest))
