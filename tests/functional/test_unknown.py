"""A request from an address that is in no map: held, then 200, 404 or 503."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from ovn_metadata.agent.config.settings import FairShare, Timeouts
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.agent.haproxy.render import render_network
from ovn_metadata.privsep import names
from sandbox import Instance, Network, Sandbox, bare_southbound, wait_for
from sandbox.attackers import check_disturbed, hammering, holding, p99
from sandbox.case import is_served, wait_served
from sandbox.daemons import run
from sandbox.defaults import defaults
from sandbox.instances import Response
from sandbox.ovn import SB_REMOTE
from sandbox.processes import send_signal, sole
from sandbox.tls import running
from sandbox.waiting import BEHIND_CALL_S

# The agent's own figures, in seconds: see agent/haproxy/unknown.py.
HELD_S = 8.0
CONFIRMED_S = 2.0  # the agent's next flag, and the next look at it
HELD_PER_ADDRESS = 4
# A client that waits longer has lost its boot.
CLOUD_INIT_S = 10.0
# Those here wait longer, and look at the time: a busy machine adds to it, and
# what is too late once is tried again.
PATIENCE_S = 60.0
RELAY = 6652
TRIES = 3


@dataclasses.dataclass
class Cloud:
    """A network that is served, and a stranger on it."""

    box: Sandbox
    network: Network
    keeper: Instance
    stranger: Instance

    def newcomer(self) -> Instance:
        """Bind a new port here, with the agent or without it."""
        port = self.box.neutron.create_port(self.network, name="newcomer")
        (instance,) = self.box.plug([port])
        return instance


@pytest.fixture(scope="module")
def cloud(module_box: Sandbox) -> Cloud:
    box = module_box
    network = box.neutron.create_network("n", subnets=("10.10.0.0/16",))
    keeper = box.neutron.create_port(network)
    stranger = box.neutron.create_port(network, port_security=False)
    made = box.plug([keeper, stranger])
    wait_served(*made)
    return Cloud(box, network, *made)


def killed(box: Sandbox) -> Callable[[], None]:
    """Kill the agent; return what starts it again."""
    box.agent.kill9()
    return box.agent.start


def stopped(box: Sandbox) -> Callable[[], None]:
    """Stop the agent; return what starts it again."""
    box.agent.stop()
    return box.agent.start


def held_still(box: Sandbox) -> Callable[[], None]:
    """Have the agent stand still; return what has it go on."""
    (process,) = box.agent.processes("agent")
    os.kill(process.pid, signal.SIGSTOP)
    return lambda: os.kill(process.pid, signal.SIGCONT)


@contextlib.contextmanager
def without_agent(
    box: Sandbox, away: Callable[[Sandbox], Callable[[], None]] = killed
) -> Iterator[Callable[[], None]]:
    """Put the agent away; give what brings it back, which the end does too."""
    bring = away(box)
    todo = [bring]

    def back() -> None:
        while todo:
            todo.pop()()

    try:
        yield back
    finally:
        back()
        box.agent.wait_ready(timeout_s=120)


@contextlib.contextmanager
def hanging_supervisord() -> Iterator[None]:
    """Have supervisord stand still."""
    found = wait_for(
        lambda: sole("supervisord"), timeout_s=60, what="one supervisord"
    )
    send_signal(found.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(found.pid, signal.SIGCONT)


@dataclasses.dataclass
class Asked:
    """A newcomer whose first request was made while the agent was away."""

    newcomer: Instance
    answer: Response
    is_late: bool  # the agent was, with all that it does first


def asked_without(
    cloud: Cloud, away: Callable[[Sandbox], Callable[[], None]]
) -> Asked:
    """Have a newcomer ask while the agent is put AWAY, and bring it back."""
    agent = cloud.box.agent
    with without_agent(cloud.box, away) as back, ThreadPoolExecutor(1) as pool:
        newcomer = cloud.newcomer()

        def ask() -> tuple[Response, float]:
            answer = newcomer.fetch(timeout=PATIENCE_S)
            return answer, time.monotonic()

        asked = pool.submit(ask)
        with pytest.raises(TimeoutError):
            asked.result(timeout=1)
        assert is_served(cloud.keeper, timeout_s=PATIENCE_S)
        mark = agent.mark()
        back()
        if away is not held_still:
            wait_for(
                lambda: "ready networks" in agent.log(mark),
                timeout_s=60,
                what="the end of the first pass",
            )
        ready = time.monotonic()
        answer, answered = asked.result()
    return Asked(newcomer, answer, ready > answered - CONFIRMED_S)


@pytest.mark.parametrize(
    "away", [killed, stopped, held_still], ids=lambda away: away.__name__
)
def test_newcomer_waits_for_the_agent(cloud, away):
    """One request, made while the agent is away, is answered 200."""
    for _ in range(TRIES):
        found = asked_without(cloud, away)
        wait_served(found.newcomer)
        cloud.box.unplug([found.newcomer])
        # Again only if this machine was late. How late an agent was that
        # stood still is not known.
        was_late = found.is_late or away is held_still
        if found.answer.status != 503 or not was_late:
            break
    answer, instance_id = found.answer, found.newcomer.instance_id
    if answer.status == 503 and found.is_late:
        # On a busy machine its start took longer than a request is held.
        assert answer.seconds > HELD_S - 1
    else:
        assert (answer.status, answer.text) == (200, instance_id)


def test_newcomer_is_told_to_come_again(cloud):
    """503 before cloud-init gives up; what can't be repeated is not held."""
    with without_agent(cloud.box):
        newcomer = cloud.newcomer()
        for _ in range(TRIES):
            answer = newcomer.fetch(timeout=PATIENCE_S)
            posted = newcomer.fetch(
                method="POST", data=b"x", timeout=PATIENCE_S
            )
            for each in (answer, posted):
                told = each.status, each.headers["Retry-After"]
                assert told == (503, "1")
                assert b"not know yet" in each.body
            assert answer.seconds > HELD_S - 1
            in_time = answer.seconds < CLOUD_INIT_S - 1
            if in_time and posted.seconds < HELD_S / 2:
                break
    assert answer.seconds < CLOUD_INIT_S - 1
    assert posted.seconds < HELD_S / 2
    wait_served(newcomer)
    cloud.box.unplug([newcomer])


