"""Whatever happens, in any order: in the end the host is as the rows ask.

Networks, subnets and ports come, change, move to another chassis and back, and
go while processes are killed, hang or restart and things are broken by hand,
drawn by lot. Now and then, and at the end, all is compared item by item; then
everything goes, and nothing is left, nor open. CHAOS_SEEDS ("7" or "1,2,3")
and CHAOS_STEPS have it run with others than the usual ones; what was done is
printed with a failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import (
    Instance,
    Network,
    Port,
    Sandbox,
    host,
    subnet,
    wait_for,
)
from sandbox.case import wait_served
from sandbox.controller import bind, exit_controller
from sandbox.daemons import CommandError, run
from sandbox.hoststate import (
    expected,
    settled,
    wait_everything,
    wait_gone,
    wait_host,
    written_map,
)
from sandbox.namespaces import NETNS_FOLDER
from sandbox.processes import descriptors, send_signal

SEEDS = [int(text) for text in os.environ.get("CHAOS_SEEDS", "1").split(",")]
STEPS = int(os.environ.get("CHAOS_STEPS", "40"))
COMPARISONS = 0.1  # the share of steps after which all is compared
NETWORKS, INSTANCES = 6, 10  # at the most
OPTIONS = {
    ("ovn_metadata_agent", "resync_interval"): "5",
    ("ovn", "ovsdb_retry_max_interval"): "1",
    # A port is ready before it is plugged; a network is kept for a moment.
    ("ovn_metadata_agent", "spare_networks"): "64",
    ("ovn_metadata_agent", "network_keep_time"): "1",
}
FOREIGN = "elsewhere"  # another chassis, which nobody runs
KINDS = ("agent", "privsep", "supervisord")
SIGKILL, SIGSTOP, SIGCONT = 9, 19, 18
# A retry may wait for a minute, and so may what may only not be seen yet.
SETTLED_S = 120.0
LOOKS = 30  # at what is open


class Chaos:
    """A chassis to which things happen, and what it should be serving."""

    def __init__(self, box: Sandbox, seed: int) -> None:
        self.box = box
        self.lot = random.Random(seed)
        self.networks: list[Network] = []
        self.instances: list[Instance] = []
        self.away: list[Instance] = []  # whose ports are on another chassis
        self.gone: list[str] = []
        self._number = 0
        self._foreign = box.neutron.add_foreign_chassis(FOREIGN)
        self._nothing = settled(box)  # what there is without a network

    # ---------------------------------------------------------- changes

    def change(self) -> None:
        """Have something come, change or go."""
        changes = [self.add_network]
        if self.networks:
            changes += [self.add_instance] * 3 + [self.delete_network]
            changes += [self.change_mtu, self.change_metadata_port]
            changes += [self.add_subnet]
        if self.instances:
            changes += [self.remove_instance] * 2 + [self.change_address]
            changes += [self.change_owner, self.move, self.reboot]
        self._do(self.lot.choice(changes))

    def add_network(self) -> None:
        """Add one: of IPv4, of IPv6, of both, of two subnets."""
        if len(self.networks) >= NETWORKS:
            return
        self._number += 1
        cidrs = self.lot.choice(
            [
                ("10.10.0.0/24",),
                ("10.10.0.0/24", "fd00:10::/64"),
                ("fd00:10::/64",),
                ("10.10.0.0/24", "10.20.0.0/24"),
            ]
        )
        subnets = [subnet(cidr, gateway=False) for cidr in cidrs]
        self.networks.append(
            self.box.neutron.create_network(
                f"n{self._number}", subnets=subnets
            )
        )

    def delete_network(self) -> None:
        """Delete one with its ports, though instances are plugged."""
        network = self.lot.choice(self.networks)
        self.networks.remove(network)
        self.gone.append(network.id)
        self.box.neutron.delete_network(network)
        mine = [i for i in self.instances if i.port.network is network]
        self._forget(mine)
        self.box.unplug(mine)

    def _forget(self, instances: list[Instance]) -> None:
        self.instances = [i for i in self.instances if i not in instances]
        self.away = [i for i in self.away if i not in instances]

    def add_instance(self) -> None:
        """Plug one; OVN binds it when it can."""
        if len(self.instances) >= INSTANCES:
            return
        network = self.lot.choice(self.networks)
        port = self.box.neutron.create_port(network)
        self.instances += self.box.plug([port], wait=False)

    def remove_instance(self) -> None:
        """Delete a port first, or unplug its instance first."""
        instance = self.lot.choice(self.instances)
        self._forget([instance])
        acts = [
            lambda: self.box.unplug([instance]),
            lambda: self.box.neutron.delete_port(instance.port),
        ]
        self.lot.shuffle(acts)
        for act in acts:
            act()

    def reboot(self) -> None:
        """Unplug one and plug it again, with something in between."""
        instance = self.lot.choice(self.instances)
        port, is_away = instance.port, instance in self.away
        self._forget([instance])
        self.box.unplug([instance])
        self.lot.choice([self.add_network, self.add_instance])()
        again = self.box.plug([port], wait=False)
        self.instances += again
        self.away += again if is_away else []

    def change_address(self) -> None:
        """Give a port other addresses."""
        instance = self.lot.choice(self.instances)
        port = instance.port
        self.box.neutron.update_port(
            port,
            addresses=[str(item.cidr) for item in port.network.subnets],
        )
        readdress(instance)

    def change_owner(self) -> None:
        """Have a port be another instance's."""
        port = self.lot.choice(self.instances).port
        fresh = f"{self.lot.getrandbits(32):08x}-0000-4000-8000-000000000000"
        self.box.neutron.update_port(port, instance_id=fresh)
        self.box.nova.register(port.device_id, port.project_id, "vm")

    def move(self) -> None:
        """Have a port be on another chassis, or on this one again.

        Its VIF stays, as in the moments before a migration's end.
        """
        instance = self.lot.choice(self.instances)
        port, sb = instance.port, self.box.ovn.daemons["sb"]
        if instance in self.away:
            self.away.remove(instance)
            self.box.neutron.update_port(port, host=True)
            return
        self.away.append(instance)
        self.box.neutron.update_port(port, host=FOREIGN)
        if sb.running:  # else nobody can take it
            bind(self.box, port, chassis=self._foreign)

    def change_mtu(self) -> None:
        """Change that of a network."""
        network = self.lot.choice(self.networks)
        mtu = self.lot.choice([1300, 1400, 1442, 1500])
        self.box.neutron.update_network(network, mtu=mtu)

    def change_metadata_port(self) -> None:
        """Make it anew: another name, another MAC."""
        network = self.lot.choice(self.networks)
        self.box.neutron.delete_port(network.metadata)
        self.box.neutron.restore_metadata_port(network)

    def add_subnet(self) -> None:
        """Add one, if it has not been added yet."""
        network = self.lot.choice(self.networks)
        cidr = "10.30.0.0/24"
        if cidr not in {str(item.cidr) for item in network.subnets}:
            added = subnet(cidr, gateway=False)
            self.box.neutron.add_subnet(network, added)

    # ----------------------------------------------------------- faults

    def break_something(self) -> None:
        """Have a fault, some with changes while it lasts."""
        at_once = [
            self.kill_haproxy,
            self.lose_namespace,
            self.lose_port,
            self.lose_files,
            self.restart_something,
            self.restart_something,
            self.kill_privsep,
            self.kill_supervisord,
        ]
        lasting = [
            self.without_agent,
            self.without_southbound,
            self.without_controller,
            self.hanging("privsep"),
            self.hanging("supervisord"),
        ]
        fault = self.lot.choice([*at_once, *lasting])
        if fault in at_once:
            self._do(fault)
            return
        print(f"{fault.__name__}:")
        with fault():
            for _ in range(self.lot.randint(0, 4)):
                self.change()
        print("  over")

    def kill_haproxy(self) -> None:
        """Kill one, a network's or the gateway's."""
        found = self.box.agent.processes("haproxy")
        if found:
            send_signal(self.lot.choice(found).pid, SIGKILL)

    def kill_privsep(self) -> None:
        self._kill("privsep")

    def kill_supervisord(self) -> None:
        self._kill("supervisord")

    def lose_namespace(self) -> None:
        """Take the name of one away; its processes live on."""
        found = sorted(NETNS_FOLDER.glob("ovnmeta-*"))
        with contextlib.suppress(CommandError, IndexError):  # gone just now
            run("ip", "netns", "delete", self.lot.choice(found).name)

    def lose_port(self) -> None:
        """Take one from the bridge."""
        found = self.box.ovn.vsctl("list-ports", "br-int").split()
        plugged = {instance.outer for instance in self.box.instances}
        taps = sorted(n for n in found if n.startswith("tap"))
        taps = [name for name in taps if name not in plugged]
        if taps:
            name = self.lot.choice(taps)
            self.box.ovn.vsctl("--if-exists", "del-port", name)

    def lose_files(self) -> None:
        """Lose all of the haproxies' files, and their sockets."""
        for folder in ("config", "read", "work"):
            for path in (host.FLEET / folder).rglob("*"):
                if path.suffix in (".conf", ".map", ".sock"):
                    path.unlink(missing_ok=True)

    def restart_something(self) -> None:
        """Restart a database, or who works on one; or kill it first."""
        ovn = self.box.ovn
        daemons = ("ovsdb-server", "sb", "nb", "northd", "ovn-controller")
        name = self.lot.choice([*daemons, "ovs-vswitchd"])
        print(f"  {name}")
        if self.lot.random() < 0.5:
            ovn.kill(name)
            ovn.start(name)
        else:
            ovn.restart(name)

    @contextlib.contextmanager
    def without_agent(self) -> Iterator[None]:
        """Kill the agent, or stop it; it is started again."""
        agent = self.box.agent
        self.lot.choice([agent.kill9, agent.stop])()
        yield
        agent.start()

    @contextlib.contextmanager
    def without_southbound(self) -> Iterator[None]:
        self.box.ovn.kill("sb")
        yield
        self.box.ovn.start("sb")

    @contextlib.contextmanager
    def without_controller(self) -> Iterator[None]:
        """Kill ovn-controller, or have it end: it takes its rows along."""
        ovn = self.box.ovn
        if self.lot.random() < 0.5:
            ovn.kill("ovn-controller")
        else:
            exit_controller(self.box)
        yield
        ovn.start("ovn-controller")

    def hanging(
        self, kind: str
    ) -> Callable[[], contextlib.AbstractContextManager[None]]:
        """Return the fault that a process of KIND hangs."""

        @contextlib.contextmanager
        def hang() -> Iterator[None]:
            pids = [one.pid for one in self.box.agent.processes(kind)]
            for pid in pids:
                send_signal(pid, SIGSTOP)
            yield
            for pid in pids:
                send_signal(pid, SIGCONT)

        hang.__name__ = f"{kind} hangs"
        return hang

    def _kill(self, kind: str) -> None:
        for process in self.box.agent.processes(kind):
            send_signal(process.pid, SIGKILL)

    def _do(self, act: Callable[[], None]) -> None:
        print(act.__name__)
        act()

    def _start_again(self) -> None:
        """Do as systemd does, where the agent could not start.

        For its privsep daemon was killed before it could answer.
        """
        agent = self.box.agent
        last = agent.log().splitlines()[-1]
        assert "privileged daemon did not start" in last
        print("  the agent is started again")
        agent.start()

    # ------------------------------------------------------- comparison

    def _synced(self) -> bool:
        """Tell whether the chassis has done all; databases were restarted."""
        with contextlib.suppress(CommandError, subprocess.TimeoutExpired):
            self.box.ovn.sync(timeout_s=50)
            return True
        return False

    def compare(self) -> None:
        """Wait until the host is as it should be, item by item."""
        print("compare")
        box = self.box
        try:
            box.agent.wait_ready(timeout_s=SETTLED_S)
        except RuntimeError:  # it ended
            self._start_again()
            box.agent.wait_ready(timeout_s=SETTLED_S)
        wait_for(self._synced, timeout_s=SETTLED_S, what="OVN that is done")
        served = set()
        here = [i for i in self.instances if i not in self.away]
        for network in self.networks:
            mine = [i.port for i in here if i.port.network is network]
            wait_host(box, network, *mine, timeout_s=SETTLED_S)
            served |= {network.id} if mine else set()
        wait_gone(box, *self.gone, timeout_s=SETTLED_S)
        for instance in here:
            readdress(instance)
            wait_answered(instance)
        wanted = self._nothing.with_networks(served)
        wait_everything(box, wanted, timeout_s=SETTLED_S)
        for network in self.networks:
            if network.id in served:
                mine = [i.port for i in here if i.port.network is network]
                written = written_map(network)
                assert written == expected_map(network, mine)


