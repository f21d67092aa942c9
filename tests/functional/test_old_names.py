"""What Neutron's agent before 18 left: named after the datapath.

With a port of the same iface-id that Neutron 18 or newer named after the
network, or without one. Made by hand: that agent does not run here.
"""

from __future__ import annotations

import os

import pytest

from sandbox import Network, Sandbox, host, wait_for
from sandbox.case import wait_served
from sandbox.daemons import run
from sandbox.namespaces import NETNS_FOLDER


def datapath_of(box: Sandbox, network: Network) -> str:
    """Return the id of the datapath of NETWORK."""
    rows = box.ovn.sb.select("Datapath_Binding", (), ["_uuid", "external_ids"])
    (found,) = [r for r in rows if network.id in r["external_ids"]["name"]]
    return str(found["_uuid"])


def leave(box: Sandbox, network: Network, name: str, *, device: bool) -> None:
    """Leave a port of NETWORK named after NAME; its namespace with DEVICE."""
    outer, inner = f"tap{name[:10]}0", f"tap{name[:10]}1"
    if device:
        run("ip", "netns", "add", f"ovnmeta-{name}")
        run(
            *("ip", "link", "add", outer, "up", "type", "veth", "peer"),
            *("name", inner, "netns", f"ovnmeta-{name}"),
        )
    iface_id = f"external_ids:iface-id={network.metadata.id}"
    # Without waiting: ovs-vsctl 4.0.0 fails for a port without a device.
    box.ovn.vsctl(
        *("--no-wait", "add-port", box.ovn.bridge, outer, "--"),
        *("set", "Interface", outer, iface_id),
    )
    folder = host.HOME / "ovn-metadata-proxy"
    folder.mkdir(exist_ok=True)
    os.chown(folder, *host.ids(host.SERVICE_USER))
    (folder / f"{name}.conf").touch()


@pytest.mark.parametrize("device", [False, True], ids=["rebooted", "running"])
@pytest.mark.parametrize("twice", [False, True], ids=["old", "old and new"])
def test_what_is_named_after_the_datapath_goes(own_box, device, twice):
    box = own_box
    network = box.neutron.create_network("n", subnets=("10.10.0.0/24",))
    instance = box.instance(box.neutron.create_port(network))
    old = datapath_of(box, network)
    if twice:
        leave(box, network, network.id, device=device)
    leave(box, network, old, device=device)
    box.ovn.sync()
    box.agent.start()
    box.agent.wait_ready()
    wait_served(instance)
    ports = f"tap{old[:10]}0", f"tap{network.id[:10]}0"

    def left() -> list[str]:
        plugged = box.ovn.vsctl("list-ports", box.ovn.bridge).split()
        return [
            *(str(path) for path in host.HOME.rglob(f"*{old}*")),
            *(e.name for e in NETNS_FOLDER.iterdir() if old in e.name),
            *(port for port in plugged if port == ports[0]),
        ]

    wait_for(lambda: not left(), timeout_s=60, what="the end of old names")
    assert ports[1] in box.ovn.vsctl("list-ports", box.ovn.bridge).split()