def test_stranger_gets_404_from_an_agent_that_is_well(cloud):
    source = cloud.stranger.take("10.10.7.1")
    soon: list[Response] = []
    for _ in range(3 * TRIES):
        answer = cloud.stranger.fetch(source=source, timeout=PATIENCE_S)
        # An agent that stands still confirms nothing.
        assert answer.status in (404, 503)
        if answer.status == 404 and answer.seconds < HELD_S / 2:
            soon.append(answer)
        if len(soon) == 3:
            break
    assert len(soon) == 3


def test_nobody_gets_404_while_southbound_is_away(cloud):
    """The agent is there, but can't know what is bound here by now."""
    source = cloud.stranger.take("10.10.7.2")
    daemon = cloud.box.ovn.daemons["sb"]
    daemon.kill()
    try:
        answer = cloud.stranger.fetch(source=source, timeout=PATIENCE_S)
    finally:
        daemon.start()
    assert answer.status == 503
    wait_for(
        lambda: cloud.stranger.fetch(source=source).status == 404,
        timeout_s=60,
        what="404 for a stranger again",
    )


@contextlib.contextmanager
def slow_to_bind(box: Sandbox) -> Iterator[None]:
    """Have what ovn-controller sends to Southbound stay on its way."""
    relay = bare_southbound.relay(
        box.folder, "its-own", SB_REMOTE, f"ptcp:{RELAY}"
    )

    def use(remote: str) -> None:
        ids = f"external_ids:ovn-remote={remote}"
        box.ovn.vsctl("set", "Open_vSwitch", ".", ids)

    with running(relay):
        use(f"tcp:127.0.0.1:{RELAY}")
        try:
            box.ovn.sync()
            relay.signal(signal.SIGSTOP)
            yield
        finally:
            relay.signal(signal.SIGCONT)
            use(SB_REMOTE)
            box.ovn.sync()


def test_newcomer_whose_binding_comes_late_is_not_told_404(cloud):
    """ovn-controller has its flows in place before the server has the row."""
    box = cloud.box
    port = box.neutron.create_port(cloud.network, name="late")
    box.ovn.sync()
    with slow_to_bind(box):
        (late,) = box.plug([port], wait=False)
        answer = late.fetch(timeout=PATIENCE_S)
    assert answer.status == 503
    assert b"not know yet" in answer.body
    wait_served(late)
    box.unplug([late])