def readdress(instance: Instance) -> None:
    """Have INSTANCE take the addresses and routes of its port of now."""
    device = ("dev", "eth0")
    # Its link-local address stays.
    instance.execute("ip", "address", "flush", *device, "scope", "global")
    instance.execute("ip", "neighbour", "flush", *device)
    instance.configure()


def wait_answered(instance: Instance) -> None:
    """Wait until INSTANCE gets its own metadata, by what it has."""
    if instance.port.ip4:
        wait_served(instance, timeout_s=SETTLED_S)
        return
    wait_for(
        lambda: (
            instance.fetch(ipv6=True, timeout=2).text == instance.instance_id
        ),
        timeout_s=SETTLED_S,
        what="metadata over IPv6",
    )


def expected_map(network: Network, ports: list[Port]) -> dict[str, str]:
    """Return whose each address is to be."""
    served = expected(network, ports)
    assert served is not None
    return dict(served.instances)


def now_open(box: Sandbox) -> dict[str, Counter[str]]:
    """Return how many descriptors of each kind our daemons have."""
    return {
        kind: sum(
            (descriptors(p.pid) for p in box.agent.processes(kind)), Counter()
        )
        for kind in KINDS
    }


def open_at_rest(box: Sandbox) -> dict[str, Counter[str]]:
    """Return what `now_open` does, without what is open for a moment only.

    The agent asks Nova and haproxies now and then, and supervisord.
    """
    least = now_open(box)
    looks: list[None] = []

    def looked() -> bool:
        for kind, found in now_open(box).items():
            least[kind] &= found
        looks.append(None)
        return len(looks) >= LOOKS

    wait_for(looked, timeout_s=60, interval_s=0.1, what="so many looks")
    return least


