"""For how long tokens are good, and when none is needed.

By default the requests with a token are some hundreds in sum; `make tokens`
has 10,000 of them, and upgrades to another installation.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox import Instance, Loader, Sandbox, release, wait_for
from sandbox import host as host_files
from sandbox.agent import Agent
from sandbox.case import Host, ready
from sandbox.continuity import Chassis, fleet_service
from sandbox.instances import Response
from sandbox.processes import send_signal
from sandbox.shielded import (
    DOCUMENT,
    ID,
    OPTIONS,
    OWN,
    TOKEN,
    TOKEN_PATH,
    TTL,
    new_token,
    status,
    with_token,
)
from sandbox.sockets import stats

# Requests with a token that are answered, in sum.
REQUESTS = int(os.environ.get("TOKEN_REQUESTS", "0"))
FEW = 700
STAGES = 7  # in which so many of them are asked
LONG_S = 3600  # for a token that is used after things that may take a while
TRIES = 3


@pytest.fixture(scope="module")
def shielded(host: Host) -> Sandbox:
    """Provide a sandbox of our own: things are killed in it."""
    return ready(host.sandbox(OPTIONS))


def test_the_window_opens_when_a_port_comes_up(shielded, vms):
    """And not again when the agent or ovn-controller is restarted."""
    box, vm, both = shielded, vms["required"], (ID, DOCUMENT)

    def closed(of: Instance) -> bool:
        return [status(of, path) for path in both] == [401, 401]

    def set_window(seconds: int) -> None:
        box.agent.configure({(OWN, "boot_window"): str(seconds)})
        box.agent.reload()

    set_window(600)
    port = box.neutron.create_port(vm.port.network, project_id="required")
    (new,) = box.plug([port])
    wait_for(
        lambda: [status(new, path) for path in both] == [200, 200],
        timeout_s=60,
        what="answers without a token",
    )
    key = "external_ids:ovn-installed-ts"
    read = ("--bare", "get", "Interface", new.outer, key)
    # Flows may come a second after the network was visited: no repair.
    mark, late = (
        box.agent.mark(),
        int(box.ovn.vsctl(*read).strip(' "\n')) + 1000,
    )
    box.ovn.vsctl("set", "Interface", new.outer, f'{key}="{late}"')
    until = f"|{late // 1000 + 600}|"
    map_file = host_files.map_of(port.network.id)
    wait_for(
        lambda: until in map_file.read_text(), timeout_s=60, what="the map"
    )
    came_up = box.ovn.vsctl(*read)
    age_s = time.time() - int(came_up.strip().strip('"')) / 1000
    set_window(int(age_s) + 5)
    for each in (new, vm):
        wait_for(
            lambda e=each: closed(e), timeout_s=60, what="the window's end"
        )
    assert "set up again" not in box.agent.log(mark)
    token = new_token(new, LONG_S)
    assert with_token(new, token, DOCUMENT) == 200
    box.ovn.restart("ovn-controller")
    box.ovn.sync()
    box.agent.kill9()
    ready(box)
    assert box.ovn.vsctl(*read) == came_up
    assert closed(new)
    assert closed(vm)
    assert with_token(new, token, DOCUMENT) == 200
    set_window(0)
    wait_for(
        lambda: status(new, DOCUMENT) == 200, timeout_s=60, what="no window"
    )


class WithToken:
    """An instance whose requests carry its TOKEN; for `Loader`."""

    def __init__(self, vm: Instance, token: str) -> None:
        self._vm = vm
        self._header = f"{TOKEN}: {token}\r\n"
        self.instance_id = vm.instance_id

    def ask(self, **more: Any) -> tuple[int, bytes]:
        """Ask as the instance."""
        return self._vm.ask(header=self._header, **more)


def kill(box: Sandbox, kind: str) -> None:
    """Kill all processes of KIND, and wait until others are there."""
    old = {process.pid for process in box.agent.processes(kind)}
    assert old
    for pid in old:
        send_signal(pid, signal.SIGKILL)

    def are_others() -> bool:
        return bool({p.pid for p in box.agent.processes(kind)} - old)

    wait_for(are_others, timeout_s=60, what=f"another {kind}")


def disturbed(box: Sandbox) -> Iterator[None]:
    """Reload, and kill what there is, one after the other."""
    box.agent.configure({("metadata_haproxy", "timeout_client"): "37"})
    box.agent.reload()
    yield
    for kind in ("haproxy", "privsep", "supervisord", "haproxy"):
        kill(box, kind)
        yield
    box.agent.kill9()
    ready(box)
    yield


def test_a_token_outlives_all_that_is_killed(shielded, vms):
    """By reload, kill -9, and an upgrade of the fleet and the agent.

    A haproxy that is killed may lose a request; none is refused.
    """
    box, vm = shielded, vms["required"]
    loaded: Any = WithToken(vm, new_token(vm, LONG_S))
    wanted = REQUESTS or FEW
    each, rate = wanted // STAGES + 1, 200 if REQUESTS else 100
    with Loader([loaded], rate=rate) as load:
        for _ in disturbed(box):
            wait_answered(load, each)
    # With another load: what is lost in the first may be known later.
    with Loader([loaded], rate=rate) as later, upgraded(box, vm):
        wait_answered(later, each)
    assert later.failures == []
    assert [f for f in load.failures if "status 4" in f.reason] == []
    lost = len(load.failures)
    good = load.requests - lost + later.requests
    assert good >= wanted
    print(f"{good} requests with a token answered, none refused, {lost} lost")


def wait_answered(load: Loader, count: int) -> None:
    """Wait until LOAD has got COUNT more good answers."""

    def good() -> int:
        return load.requests - len(load.failures)

    wanted = good() + count
    wait_for(
        lambda: good() >= wanted, timeout_s=240, what="answers to a token"
    )


@contextlib.contextmanager
def upgraded(box: Sandbox, vm: Instance) -> Iterator[None]:
    """Replace the fleet, then the agent, as a package's upgrade does."""
    prefix = release.build(box.folder) if REQUESTS else Path(sys.prefix)
    chassis = Chassis(box, [vm.port.network], [vm], vm)
    with fleet_service(chassis, prefix):
        chassis.wait_one_each()
        box.agent.stop()
        box.agent = Agent(
            box.folder, box.nova, options=box.agent.options, prefix=prefix
        )
        ready(box)
        wait_for(
            # 5: where others ask, this load is more than its share.
            lambda: box.agent.status().returncode in (0, 5),
            timeout_s=150,
            what="a status of all served",
        )
        yield
    chassis.wait_one_each()  # by a supervisord that the agent starts


