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
    box.ovn.start("ovn-controller")  # it makes one of the right kind
    wait_for(
        lambda: BRIDGE in box.ovn.vsctl("list-br").split(),
        timeout_s=60,
        what=f"{BRIDGE} again",
    )
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


def _another_interface(scene: Scene, name: str, iface_id: str) -> None:
    """Plug an interface NAME that has IFACE_ID as well."""
    vsctl = scene.box.ovn.vsctl
    row = ("set", "Interface", name, "type=internal")
    ids = f"external_ids:iface-id={iface_id}"
    vsctl("add-port", BRIDGE, name, "--", *row, ids)


@fault("212", slow=True)
def interface_with_the_same_iface_id(scene: Scene) -> Iterator[None]:
    """Another interface has the instance's iface-id; OVN takes that one."""
    _another_interface(scene, "old0", scene.subject.port.id)
    yield
    scene.box.ovn.vsctl("del-port", "old0")


@fault("210", heals=True, slow=True)
def veth_of_another_type(scene: Scene) -> Iterator[None]:
    """The veth's port has a type of which there is no such device."""
    vsctl = scene.box.ovn.vsctl
    vsctl("--no-wait", "set", "Interface", scene.outer, "type=patch")
    yield
    scene.resync()


@fault("212", host=False, slow=True)
def queue_on_the_instances_device(scene: Scene) -> Iterator[None]:
    """Traffic control drops what goes to the instance."""
    where = ("dev", scene.subject.outer, "root")
    rate = ("tbf", "rate", "8bit", "burst", "8", "latency", "1ms")
    run("tc", "qdisc", "add", *where, *rate)
    yield
    run("tc", "qdisc", "del", *where)


@fault("212", cuts=False, host=False, slow=True)
def instances_device_with_a_small_mtu(scene: Scene) -> Iterator[None]:
    """Long answers do not pass the instance's device."""
    run("ip", "link", "set", scene.subject.outer, "mtu", "600")
    yield
    run("ip", "link", "set", scene.subject.outer, "mtu", "1500")


@fault("107", slow=True)
def bridge_with_another_datapath(scene: Scene) -> Iterator[None]:
    """The bridge has a datapath_type that ovs-vswitchd lacks."""
    vsctl = scene.box.ovn.vsctl
    ours = "external_ids:ovn-bridge-datapath-type="
    wrong = ("set", "Bridge", BRIDGE, "datapath_type=system")
    vsctl("--no-wait", "set", "Open_vSwitch", ".", f"{ours}system")
    vsctl("--no-wait", *wrong)
    yield
    vsctl("--no-wait", "set", "Open_vSwitch", ".", f"{ours}netdev")
    vsctl("set", "Bridge", BRIDGE, "datapath_type=netdev")


@fault("107", slow=True)
def vswitchd_waits_for_flows(scene: Scene) -> Iterator[None]:
    """An upgrade has left flow-restore-wait: no packet is handled."""
    ovn, key = scene.box.ovn, "flow-restore-wait"
    ovn.vsctl("set", "Open_vSwitch", ".", f"other_config:{key}=true")
    ovn.kill("ovs-vswitchd")
    ovn.start("ovs-vswitchd")
    yield
    ovn.vsctl("remove", "Open_vSwitch", ".", "other_config", key)


@fault("206", host=False, slow=True)
def port_that_may_not_forward(scene: Scene) -> Iterator[None]:
    """Somebody forbade to forward to the veth's port."""
    change = ("ovs-ofctl", "mod-port", BRIDGE, scene.outer)
    run(*change, "no-forward")
    yield
    run(*change, "forward")


@fault("206", "205", host=False, slow=True)
def bridge_speaks_an_older_openflow(scene: Scene) -> Iterator[None]:
    """ovn-controller can't install the flows of a new instance."""
    vsctl = scene.box.ovn.vsctl
    vsctl("set", "Bridge", BRIDGE, "protocols=OpenFlow13")
    scene.newcomer(network=scene.elsewhere.port.network)
    yield
    vsctl("clear", "Bridge", BRIDGE, "protocols")
    scene.remove_newcomer()


def _unbound(scene: Scene, key: str, value: str) -> Iterator[None]:
    """Give the setting KEY of ovn-controller VALUE; "" removes it."""
    vsctl, database = scene.box.ovn.vsctl, ("Open_vSwitch", ".")
    before = vsctl("get", *database, f"external_ids:{key}").strip()
    if value:
        vsctl("set", *database, f"external_ids:{key}={value}")
    else:
        vsctl("remove", *database, "external_ids", key)
    scene.newcomer(network=scene.elsewhere.port.network)
    yield
    vsctl("set", *database, f"external_ids:{key}={before}")
    scene.remove_newcomer()


@fault("205", slow=True)
def encapsulation_without_address(scene: Scene) -> Iterator[None]:
    """ovn-encap-ip is gone: ovn-controller does nothing new."""
    yield from _unbound(scene, "ovn-encap-ip", "")


@fault("106", slow=True)
def controller_without_southbound(scene: Scene) -> Iterator[None]:
    """ovn-remote names a server that does not listen."""
    wrong = '"tcp:127.0.0.1:6699"'
    yield from _unbound(scene, "ovn-remote", wrong)
