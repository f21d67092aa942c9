"""The exporter with real haproxies, and promtool's opinion of it."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovn_metadata.agent.haproxy.asks import SHIELD
from ovn_metadata.agent.metrics.catalog import HOST_SERIES, NETWORK_SERIES
from sandbox import Instance, Network, Sandbox, host, wait_for
from sandbox.case import Case, ready, wait_served
from sandbox.metrics import (
    COUNTERS,
    SOCKET,
    Samples,
    counters,
    parse,
    scrape,
    value,
)
from sandbox.processes import processes, send_signal

WAIT_S = 60


def fetch(instance: Instance, times: int, path: str = "") -> None:
    """Ask TIMES times for PATH."""
    for _ in range(times):
        instance.fetch(*([path] if path else []))


def has(name: str, number: float, **labels: str) -> None:
    """Wait until the metric NAME with LABELS is NUMBER or more."""
    wait_for(
        lambda: value(parse(scrape()), name, **labels) >= number,
        timeout_s=WAIT_S,
        interval_s=0.5,
        what=f"{name} {labels} >= {number}",
    )


def own(samples: Samples, network: Network) -> Samples:
    """Return those of SAMPLES that NETWORK has."""
    label = "network", network.id
    return {series: n for series, n in samples.items() if label in series[1]}


def test_requests_are_counted_by_network_and_class(box: Sandbox, case: Case):
    one, two = case.network("one"), case.network("two")
    vm, other = case.instance(one), case.instance(two)
    before = parse(scrape())
    fetch(vm, 20)
    fetch(vm, 7, "/latest/no-such-thing")
    fetch(other, 3)
    name = "network_requests_total"
    good = value(before, name, network=one.id, code="2xx")
    has(name, good + 20, network=one.id, code="2xx")
    has(name, 7, network=one.id, code="4xx")
    has(name, 3, network=two.id, code="2xx")
    samples = parse(scrape())
    assert value(samples, name, network=two.id, code="4xx") == 0
    seconds = value(samples, "network_response_seconds", network=one.id)
    assert 0 < seconds < 1
    assert value(samples, "network_up", network=one.id) == 1
    # The agent sees a new process when it asks supervisord next.
    memory_of = "network_haproxy_memory_bytes"
    has(memory_of, 1, network=one.id)
    memory = value(parse(scrape()), memory_of, network=one.id)
    config = f"/config/{one.id}.conf"
    pss = sum(
        process.pss_kib * 1024
        for process in processes("haproxy")
        if any(word.endswith(config) for word in process.cmdline)
    )
    assert pss / 3 < memory < pss * 3
    has("gateway_memory_bytes", 1 << 20)
    has("nova_up", 1)
    assert 0 < value(samples, "nova_response_seconds") < 1
    # Networks of tests before may still have to go.
    wait_for(
        lambda: (
            value(parse(scrape()), "instances")
            == len({vm.instance_id for vm in box.instances})
        ),
        timeout_s=WAIT_S,
        interval_s=0.5,
        what="the number of instances",
    )


def test_there_are_no_more_series_than_promised(box: Sandbox, case: Case):
    series = NETWORK_SERIES - len(SHIELD)  # which is off
    networks = [case.network(f"n{number}") for number in range(3)]
    vms = [case.instance(network) for network in networks]
    for vm, network in zip(vms, networks, strict=True):
        fetch(vm, 1)
        has("network_requests_total", 1, network=network.id)
        wait_for(
            lambda n=network: len(own(parse(scrape()), n)) >= series,  # type: ignore[misc]
            timeout_s=WAIT_S,
            what=f"the series of {network.name}",
        )
    text = scrape()
    samples = parse(text)
    for network in networks:
        assert len(own(samples, network)) == series
    hosts = [s for s in samples if "network" not in dict(s[1])]
    assert len(hosts) <= HOST_SERIES
    for vm in vms:
        assert vm.instance_id not in text
    names = {name for name, _ in samples}
    assert all(name.startswith("ovn_metadata_") for name in names)


def test_promtool_has_no_complaint(box: Sandbox, case: Case):
    fetch(case.instance(case.network()), 2)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_only_the_agent_s_group_is_let_in(box: Sandbox):
    assert stat.S_IMODE(SOCKET.stat().st_mode) == 0o660
    scrape()  # it writes the file
    assert stat.S_IMODE(COUNTERS.stat().st_mode) & 0o027 == 0
    command = ["curl", "--unix-socket", str(SOCKET), "http://x/metrics"]
    become = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    done = subprocess.run(
        [*become, *command],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == b""


class Watched:
    """Scrapes; no counter may be less than the one before."""

    def __init__(self) -> None:
        self.last: Samples = {}
        self.scrapes = 0

    def look(self) -> bool:
        """Scrape and compare; return whether the exporter answered."""
        try:
            now = counters(scrape())
        except subprocess.CalledProcessError:
            return False
        fallen = {
            series: (before, now.get(series))
            for series, before in self.last.items()
            if now.get(series, 0) < before
        }
        assert not fallen
        self.last = now
        self.scrapes += 1
        return True

    def until_counted(self, instance: Instance) -> None:
        """Send requests as INSTANCE until ten more are counted.

        What a haproxy counted after it was last asked goes with it.
        """
        network = instance.port.network.id
        name = "network_requests_total"
        before = value(self.last, name, network=network)

        def is_counted() -> bool:
            fetch(instance, 5)
            more = self.look()
            return more and (
                value(self.last, name, network=network) >= before + 10
            )

        wait_for(is_counted, timeout_s=WAIT_S, interval_s=1, what=name)

    def answers(self) -> None:
        """Wait for an answer."""
        wait_for(self.look, timeout_s=WAIT_S, interval_s=0.3, what="a scrape")


@pytest.fixture
def busy(own_box: Sandbox) -> Iterator[tuple[Sandbox, list[Instance]]]:
    """Provide a chassis with three networks, an instance each."""
    ready(own_box)
    with contextlib.closing(Case(own_box)) as made:
        vms = [made.instance(made.network(f"n{n}")) for n in range(3)]
        yield own_box, vms


def restart_agent(box: Sandbox, *, kill: bool) -> None:
    if kill:
        box.agent.kill9()
    else:
        box.agent.stop()
    box.agent.start()


def kill_all(kind: str) -> None:
    for process in processes(kind):
        send_signal(process.pid, signal.SIGKILL)


def test_no_counter_falls_whatever_restarts(busy):
    box, vms = busy
    watched = Watched()
    acts: dict[str, Callable[[], object]] = {
        "reload": lambda: reload_haproxies(box),
        "haproxies": lambda: kill_all("haproxy"),
        "supervisord": lambda: kill_all("supervisord"),
        "privsep": lambda: kill_all("privsep"),
        "agent -9": lambda: restart_agent(box, kill=True),
        "agent": lambda: restart_agent(box, kill=False),
        "everything": lambda: (box.agent.kill(), box.agent.start()),
    }
    order = [*acts, "haproxies", *random.Random(13).sample([*acts], 2)]
    for act in order:
        wait_served(*vms, timeout_s=2 * WAIT_S)
        watched.answers()
        watched.until_counted(vms[0])
        acts[act]()
        watched.answers()
    assert watched.scrapes > 3 * len(order)
    network = vms[0].port.network.id
    has("network_haproxy_restarts_total", 2, network=network)
    has("gateway_restarts_total", 2)


def reload_haproxies(box: Sandbox) -> None:
    """Change an option of all haproxies, and wait until each is reloaded."""
    rate = str(int(time.monotonic()) % 1000 + 50)
    mark = box.agent.mark()
    box.agent.configure({("ovn_metadata_agent", "logged_rate"): rate})
    box.agent.reload()
    wait_for(
        lambda: box.agent.log(mark).count("configuration,reload") >= 4,
        timeout_s=WAIT_S,
        what="reloads of the networks and the gateway",
    )


def test_a_file_of_nonsense_is_ignored_with_a_line(own_box: Sandbox):
    ready(own_box)
    own_box.agent.stop()
    COUNTERS.write_text('{"totals": [["privsep_calls_total", -5]]}')
    mark = own_box.agent.mark()
    ready(own_box)
    assert value(parse(scrape()), "privsep_calls_total") > 0
    log = own_box.agent.log(mark)
    (line,) = [x for x in log.splitlines() if COUNTERS.name in x]
    assert "can't be used, the metrics' counters begin at 0" in line


def test_tcp_too_and_a_port_in_use_is_a_problem_only(own_box: Sandbox):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        address = f"127.0.0.1:{port}"
        own_box.agent.configure(
            {("ovn_metadata_agent", "metrics_address"): address}
        )
        own_box.agent.start()

        def is_reported() -> bool:
            return "metrics_address" in own_box.agent.status().stdout

        wait_for(is_reported, timeout_s=WAIT_S, what="a problem")
        assert own_box.agent.running
        assert parse(scrape())
    wait_for(lambda: not is_reported(), timeout_s=WAIT_S, what="the end of it")
    assert value(parse(scrape(address)), "start_time_seconds") > 0


def test_haproxys_own_exporter_answers_in_the_gateway(own_box: Sandbox):
    own_box.agent.configure({("ovn_metadata_agent", "gateway_metrics"): "yes"})
    ready(own_box)
    path = Path("/run/ovn-metadata-fleet/work/gateway/metrics.sock")
    assert "haproxy_frontend_http_requests_total" in scrape(path=path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_socket_there_is_none(own_box: Sandbox):
    own_box.agent.configure({("ovn_metadata_agent", "metrics_socket"): ""})
    ready(own_box)
    assert not Path(SOCKET).exists()
    assert (host.HOME / "ovn-metadata-agent.sock").exists()
