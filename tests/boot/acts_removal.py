"""Acts of the end: remove, come back, reboot, and purge."""

from __future__ import annotations

from . import leftovers, packages
from .acts_install import OTHERS
from .chassis import AGENT, FLEET, INSTANCE, Chassis


def removed(chassis: Chassis) -> None:
    """Purge the agent and install it again: the fleet serves on."""
    fleet, haproxies = chassis.main_pid(FLEET), chassis.haproxies()
    with chassis.undisturbed("agent removed and purged"):
        chassis.apt.remove(AGENT)
        chassis.apt.purge(AGENT)
        assert chassis.main_pid(AGENT) == 0
        chassis.machine.wait_for(lambda: not chassis.daemon(), "daemon's end")
        assert chassis.main_pid(FLEET) == fleet
        assert chassis.haproxies() == haproxies
        assert chassis.fetched() == INSTANCE
    with chassis.undisturbed("agent installed again"):
        chassis.apt.install(*chassis.releases[2].paths(AGENT))
        chassis.wait_served()


def rebooted(chassis: Chassis) -> None:
    """Reboot: served again without a hand."""
    chassis.machine.reboot()
    chassis.wait_served()


def removed_beside_another(chassis: Chassis) -> None:
    """Remove all where another agent runs: the haproxies end, no more."""
    machine = chassis.machine
    both = chassis.releases[2].paths(AGENT, FLEET)
    machine.run("systemctl", "stop", AGENT)
    machine.wait_for(lambda: not chassis.daemon(), "daemon's end")
    lock = "/run/ovn-metadata-fleet/agent.lock"
    machine.run(
        *("systemd-run", "--quiet", "--unit=another"),
        *("flock", lock, "sleep", "infinity"),
    )
    free = f"flock --nonblock {lock} echo free"
    machine.wait_for(lambda: not machine.said("sh", "-c", free), "its lock")
    said = chassis.apt.remove(AGENT, FLEET)
    assert "an agent runs here" in said
    machine.wait_for(lambda: not chassis.haproxies(), "the haproxies' end")
    assert "ovnmeta-" in machine.run("ls", "/run/netns")
    machine.run("systemctl", "stop", "another")
    chassis.apt.install(*both)
    chassis.wait_served()


def all_removed(chassis: Chassis) -> None:
    """Remove the data path too: nothing is served, the files stay."""
    chassis.apt.remove(AGENT, FLEET)
    assert not chassis.haproxies()
    assert "ovnmeta-" not in chassis.machine.run("ls", "/run/netns")
    assert chassis.machine.run("cat", "/etc/ovn-metadata-agent/agent.conf")


def purged(chassis: Chassis) -> None:
    """Purge: nothing by our names is left, on a host that goes on."""
    chassis.apt.purge(*packages.NAMES)
    left = leftovers.by_name(chassis.machine, chassis.before)
    assert not left, left


def others_purged(chassis: Chassis) -> None:
    """Purge all that came with it: the host has the files it had before."""
    chassis.unfurnish()
    chassis.apt.purge(*OTHERS)
    chassis.apt.autoremove()
    left = leftovers.files(chassis.machine, chassis.before)
    assert not left, "\n".join(left)
