"""Rows by Neutron that are wrong, and DHCP's route."""

from __future__ import annotations

from collections.abc import Iterator

from ..waiting import wait_for
from .scene import Scene, renew
from .table import fault

_ELSEWHERE = "compute-2.example"


@fault("201")
def no_localport(scene: Scene) -> Iterator[None]:
    """Neutron has lost the network's metadata port."""
    scene.box.neutron.delete_port(scene.network.metadata)
    yield
    scene.box.neutron.restore_metadata_port(scene.network)


@fault("201", "109")
def localport_without_mac(scene: Scene) -> Iterator[None]:
    """The metadata port has neither MAC nor addresses."""
    metadata = scene.network.metadata
    scene.box.ovn.nbctl("lsp-set-addresses", metadata.id)
    yield
    scene.box.neutron.update_port(metadata)


@fault("201", "109")
def localport_of_another_owner(scene: Scene) -> Iterator[None]:
    """The metadata port's device owner is DHCP's, as before Neutron 2023."""
    neutron, metadata = scene.box.neutron, scene.network.metadata
    neutron.update_port(metadata, device_owner="network:dhcp")
    yield
    neutron.update_port(metadata, device_owner="network:distributed")


@fault("109", "201", slow=True)
def localport_is_virtual(scene: Scene) -> Iterator[None]:
    """Its address became an allowed address pair of somebody's port."""
    metadata = scene.network.metadata
    metadata.kind = "virtual"
    scene.box.ovn.nbctl("lsp-set-type", metadata.id, "virtual")
    yield
    metadata.kind = "localport"
    scene.box.ovn.nbctl("lsp-set-type", metadata.id, "localport")


@fault("207", "201", host=False)
def localport_without_addresses(scene: Scene) -> Iterator[None]:
    """The metadata port lost its fixed address: the route leads nowhere."""
    neutron, metadata = scene.box.neutron, scene.network.metadata
    before = [str(address) for address, _ in metadata.fixed]
    neutron.update_port(metadata, addresses=[])
    scene.box.ovn.sync()
    wait_for(  # a namespace that has the address still answers for it
        lambda: not any(a in scene.ip("address") for a in before),
        timeout_s=60,
        what="a namespace without the address",
    )
    scene.forget_neighbours()
    yield
    neutron.update_port(metadata, addresses=before)


@fault("211", host=False)
def port_without_device(scene: Scene) -> Iterator[None]:
    """The port has no device id: it is nobody's."""
    port = scene.subject.port
    before = port.device_id
    scene.box.neutron.update_port(port, instance_id="")
    yield
    scene.box.neutron.update_port(port, instance_id=before)


@fault("203")
def address_of_two_ports(scene: Scene) -> Iterator[None]:
    """Another port of the network has the same address."""
    box = scene.box
    port = box.neutron.create_port(
        scene.network, name="twin", addresses=[scene.address]
    )
    twins = box.plug([port], wait=False)
    yield
    box.unplug(twins)
    box.neutron.delete_port(port)


@fault("205", "208", "206", slow=True)
def port_requested_elsewhere(scene: Scene) -> Iterator[None]:
    """Neutron has the port on another host, and its instance is here."""
    port = scene.subject.port
    scene.box.neutron.update_port(port, host=_ELSEWHERE)
    yield
    scene.box.neutron.update_port(port, host=True)


@fault("208", "205", host=False, slow=True)
def network_deleted(scene: Scene) -> Iterator[None]:
    """The network was deleted while its instance ran."""
    box = scene.box
    scene.newcomer()
    box.ovn.wait_installed([scene.subject.port.id])
    box.neutron.delete_network(scene.network)
    yield
    box.unplug([scene.subject])
    scene.subject = scene.neighbour


@fault("206", slow=True)
def metadata_port_disabled(scene: Scene) -> Iterator[None]:
    """The metadata port's administrative state is down."""
    change = ("--wait=hv", "lsp-set-enabled", scene.network.metadata.id)
    scene.box.ovn.nbctl(*change, "disabled")
    yield
    scene.box.ovn.nbctl(*change, "enabled")


@fault("206", host=False)
def port_disabled(scene: Scene) -> Iterator[None]:
    """The port's administrative state is down."""
    name = scene.subject.port.id
    scene.box.ovn.nbctl("--wait=hv", "lsp-set-enabled", name, "disabled")
    yield
    scene.box.ovn.nbctl("--wait=hv", "lsp-set-enabled", name, "enabled")


