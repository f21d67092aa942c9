"""An instance with a trunk: VLANs on one VIF, each a port on its network.

The kernel here may have no VLAN devices, so the guest's own switch stands
in for them: a bridge that tags what comes from each interface.

    eth0 of the parent, eth0 of each subport - the guest's bridge - br-int
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from .daemons import run
from .instances import Instance, disable_tx_checksums, make_links, unplug_all


@contextlib.contextmanager
def plugged(parent: Instance, subports: Sequence[Instance]) -> Iterator[None]:
    """Plug PARENT with SUBPORTS on its trunk; unplug them in the end."""
    ovn = parent.ovn
    number = parent.port.id[:9]
    bridge, inner, outer = (f"{kind}{number}" for kind in ("tr", "ti", "to"))
    everyone = (parent, *subports)
    make_links(everyone)
    try:
        pair = ("ip", "link", "add", inner, "up", "type", "veth")
        run(*pair, "peer", "name", outer)
        run("ip", "link", "set", outer, "up")
        disable_tx_checksums(inner)
        command = ["add-br", bridge, "--", "set", "Bridge", bridge]
        command += ["datapath_type=netdev", "--", "add-port", bridge, inner]
        for one in everyone:
            command += ["--", "add-port", bridge, one.outer]
            command += [f"tag={one.port.tag}"]
            one.configure()
        command += ["--", "add-port", ovn.bridge, outer]
        command += ["--", "set", "Interface", outer]
        command += [f"external_ids:iface-id={parent.port.id}"]
        ovn.vsctl(*command)
        ovn.wait_installed([parent.port.id])
        yield
    finally:
        ovn.vsctl(
            *("--if-exists", "del-port", ovn.bridge, outer),
            *("--", "--if-exists", "del-br", bridge),
        )
        unplug_all(everyone)
        run("ip", "link", "delete", inner)