def test_a_new_owner_of_the_address_has_nothing_of_the_token(shielded, vms):
    box, network = shielded, vms["required"].port.network
    create = box.neutron.create_port
    address = ["10.10.0.77"]
    port = create(network, project_id="required", addresses=address)
    (first,) = box.plug([port])
    wait_for(
        lambda: status(first, DOCUMENT) == 200, timeout_s=60, what="metadata"
    )
    token = new_token(first, LONG_S)
    assert with_token(first, token) == 200
    box.unplug([first])
    box.neutron.delete_port(port)
    port = create(network, project_id="required", addresses=address)
    (second,) = box.plug([port])
    wait_for(
        lambda: status(second, DOCUMENT) == 200, timeout_s=60, what="metadata"
    )
    assert with_token(second, token) == 401
    assert with_token(second, new_token(second)) == 200


def test_a_token_is_of_the_instance_on_all_its_networks(shielded, vms):
    """Another haproxy, as on another host, has the same key for it."""
    vm = vms["required"]
    network = shielded.neutron.create_network("b", subnets=("10.30.0.0/24",))
    port = shielded.neutron.create_port(
        network, instance_id=vm.instance_id, project_id="required"
    )
    (other,) = shielded.plug([port])
    wait_for(
        lambda: status(other, DOCUMENT) == 200, timeout_s=60, what="metadata"
    )
    assert with_token(other, new_token(vm)) == 200
    assert with_token(vm, new_token(other)) == 200


