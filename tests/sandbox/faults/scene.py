"""A chassis on which faults are tried one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import Instance, Network, Sandbox, host, wait_for
from ..case import Case, Host, is_served, ready, wait_served
from ..daemons import CommandError, run
from ..hoststate import haproxies
from ..processes import send_signal

_SMALL = "size=8m,mode=0711"
OPTIONS = {
    # So that nothing is mended before it was asked for.
    ("ovn_metadata_agent", "resync_interval"): "600",
    ("ovn_metadata_agent", "selfcheck_interval"): "10",
}


@dataclasses.dataclass
class Scene:
    """Two instances of a network, one of another; the first is the subject.

    Addresses and routes of the subject came by DHCP.
    """

    box: Sandbox
    subject: Instance
    neighbour: Instance  # on the same network
    elsewhere: Instance  # on another network

    @property
    def network(self) -> Network:
        """The subject's network."""
        return self.subject.port.network

    @property
    def key(self) -> str:
        """The subject's network's id."""
        return self.network.id

    @property
    def outer(self) -> str:
        """The end of the network's veth that is on the bridge."""
        return f"tap{self.key[:10]}0"

    @property
    def inner(self) -> str:
        """The other end of it."""
        return f"tap{self.key[:10]}1"

    @property
    def address(self) -> str:
        """The subject's address."""
        return str(self.subject.port.ip4)

    def inside(self, *command: str) -> str:
        """Run COMMAND in the network's namespace."""
        return run("ip", "netns", "exec", self.network.namespace, *command)

    def ip(self, *arguments: str) -> str:
        """Run ip in the network's namespace."""
        return run("ip", "-n", self.network.namespace, *arguments)

    def sysctl(self, name: str, value: str) -> None:
        """Set a sysctl in the network's namespace."""
        self.inside("sysctl", "-q", "-w", f"{name}={value}")

    def resync(self) -> None:
        """Have the agent look at everything again, as SIGHUP does."""
        self.box.agent.reload()

    def configure(self, **options: str) -> None:
        """Change options of the section DEFAULT, and reload."""
        self.box.agent.configure(
            {("DEFAULT", name): value for name, value in options.items()}
        )
        self.box.agent.reload()

    def signal(self, key: str, number: int) -> list[int]:
        """Send a signal to KEY's haproxy; return the PIDs."""
        pids = haproxies(self.box, key)
        for pid in pids:
            send_signal(pid, number)
        return pids

    def forget_neighbours(self) -> None:
        """Have the guests ask again who has an address.

        They would by themselves, within a minute.
        """
        for instance in self.box.instances:
            with contextlib.suppress(CommandError):
                instance.execute("ip", "neighbour", "flush", "dev", "eth0")

    def newcomer(self, *, network: Network | None = None) -> Instance:
        """Plug an instance, on a network of its own if none is given.

        It becomes the subject; nobody waits for OVN or for the agent.
        """
        neutron = self.box.neutron
        network = network or neutron.create_network("late", gateway=False)
        port = neutron.create_port(network, name="late")
        (self.subject,) = self.box.plug([port], wait=False)
        return self.subject

    def remove_newcomer(self) -> None:
        """Remove what `newcomer` made, once it is served."""
        wait_served(self.subject, timeout_s=120)
        self.box.unplug([self.subject])
        network = self.subject.port.network
        if network is self.elsewhere.port.network:
            self.box.neutron.delete_port(self.subject.port)
        else:
            self.box.neutron.delete_network(network)

    def is_served(self, *, ipv6: bool = False) -> bool:
        """Tell whether the subject gets its metadata now."""
        with contextlib.suppress(OSError, CommandError):
            return is_served(self.subject, ipv6=ipv6, timeout_s=1.0)
        return False

    def wait_cut(self, *, ipv6: bool = False, timeout_s: float = 15) -> None:
        """Wait until the subject gets no metadata."""
        wait_for(
            lambda: not self.is_served(ipv6=ipv6),
            timeout_s=timeout_s,
            interval_s=0.2,
            what="an instance without metadata",
        )


def renew(instance: Instance) -> None:
    """Have INSTANCE ask for its routes again, as if it booted."""
    instance.execute("ip", "-4", "route", "flush", "dev", "eth0")
    instance.execute("ip", "-4", "address", "flush", "dev", "eth0")
    with contextlib.suppress(CommandError):
        instance.request_lease()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Have FOLDER be a small disk of its own."""
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", _SMALL, "small", str(folder))
    try:
        yield
    finally:
        run("umount", "--lazy", str(folder))


@contextlib.contextmanager
def scene(
    host_: Host, options: Mapping[tuple[str, str], str] | None = None
) -> Iterator[Scene]:
    """Make a chassis that is served; OPTIONS are the agent's."""
    host_.clear()  # while its folders are the ones of its sandbox
    with small_disk(host.FLEET):
        box = ready(host_.sandbox({**OPTIONS, **(options or {})}))
        try:
            yield _scene(box)
        finally:
            host_.clear()


def _scene(box: Sandbox) -> Scene:
    case = Case(box)
    one = case.network("office", "10.10.0.0/24", "fd00:10::/64")
    other = case.network("lab", "10.20.0.0/24")
    create = box.neutron.create_port
    (subject,) = case.plug([create(one, name="web")], dhcp=True)
    rest = case.plug([create(one, name="db"), create(other, name="build")])
    return Scene(box, subject, *rest)