def wait_open(box: Sandbox, wanted: dict[str, Counter[str]]) -> None:
    """Wait until they have WANTED, no more and no less."""
    seen: dict[str, Counter[str]] = {}

    def so() -> bool:
        seen.update(now_open(box))
        return seen == wanted

    try:
        wait_for(so, timeout_s=SETTLED_S, interval_s=0.1, what="so few open")
    except TimeoutError:
        more = {
            kind: (seen[kind] - wanted[kind], wanted[kind] - seen[kind])
            for kind in KINDS
        }
        pids = [process.pid for process in box.agent.processes(*KINDS)]
        sockets = "\n".join(
            line
            for line in run("ss", "-anpO").splitlines()
            if any(f"pid={pid}," in line for pid in pids)
        )
        raise TimeoutError(
            f"too many, too few descriptors: {more}\n{sockets}"
        ) from None


def test_a_sandbox_leaves_no_link(host):
    """A namespace may outlive it; its veth would be taken for a new one's."""
    box = host.sandbox()
    network = box.neutron.create_network("n")
    instance = box.instance(box.neutron.create_port(network))
    with (NETNS_FOLDER / instance.namespace).open("rb"):
        host.clear()
        assert [*Path("/sys/class/net").glob("tap*")] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(own_box, seed):
    box = own_box
    print(f"seed {seed}, {STEPS} steps")
    box.agent.configure(OPTIONS)
    box.agent.start()
    box.agent.wait_ready()
    chaos = Chaos(box, seed)
    opened = open_at_rest(box)
    for _ in range(STEPS):
        if chaos.lot.random() < 0.3:
            chaos.break_something()
        else:
            chaos.change()
        if chaos.lot.random() < COMPARISONS:
            chaos.compare()
    chaos.compare()

    box.unplug(chaos.instances)
    for network in chaos.networks:
        box.neutron.delete_network(network)
    ids = [*chaos.gone, *(network.id for network in chaos.networks)]
    chaos.networks, chaos.instances, chaos.gone = [], [], ids
    chaos.away = []
    chaos.compare()  # with what there was before all of it
    wait_open(box, opened)
    lines = box.agent.log_file.read_text().splitlines()
    # A daemon that is killed before it could answer leaves the library's.
    ours = [line for line in lines if "oslo.privsep" not in line]
    assert "Traceback" not in "\n".join(ours)