def test_network_that_fails_gives_nobody_404(cloud):
    """Its map may lack what is bound; other networks' maps don't."""
    box = cloud.box
    other = box.neutron.create_network("other")
    second = box.neutron.create_port(other, port_security=False)
    (beside,) = box.plug([second])
    wait_served(beside)
    source = beside.take("10.10.0.77")
    for mtu in (1400, 1390, 1380):
        with hanging_supervisord():
            # What needs supervisord waits for it.
            box.neutron.update_network(cloud.network, mtu=mtu)
            newcomer = cloud.newcomer()
            answer = newcomer.fetch(timeout=PATIENCE_S)
            stranger = beside.fetch(source=source, timeout=PATIENCE_S)
        wait_served(newcomer, timeout_s=BEHIND_CALL_S)
        box.unplug([newcomer])
        assert answer.status != 404
        # The agent may just visit the other network, too, or see the newcomer
        # with the new MTU, before it calls supervisord: then once more.
        if (answer.status, stranger.status) == (503, 404):
            break
    assert (answer.status, stranger.status) == (503, 404)
    box.unplug([beside])


def test_one_address_does_not_hold_all_places(cloud):
    """Of six requests four are held; two are answered after a second."""
    sources = [cloud.stranger.take(f"10.10.8.{n}") for n in (1, 2)]
    one, two = (
        partial(cloud.stranger.fetch, source=source, timeout=PATIENCE_S)
        for source in sources
    )
    with without_agent(cloud.box):
        for _ in range(TRIES):
            with ThreadPoolExecutor(7) as pool:
                asked = [pool.submit(one) for _ in range(HELD_PER_ADDRESS + 2)]
                other = pool.submit(two).result()
                answers = [each.result() for each in asked]
            soon = [each.seconds for each in answers if each.seconds < 3]
            if len(soon) == 2:  # else a busy machine took too long
                break
    assert {each.status for each in answers} == {503}
    assert len(soon) == 2
    assert min(soon) > 0.9
    assert other.seconds > HELD_S - 1


def test_many_newcomers_on_many_networks(cloud):
    """The agent that is back has rows for many: 404 is for none of them."""
    box = cloud.box
    networks = [box.neutron.create_network(f"n{n}") for n in range(NETWORKS)]
    old = box.plug([box.neutron.create_port(each) for each in networks])
    wait_served(*old)
    with (
        without_agent(box) as back,
        ThreadPoolExecutor(NETWORKS) as pool,
    ):
        new = box.plug([box.neutron.create_port(each) for each in networks])
        begun = time.monotonic()
        asked = [pool.submit(each.fetch, timeout=PATIENCE_S) for each in new]
        with pytest.raises(TimeoutError):
            asked[0].result(timeout=1)
        back()
        box.agent.wait_ready()
        away_s = time.monotonic() - begun
        answers = [each.result() for each in asked]
    # On a busy machine the last of them may be told to come again, or all.
    kinds = Counter(each.status for each in answers)
    assert kinds[200] + kinds[503] == NETWORKS
    assert kinds[200] >= NETWORKS / 2 or away_s > HELD_S / 2
    box.unplug([*old, *new])


NETWORKS = 12


def test_newcomer_while_the_agent_is_back_and_supervisord_hangs(cloud):
    """The map of a haproxy that runs needs no supervisord."""
    box = cloud.box
    with without_agent(box, held_still) as back, ThreadPoolExecutor(1) as pool:
        newcomer = cloud.newcomer()
        asked = pool.submit(newcomer.fetch, timeout=PATIENCE_S)
        with pytest.raises(TimeoutError):
            asked.result(timeout=2)
        with hanging_supervisord():
            back()
            answer = asked.result()
    assert answer.status == 200
    box.unplug([newcomer])


def test_one_stranger_does_not_refuse_newcomers(cloud):
    """However many connections it holds; it is what is reset."""
    source = cloud.stranger.take("10.10.8.4")
    with without_agent(cloud.box), contextlib.ExitStack() as stack:
        newcomer = cloud.newcomer()
        for _ in range(600):
            with contextlib.suppress(OSError):
                link = cloud.stranger.connect(source=source)
                stack.enter_context(link)
        answer = newcomer.fetch(timeout=PATIENCE_S)
    assert answer.status == 503
    assert answer.seconds > HELD_S - 1
    cloud.box.unplug([newcomer])