@fault("206", host=False)
def security_group_lets_nothing_out(scene: Scene) -> Iterator[None]:
    """No rule of the security group allows what the instance asks."""
    where = (scene.network.switch, "from-lport", "1002")
    match = f'inport == "{scene.subject.port.id}" && ip4'
    scene.box.ovn.nbctl("--wait=hv", "acl-add", *where, match, "drop")
    yield
    scene.box.ovn.nbctl("--wait=hv", "acl-del", *where, match)


@fault("206", host=False, slow=True)
def security_group_lets_nothing_in(scene: Scene) -> Iterator[None]:
    """A rule drops the answers."""
    where = (scene.network.switch, "to-lport", "1002")
    match = f'outport == "{scene.subject.port.id}" && ip4'
    scene.box.ovn.nbctl("--wait=hv", "acl-add", *where, match, "drop")
    yield
    scene.box.ovn.nbctl("--wait=hv", "acl-del", *where, match)


@fault("207", host=False)
def dhcp_without_route(scene: Scene) -> Iterator[None]:
    """The DHCP options have lost the route to the metadata address."""
    nbctl, row = scene.box.ovn.nbctl, scene.network.subnets[0].options_id
    column = "options:classless_static_route"
    before = nbctl("get", "DHCP_Options", row, column).strip()
    remove = ("remove", "DHCP_Options", row, "options")
    nbctl("--wait=hv", *remove, "classless_static_route")
    renew(scene.subject)
    yield
    nbctl("--wait=hv", "set", "DHCP_Options", row, f"{column}={before}")
    renew(scene.subject)


@fault("207", host=False)
def dhcp_off(scene: Scene) -> Iterator[None]:
    """The port has no DHCP: the guest set its address by itself."""
    nbctl, port = scene.box.ovn.nbctl, scene.subject.port
    nbctl("--wait=hv", "lsp-set-dhcpv4-options", port.id)
    subject = scene.subject
    subject.execute("ip", "route", "del", "169.254.169.254")
    yield
    row = scene.network.subnets[0].options_id
    nbctl("--wait=hv", "lsp-set-dhcpv4-options", port.id, row)
    renew(subject)


@fault("207", host=False, slow=True)
def route_by_another_address(scene: Scene) -> Iterator[None]:
    """DHCP's route leads to an address that is not the metadata port's."""
    nbctl, row = scene.box.ovn.nbctl, scene.network.subnets[0].options_id
    column = "options:classless_static_route"
    before = nbctl("get", "DHCP_Options", row, column).strip()
    wrong = '"{169.254.169.254/32,10.10.0.99}"'
    nbctl("--wait=hv", "set", "DHCP_Options", row, f"{column}={wrong}")
    renew(scene.subject)
    yield
    nbctl("--wait=hv", "set", "DHCP_Options", row, f"{column}={before}")
    renew(scene.subject)


@fault("206", host=False, slow=True)
def load_balancer_at_the_address(scene: Scene) -> Iterator[None]:
    """A load balancer of the network has the metadata address."""
    nbctl, switch = scene.box.ovn.nbctl, scene.network.switch
    ends = ("169.254.169.254:80", "10.10.0.99:80")
    nbctl("--wait=hv", "lb-add", "lb", *ends, "--", "ls-lb-add", switch, "lb")
    yield
    nbctl("--wait=hv", "ls-lb-del", switch, "lb", "--", "lb-del", "lb")


@fault("204", slow=True)
def network_with_the_same_ten_characters(scene: Scene) -> Iterator[None]:
    """Another network has the name of this one's veth."""
    box, key = scene.box, scene.key
    other = key[:10] + ("0" if key[10] != "0" else "1") + key[11:]
    network = box.neutron.create_network(
        "twin", gateway=False, network_id=other
    )
    port = box.neutron.create_port(network, name="late")
    (scene.subject,) = box.plug([port], wait=False)
    yield
    box.unplug([scene.subject])
    box.neutron.delete_network(network)


@fault("203", slow=True)
def mac_of_two_ports(scene: Scene) -> Iterator[None]:
    """Another port of the network has the instance's MAC."""
    box = scene.box
    port = box.neutron.create_port(
        scene.network, name="twin", mac=scene.subject.port.mac
    )
    twins = box.plug([port], wait=False)
    yield
    box.unplug(twins)
    box.neutron.delete_port(port)