def test_a_request_that_is_held_keeps_what_it_has(shielded, vms):
    """What is asked before the agent knows whose address it is.

    A client's first request is for a token: that is held, too.
    """
    box, asking, new = shielded, vms["both"], vms["required"]
    token = new_token(asking, LONG_S)
    get, put = {"path": ID}, {"path": TOKEN_PATH, "method": "PUT"}
    wanted = [
        (asking, {**get, "headers": {TOKEN: token}}, 200),
        (asking, {**get, "headers": {TOKEN: token[:-1]}}, 401),
        (asking, get, 401),
        (asking, {**get, "headers": {TOKEN: token, "Via": "1.1 x"}}, 403),
        (new, {**put, "headers": {TTL: "600"}}, 200),
        (new, {**put, "headers": {TTL: "600"}, "data": b""}, 200),
        (new, {**put, "headers": {TTL: "0"}}, 400),
        (new, {**put, "headers": {TTL: "600", "Via": "1.1 x"}}, 403),
    ]
    box.agent.stop()
    try:
        # A busy machine may be late with what they wait for.
        for _ in range(TRIES):
            answers = held_answers([(vm, kw) for vm, kw, _ in wanted])
            if all(answer.status != 503 for answer in answers):
                break
    finally:
        ready(box)
    assert [a.status for a in answers] == [code for *_, code in wanted]
    for answer in answers[4:6]:
        assert answer.headers[TTL] == "600"
        assert with_token(new, answer.text) == 200


def held_answers(
    requests: Sequence[tuple[Instance, dict[str, Any]]],
) -> list[Response]:
    """Return the answers to REQUESTS, of instances of one network.

    While they are held, the instances' addresses get into the map, from which
    they were missing.
    """
    network = requests[0][0].port.network.id
    file = host_files.map_of(network)
    entries = {}
    for vm, _ in requests:
        entry = stats(network, f"get map {file} {vm.port.ip4}")
        found = re.search(r'value="([^"]*)"', entry)
        assert found is not None
        entries[vm.port.ip4] = found[1]

    def held() -> int:
        """Return how many requests have been held so far."""
        names, values = stats(network, "show stat hold 2 -1").split("\n")[:2]
        columns = names.removeprefix("# ").split(",")
        return int(values.split(",")[columns.index("stot")])

    before = held()
    for address in entries:
        stats(network, f"del map {file} {address}")
    with ThreadPoolExecutor(len(requests)) as pool:
        asked = [
            pool.submit(vm.fetch, timeout=30, **kw) for vm, kw in requests
        ]
        wait_for(
            lambda: held() >= before + len(requests),
            timeout_s=60,
            what="requests that are held",
        )
        for address, entry in entries.items():
            stats(network, f"add map {file} {address} {entry}")
        return [each.result() for each in asked]


def test_after_a_new_secret_old_tokens_are_refused(shielded, vms):
    """At once, and nothing else is different."""
    box, vm = shielded, vms["required"]
    secret = ("DEFAULT", "metadata_proxy_shared_secret")
    token = new_token(vm, LONG_S)
    old = box.nova.secret
    box.nova.accept(old, "another")
    with Loader([vms["off"], vms["optional"]], rate=50) as load:
        box.agent.configure({secret: "another"})
        box.agent.reload()
        wait_for(
            lambda: with_token(vm, token) == 401, timeout_s=90, what="refusal"
        )
        assert with_token(vm, new_token(vm)) == 200
        box.agent.configure({secret: old})
        box.agent.reload()
        wait_for(
            lambda: with_token(vm, token) == 200, timeout_s=90, what="the old"
        )
    assert load.failures == []
    box.nova.accept(old)
