"""The guest's own settings: the path is whole, and nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator

from .scene import Scene, renew
from .table import fault


@fault("601", cuts=False, host=False)
def guest_asks_for_nothing(scene: Scene) -> Iterator[None]:
    """cloud-init's datasource_list has no OpenStack in it."""
    network = scene.elsewhere.port.network
    scene.newcomer(network=network)
    scene.box.ovn.wait_installed([scene.subject.port.id])
    yield
    scene.remove_newcomer()


@fault("601", host=False)
def guest_without_route(scene: Scene) -> Iterator[None]:
    """The guest has no route to the metadata address."""
    scene.subject.execute("ip", "route", "del", "169.254.169.254")
    yield
    renew(scene.subject)


@fault("601", host=False)
def guest_firewall(scene: Scene) -> Iterator[None]:
    """The guest's own firewall drops its requests."""
    rule = ("OUTPUT", "-d", "169.254.169.254", "-j", "DROP")
    scene.subject.execute("iptables", "-A", *rule)
    yield
    scene.subject.execute("iptables", "-D", *rule)


@fault("601", host=False)
def guest_with_another_address(scene: Scene) -> Iterator[None]:
    """The guest has an address that its port has not."""
    subject = scene.subject
    subject.execute("ip", "-4", "address", "flush", "dev", "eth0")
    subject.execute("ip", "address", "add", "10.10.0.77/24", "dev", "eth0")
    via = ("via", str(scene.network.metadata.ip4))
    subject.execute("ip", "route", "add", "169.254.169.254", *via)
    yield
    renew(subject)


@fault("212", "601", host=False, slow=True)
def guest_link_down(scene: Scene) -> Iterator[None]:
    """The guest's link is down."""
    scene.subject.execute("ip", "link", "set", "eth0", "down")
    yield
    scene.subject.execute("ip", "link", "set", "eth0", "up")
    renew(scene.subject)


@fault("601", host=False, slow=True)
def guest_with_another_mac(scene: Scene) -> Iterator[None]:
    """The guest has another MAC than its port: OVN drops all it sends."""
    subject, change = scene.subject, ("ip", "link", "set", "eth0", "address")
    subject.execute(*change, "02:00:00:00:00:09")
    yield
    subject.execute(*change, subject.port.mac)
    renew(subject)


@fault("601", host=False, slow=True)
def guest_with_a_static_neighbour(scene: Scene) -> Iterator[None]:
    """The guest has a wrong MAC for the metadata port."""
    what = (str(scene.network.metadata.ip4), "dev", "eth0")
    wrong = ("lladdr", "02:00:00:00:00:01", "nud", "permanent")
    change = ("ip", "neighbour")
    scene.subject.execute(*change, "replace", *what, *wrong)
    yield
    scene.subject.execute(*change, "del", *what)