STRANGERS = {
    "one in a loop": lambda i: hammering(i, 100),
    "4,000 at once": lambda i: holding(i, "asking", 4000, "10.10.64.0"),
}
SAMPLES = 40


@pytest.mark.parametrize("begin", STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers_take_nothing_from_others(cloud, begin):
    """While no agent runs: of the same network, and of another one.

    Nova takes 20 ms, as in `test_fair_share`.
    """
    other = cloud.box.neutron.create_network("beside")
    (beside,) = cloud.box.plug([cloud.box.neutron.create_port(other)])
    wait_served(beside)
    asking = (cloud.keeper, beside)

    def sample() -> float:
        times = [i.fetch() for _ in range(SAMPLES) for i in asking]
        assert {each.status for each in times} == {200}
        return p99([each.seconds for each in times])

    own = str(cloud.stranger.port.ip4)
    cloud.stranger.execute(*OTHER_SOURCE, "src", cloud.stranger.take(LOOP))
    # All of these are addresses of its own now.
    cloud.stranger.execute(
        *["ip", "route", "replace", "local", "10.10.64.0/18", "dev", "lo"]
    )

    def disturbed() -> float:
        with begin(cloud.stranger):
            return sample()

    cloud.box.nova.set_delay(0.02)
    try:
        with without_agent(cloud.box):
            know_strangers(cloud)
            check_disturbed(sample, disturbed)
    finally:
        cloud.box.nova.set_delay(0)
        cloud.stranger.execute(*OTHER_SOURCE, "src", own)


def know_strangers(cloud: Cloud) -> None:
    """Have the strangers' addresses as permanent neighbours.

    All namespaces of a host share one table of the others, which 1,024 fill
    ("neighbor table overflow"): tests that run beside this one lost packets,
    and most of the 4,000 got no connection.
    """
    first = ipaddress.ip_address("10.10.64.0")
    device = names.inner_veth(cloud.network.id)
    mac = cloud.stranger.port.mac
    commands = [
        f"neigh replace {first + n} lladdr {mac} nud permanent dev {device}"
        for n in range(4000)
    ]
    where = ("ip", "-n", cloud.network.namespace, "-batch", "-")
    run(*where, stdin="\n".join(commands) + "\n")


LOOP = "10.10.7.9"
OTHER_SOURCE = ("ip", "route", "replace", "169.254.169.254", "dev", "eth0")


@pytest.mark.parametrize(
    ("limit", "fewest_s"),
    [
        pytest.param("gt 2 ", 2, id="two seconds for the two minutes"),
        pytest.param("ge 0 ", 0, id="the clock is set forward"),
    ],
)
def test_who_asks_for_two_minutes_is_told_404(tmp_path, limit, fewest_s):
    """By haproxy alone; not before it has asked nine times."""
    network = str(uuid.uuid4())
    places = Places(tmp_path, tmp_path, tmp_path)
    for folder in (places.config_folder, *places.network_parents):
        folder.mkdir()
    work = places.work_folder(network)
    places.read_folder(network).mkdir()
    work.mkdir()
    places.map(network).write_text("")
    rendered = render_network(
        network,
        places=places,
        settings=dataclasses.replace(
            defaults(),
            timeouts=Timeouts(1, 9, 9, 9, 9),
            fair_share=FairShare(0, 0, 0, 1, 0),
        ),
        ipv6=False,
    )
    assert rendered.text.count("gt 120 ") == 1
    text = rendered.text.replace("gt 120 ", limit)
    places.config(network).write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        start = f'exec haproxy -f "$0" {names.LISTENER_V4}<&0'
        command = ["sh", "-c", start, str(places.config(network))]
        with subprocess.Popen(command, stdin=listener, cwd=work) as haproxy:
            try:
                begun = time.monotonic()
                assert [ask_once(port) for _ in range(8)] == [503] * 8
                wait_for(
                    lambda: ask_once(port) == 404, timeout_s=60, what="404"
                )
                assert time.monotonic() - begun > fewest_s
            finally:
                haproxy.kill()


def ask_once(port: int) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(client):
        client.request("GET", "/")
        return client.getresponse().status
