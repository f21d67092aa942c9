"""The veth between the bridge and the network's namespace."""

from __future__ import annotations

from collections.abc import Iterator

from ..daemons import run
from .scene import Scene
from .table import fault


@fault("209", "210", heals=True)
def outer_end_down(scene: Scene) -> Iterator[None]:
    """The end of the veth on the bridge is down."""
    run("ip", "link", "set", scene.outer, "down")
    yield
    scene.resync()


@fault("209", "210", heals=True)
def inner_end_down(scene: Scene) -> Iterator[None]:
    """The end of the veth in the namespace is down."""
    scene.ip("link", "set", scene.inner, "down")
    yield
    scene.resync()


@fault("209", "210", heals=True, slow=True)
def veth_deleted(scene: Scene) -> Iterator[None]:
    """The veth is gone."""
    run("ip", "link", "delete", scene.outer)
    yield
    scene.resync()


@fault("210", heals=True)
def veth_unplugged(scene: Scene) -> Iterator[None]:
    """The veth is not on the bridge."""
    scene.box.ovn.vsctl("del-port", scene.outer)
    yield
    scene.resync()


@fault("210", heals=True)
def veth_with_a_wrong_iface_id(scene: Scene) -> Iterator[None]:
    """The veth's port has another name than the localport."""
    wrong = "external_ids:iface-id=somebody-else"
    scene.box.ovn.vsctl("set", "Interface", scene.outer, wrong)
    yield
    scene.resync()


@fault("210", heals=True, slow=True)
def veth_on_another_bridge(scene: Scene) -> Iterator[None]:
    """The veth is on a bridge that is not OVN's."""
    vsctl = scene.box.ovn.vsctl
    other = ("--may-exist", "add-br", "br-x", "--", "set", "Bridge", "br-x")
    vsctl(*other, "datapath_type=netdev")
    vsctl("del-port", scene.outer, "--", "add-port", "br-x", scene.outer)
    yield
    scene.resync()
    vsctl("--if-exists", "del-br", "br-x")


@fault("209", "306", host=False)
def packets_lost_on_the_veth(scene: Scene) -> Iterator[None]:
    """Traffic control drops what leaves the namespace."""
    where = ("dev", scene.inner, "root")
    scene.inside(
        "tc",
        "qdisc",
        "add",
        *where,
        "tbf",
        "rate",
        "8bit",
        "burst",
        "8",
        "latency",
        "1ms",
    )
    yield
    scene.inside("tc", "qdisc", "del", *where)
