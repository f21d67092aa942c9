"""Flows, ovn-controller, ovs-vswitchd and the integration bridge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .. import attach_all, wait_for
from ..case import wait_served
from ..daemons import CommandError, run
from .scene import Scene
from .table import fault

BRIDGE = "br-int"


@fault("206", host=False)
def flows_deleted(scene: Scene) -> Iterator[None]:
    """Somebody deleted all flows; ovn-controller does not see it."""
    run("ovs-ofctl", "del-flows", BRIDGE)
    yield
    scene.box.ovn.restart("ovn-controller")


@fault("106", "206", slow=True)
def flows_deleted_and_controller_dead(scene: Scene) -> Iterator[None]:
    """There is nobody who would install the flows again."""
    scene.box.ovn.kill("ovn-controller")
    run("ovs-ofctl", "del-flows", BRIDGE)
    yield
    scene.box.ovn.start("ovn-controller")


@fault("206", host=False)
def flow_that_drops(scene: Scene) -> Iterator[None]:
    """A flow of high priority drops what goes to the metadata address."""
    flow = "table=0,priority=65535,tcp,nw_dst=169.254.169.254,actions=drop"
    run("ovs-ofctl", "add-flow", BRIDGE, flow)
    yield
    scene.box.ovn.restart("ovn-controller")


@fault("206", slow=True, host=False)
def flow_that_drops_answers(scene: Scene) -> Iterator[None]:
    """A flow of high priority drops the answers."""
    flow = "table=0,priority=65535,tcp,nw_src=169.254.169.254,actions=drop"
    run("ovs-ofctl", "add-flow", BRIDGE, flow)
    yield
    scene.box.ovn.restart("ovn-controller")


@fault("106", slow=True)
def controller_dead(scene: Scene) -> Iterator[None]:
    """ovn-controller has died: what is here is served, and nothing new."""
    scene.box.ovn.kill("ovn-controller")
    scene.newcomer(network=scene.elsewhere.port.network)
    yield
    scene.box.ovn.start("ovn-controller")
    scene.remove_newcomer()


@fault("106", slow=True)
def controller_hangs(scene: Scene) -> Iterator[None]:
    """ovn-controller hangs: what is here is served, and nothing new."""
    scene.box.ovn.freeze("ovn-controller")
    scene.newcomer(network=scene.elsewhere.port.network)
    yield
    scene.box.ovn.kill("ovn-controller")
    scene.box.ovn.start("ovn-controller")
    scene.remove_newcomer()


@fault("107", slow=True)
def vswitchd_hangs(scene: Scene) -> Iterator[None]:
    """ovs-vswitchd hangs, and every packet of the host is lost."""
    scene.box.ovn.freeze("ovs-vswitchd")
    yield
    scene.box.ovn.kill("ovs-vswitchd")
    scene.box.ovn.start("ovs-vswitchd")


@fault("107", slow=True)
def vswitchd_dead(scene: Scene) -> Iterator[None]:
    """ovs-vswitchd has died."""
    scene.box.ovn.kill("ovs-vswitchd")
    yield
    scene.box.ovn.start("ovs-vswitchd")


@fault("110", "106")
def bridge_missing(scene: Scene) -> Iterator[None]:
    """The bridge is gone, and ovn-controller, which would make it."""
    box = scene.box
    box.ovn.kill("ovn-controller")
    box.ovn.vsctl("del-br", BRIDGE)
    yield
    box.ovn.start("ovn-controller")
    box.ovn.vsctl("--may-exist", "add-br", BRIDGE)
    attach_all(box.instances)


@fault("110", "205", "210", slow=True)
def bridge_renamed(scene: Scene) -> Iterator[None]:
    """ovn-bridge names another bridge than the one of the instances."""
    vsctl = scene.box.ovn.vsctl
    vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-bridge=br-other")
    yield
    vsctl("set", "Open_vSwitch", ".", f"external_ids:ovn-bridge={BRIDGE}")
    wait_served(scene.subject, timeout_s=60)
    with contextlib.suppress(CommandError):
        vsctl("--if-exists", "del-br", "br-other")


@fault("205", "208", host=False)
def instance_not_plugged(scene: Scene) -> Iterator[None]:
    """The instance's device is not on the bridge."""
    scene.box.ovn.vsctl("del-port", scene.subject.outer)
    yield
    attach_all([scene.subject])


@fault("205", "208", slow=True)
def instance_with_a_wrong_iface_id(scene: Scene) -> Iterator[None]:
    """The instance's device has a name that no port has."""
    name, vsctl = scene.subject.outer, scene.box.ovn.vsctl
    wrong = "00000000-0000-4000-8000-000000000000"
    vsctl("set", "Interface", name, f"external_ids:iface-id={wrong}")
    yield
    right = scene.subject.port.id
    vsctl("set", "Interface", name, f"external_ids:iface-id={right}")


@fault("212", host=False, slow=True)
def instance_device_down(scene: Scene) -> Iterator[None]:
    """The host's end of the instance's device is down."""
    run("ip", "link", "set", scene.subject.outer, "down")
    yield
    run("ip", "link", "set", scene.subject.outer, "up")


@fault("205", "106", host=True, slow=True)
def northd_dead(scene: Scene) -> Iterator[None]:
    """ovn-northd has died: what Neutron writes does not reach Southbound."""
    scene.box.ovn.kill("northd")
    scene.newcomer(network=scene.elsewhere.port.network)
    yield
    scene.box.ovn.start("northd")
    wait_for(scene.is_served, timeout_s=60, what="the new instance")
    scene.remove_newcomer()
