"""Stand in for neutron-server: networks, ports and routers in OVN.

Every call is one Northbound transaction; within `batch()` many calls are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Sequence

from . import foreign, model, operations, ovsdb, rows
from .model import Network, Port, Router, Subnet
from .operations import COMPUTE, subnet
from .ovn import Ovn

DISTRIBUTED = "network:distributed"
HEALTH_MONITOR = "ovn-lb-hm:distributed"
SUBPORT = "trunk:subport"


class Neutron:
    """Writes what neutron-server would, for the chassis of OVN."""

    def __init__(self, ovn: Ovn) -> None:
        self._ovn = ovn
        self._pending: list[ovsdb.Operation] | None = None
        self._attached: dict[str, list[str]] = {}  # switch -> its new ports
        self.networks: dict[str, Network] = {}

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Collect what is written meanwhile into one transaction.

        A port made within cannot be deleted within.
        """
        self._pending = []
        try:
            yield
            changes = self._pending + [
                operations.attach(switch, ports)
                for switch, ports in self._attached.items()
            ]
        finally:
            self._pending = None
            self._attached = {}
        self._write(changes)

    # -- networks ---------------------------------------------------------

    def create_network(
        self,
        name: str,
        *,
        subnets: Sequence[str | Subnet] = ("10.10.0.0/24",),
        mtu: int = 1442,
        gateway: bool = True,
        project_id: str = model.PROJECT,
        network_id: str = "",
    ) -> Network:
        """Create a network with its subnets and its metadata port.

        GATEWAY is that of the subnets given as text. An IPv6 subnet is a
        SLAAC one.
        """
        network = Network(
            id=network_id or str(uuid.uuid4()),
            name=name,
            mtu=mtu,
            project_id=project_id,
            subnets=[
                subnet(item, gateway=gateway)
                if isinstance(item, str)
                else item
                for item in subnets
            ],
        )
        network.metadata = Port(
            id=str(uuid.uuid4()),
            row_id=str(uuid.uuid4()),
            network=network,
            mac=model.new_mac(),
            fixed=[],
            device_id=network.namespace,
            device_owner=DISTRIBUTED,
            project_id=project_id,
            kind="localport",
        )
        served = [item for item in network.subnets if item.dhcp]
        network.metadata.fixed = operations.free_addresses(
            network, network.metadata.mac, served
        )
        changes = [
            ovsdb.insert(
                "Logical_Switch",
                rows.switch_row(network, [network.metadata]),
                uuid=network.id,
            ),
            operations.insert_port(network.metadata),
        ]
        for item in served:
            changes += operations.insert_dhcp(network, item)
        self._write(changes)
        self.networks[network.id] = network
        return network

    def delete_network(self, network: Network) -> None:
        """Delete NETWORK with its ports, bound ones too."""
        self._write(
            [
                ovsdb.delete("Logical_Switch", ovsdb.by_uuid(network.id)),
                *(
                    ovsdb.delete(
                        "DHCP_Options", ovsdb.by_uuid(item.options_id)
                    )
                    for item in network.subnets
                    if item.dhcp4
                ),
            ]
        )
        self.networks.pop(network.id, None)

    def add_subnet(self, network: Network, item: Subnet) -> None:
        """Add a subnet; the metadata port gets an address in place."""
        network.subnets.append(item)
        changes: list[ovsdb.Operation] = []
        if item.dhcp:
            port = network.metadata
            port.fixed += operations.free_addresses(network, port.mac, [item])
            changes = operations.insert_dhcp(network, item)
            changes.append(operations.update_port(port))
        self._write(changes)

    def remove_subnet(self, network: Network, item: Subnet) -> None:
        """Remove a subnet in which no instance has an address any more."""
        network.subnets.remove(item)
        port = network.metadata
        port.fixed = [one for one in port.fixed if one[0] not in item.cidr]
        changes = [operations.update_port(port)]
        if item.dhcp4:
            changes.append(
                ovsdb.delete("DHCP_Options", ovsdb.by_uuid(item.options_id))
            )
        self._write(changes)

    def enable_dhcp(self, network: Network, item: Subnet) -> None:
        """Turn on the DHCP of a subnet made without."""
        network.subnets.remove(item)
        item.dhcp = True
        self.add_subnet(network, item)

    def update_network(self, network: Network, *, mtu: int) -> None:
        """Change the MTU of NETWORK; its metadata port tells the agent."""
        network.mtu = mtu
        key = "neutron:mtu"
        value = {key: str(mtu)}
        change = ovsdb.mutate(
            "Logical_Switch",
            network.id,
            "external_ids",
            "delete",
            ovsdb.to_set((key,)),
        )
        change["mutations"].append(
            ["external_ids", "insert", ovsdb.to_map(value)]
        )
        self._write([change, operations.update_port(network.metadata)])

    # -- ports ------------------------------------------------------------

    def create_port(
        self,
        network: Network,
        *,
        name: str = "",
        instance_id: str | None = None,
        project_id: str | None = None,
        addresses: Sequence[str] | None = None,
        mac: str | None = None,
        host: bool | str = True,
        device_owner: str = COMPUTE,
        port_security: bool = True,
        allowed: Sequence[tuple[str, str]] = (),
    ) -> Port:
        """Create an instance's port; bound to this chassis unless told.

        ADDRESSES None means one of each subnet; a subnet's CIDR among
        them, one of that. HOST False leaves the port unbound, a name binds
        it to another chassis. ALLOWED are its allowed address pairs.
        """
        port = operations.new_port(
            network, mac=mac, addresses=addresses, host=self._host(host)
        )
        port.name = name
        port.device_owner = device_owner
        port.port_security = port_security
        port.allowed = list(allowed)
        if instance_id is not None:
            port.device_id = instance_id
        if project_id is not None:
            port.project_id = project_id
        return self._insert(port)

    def create_subport(self, network: Network, parent: Port, tag: int) -> Port:
        """Create a port on NETWORK and add it to the trunk of PARENT."""
        port = operations.new_port(network, host="")
        port.device_owner, port.device_id = SUBPORT, ""
        port.trunk, port.tag = parent.id, tag
        return self._insert(port)

    def create_virtual_port(
        self, network: Network, address: str, parents: Sequence[Port]
    ) -> Port:
        """Create a port of ADDRESS, which PARENTS have in allowed pairs."""
        port = operations.new_port(network, host="", addresses=[address])
        port.kind, port.device_owner, port.device_id = "virtual", "", ""
        port.parents = [parent.id for parent in parents]
        return self._insert(port)

    def create_health_monitor_port(self, network: Network) -> Port:
        """Create the localport of a load balancer's health monitor."""
        port = operations.new_port(network, host="")
        port.kind, port.device_owner = "localport", HEALTH_MONITOR
        port.device_id = f"ovn-lb-hm-{uuid.uuid4()}"
        return self._insert(port)

    def _insert(self, port: Port) -> Port:
        network = port.network
        if self._pending is None:
            attach = [operations.attach(network.id, [port.row_id])]
        else:
            # One by one, the server would copy a growing set each time.
            attach = []
            self._attached.setdefault(network.id, []).append(port.row_id)
        self._write([operations.insert_port(port), *attach])
        network.ports[port.id] = port
        return port

    def update_port(
        self,
        port: Port,
        *,
        addresses: Sequence[str] | None = None,
        mac: str | None = None,
        instance_id: str | None = None,
        project_id: str | None = None,
        host: bool | str | None = None,
        device_owner: str | None = None,
        allowed: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """Change PORT (the metadata port too) in place, row and object."""
        port.mac = mac or port.mac
        if addresses is not None:
            port.fixed = operations.given_addresses(
                port.network, port.mac, addresses
            )
        if instance_id is not None:
            port.device_id = instance_id
        if project_id is not None:
            port.project_id = project_id
        if host is not None:
            port.host = self._host(host)
        if device_owner is not None:
            port.device_owner = device_owner
        if allowed is not None:
            port.allowed = list(allowed)
        self._write([operations.update_port(port)])

    def delete_port(self, port: Port) -> None:
        """Delete PORT, bound or not."""
        self._write([operations.detach(port)])
        port.network.ports.pop(port.id, None)

    def restore_metadata_port(self, network: Network) -> None:
        """Make NETWORK's deleted metadata port anew: id and MAC change."""
        port = network.metadata = dataclasses.replace(
            network.metadata,
            id=str(uuid.uuid4()),
            row_id=str(uuid.uuid4()),
            mac=model.new_mac(),
        )
        attach = operations.attach(network.id, [port.row_id])
        self._write([operations.insert_port(port), attach])

    def add_metadata_port(self, network: Network) -> Port:
        """Make a second one, as two of Neutron's servers may at once.

        Its id sorts before all others; DHCP gives the first one's address.
        """
        mac = model.new_mac()
        made = dataclasses.replace(
            network.metadata,
            id=f"00000000{str(uuid.uuid4())[8:]}",
            row_id=str(uuid.uuid4()),
            mac=mac,
            fixed=operations.free_addresses(network, mac, network.subnets),
        )
        attach = operations.attach(network.id, [made.row_id])
        self._write([operations.insert_port(made), attach])
        return made

    def add_foreign_chassis(self, name: str) -> str:
        """Add a chassis that nobody runs; return its uuid."""
        return foreign.add_chassis(self._ovn, name)

    def add_foreign_ports(
        self,
        count: int,
        network: Network | None = None,
        *,
        chassis: str = "foreign-1",
        direct: bool = False,
    ) -> Network:
        """Have COUNT ports bound on another chassis; return their network.

        A network of their own (10.128.0.0/12) unless NETWORK is given.
        DIRECT stops northd, which would need 1 ms per port, and writes
        Port_Bindings alone: then make the local networks before, plug
        after, and wait by `ovn.wait_installed`, not by `ovn.sync`.
        """
        network = network or self.create_network(
            "elsewhere", subnets=("10.128.0.0/12",)
        )
        if direct:
            self._ovn.sync()
            self._ovn.stop("northd")
            made = [
                operations.new_port(network, host=chassis)
                for _ in range(count)
            ]
            foreign.insert_bindings(self._ovn, made, chassis)
            return network
        foreign.add_chassis(self._ovn, chassis)
        with self.batch():
            for _ in range(count):
                self.create_port(network, host=chassis)
        bound = [
            port
            for known in self.networks.values()
            for port in known.ports.values()
            if port.host == chassis
        ]
        foreign.bind(self._ovn, chassis, len(bound))
        return network

    # -- routers ----------------------------------------------------------

    def create_router(
        self,
        name: str,
        networks: Sequence[Network],
        *,
        subnets: Sequence[Subnet] | None = None,
    ) -> Router:
        """Create a router with a port in each subnet that has a gateway.

        SUBNETS are those of NETWORKS to take, if not all.
        """
        router = Router(
            id=str(uuid.uuid4()), name=name, row_id=str(uuid.uuid4())
        )
        changes: list[ovsdb.Operation] = []
        facing: list[str] = []
        for network in networks:
            for item in network.subnets:
                if item.gateway is None:
                    continue
                if subnets is not None and item not in subnets:
                    continue
                port = operations.router_port(router, network, item)
                facing.append(str(uuid.uuid4()))
                changes += [
                    operations.insert_port(port),
                    operations.attach(network.id, [port.row_id]),
                    ovsdb.insert(
                        "Logical_Router_Port",
                        rows.router_port_row(router, port, item),
                        uuid=facing[-1],
                    ),
                ]
        row = rows.router_row(router, facing)
        changes.append(ovsdb.insert("Logical_Router", row, uuid=router.row_id))
        self._write(changes)
        return router

    def delete_router(self, router: Router) -> None:
        """Delete ROUTER and its ports."""
        changes = [
            ovsdb.delete("Logical_Router", ovsdb.by_uuid(router.row_id))
        ]
        changes += [operations.detach(port) for port in router.ports]
        self._write(changes)

    # -- below ------------------------------------------------------------

    def _write(self, changes: list[ovsdb.Operation]) -> None:
        if self._pending is not None:
            self._pending += changes
        elif changes:
            self._ovn.nb.transact(changes)

    def _host(self, host: bool | str) -> str:
        if isinstance(host, str):
            return host
        return self._ovn.hostname if host else ""
