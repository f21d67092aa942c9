"""The chassis is not the one that system-id names: ovn-controller(8)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox, wait_for
from sandbox.case import Host, wait_served
from sandbox.daemons import run

# Where Debian's ovn-controller looks for it.
OVERRIDE = Path("/etc/system-id-override")


@pytest.fixture(scope="module")
def renamed(host: Host) -> Iterator[Sandbox]:
    """Provide a chassis named by the file, on a bridge of its own."""
    box = host.sandbox()
    OVERRIDE.write_text("by-file\n")
    try:
        restart_controller(box, "by-file")
        yield box
    finally:
        OVERRIDE.unlink()


def restart_controller(box: Sandbox, name: str, *arguments: str) -> None:
    """Have ovn-controller be chassis NAME, with a bridge of that name."""
    ovn = box.ovn
    daemon = ovn.daemons["ovn-controller"]
    # Unlike a signal this takes the chassis' rows along.
    run("ovn-appctl", "-t", daemon.name, "exit")
    daemon.wait()
    ovn.bridge = f"br-{name}"
    ovn.vsctl(
        *("set", "Open_vSwitch", "."),
        f"external_ids:ovn-bridge-{name}={ovn.bridge}",
        *("--", "--may-exist", "add-br", ovn.bridge),
        *("--", "set", "Bridge", ovn.bridge, "datapath_type=netdev"),
    )
    program, *rest = daemon.command
    daemon.command = (program, *arguments, *rest)
    ovn.start("ovn-controller")
    wait_for(
        lambda: (
            [row["name"] for row in ovn.sb.select("Chassis_Private")] == [name]
        ),
        timeout_s=60,
        what=f"chassis {name} alone",
    )


def check_served(box: Sandbox, name: str) -> None:
    """See that the agent serves and registers as NAME, on NAME's bridge."""
    network = box.neutron.create_network(name)
    port = box.neutron.create_port(network)
    wait_served(box.instance(port))
    assert f"tap{network.id[:10]}0" in box.ovn.vsctl(
        "list-ports", f"br-{name}"
    )

    def is_registered() -> bool:
        """Tell whether it is; its first heartbeat may come after service."""
        (row,) = box.ovn.sb.select("Chassis_Private")
        ids = row["external_ids"]
        assert row["name"] == name
        return (
            ids.get("neutron:ovn-bridge") == f"br-{name}"
            and "neutron:ovn-metadata-id" in ids
        )

    wait_for(is_registered, timeout_s=60, what=f"registration of {name}")


def test_file_goes_before_the_database(renamed):
    """And so does the key with the chassis' name, for the bridge."""
    renamed.agent.start()
    renamed.agent.wait_ready()
    check_served(renamed, "by-file")
    assert renamed.ovn.vsctl("list-ports", "br-int") == ""


def test_option_goes_before_the_file(renamed):
    """As -n does for ovn-controller."""
    renamed.agent.stop()
    restart_controller(renamed, "by-n", "-n", "by-n")
    renamed.agent.configure({("ovn_metadata_agent", "chassis_name"): "by-n"})
    renamed.agent.start()
    renamed.agent.wait_ready()
    check_served(renamed, "by-n")


def test_file_that_can_not_be_read_is_named(renamed):
    """Not taken for one that is not there: it would be another chassis."""
    renamed.agent.stop()
    renamed.agent.configure({("ovn_metadata_agent", "chassis_name"): ""})
    OVERRIDE.chmod(0o600)
    renamed.agent.start()
    wait_for(lambda: not renamed.agent.running, timeout_s=60, what="the end")
    said = renamed.agent.log().splitlines()[-1]
    assert said.endswith(
        f"{OVERRIDE} has the chassis' name and can't be read: "
        f"Permission denied"
    )
