"""Acts of the first hour: the packages on a host without OVN, then with."""

from __future__ import annotations

import re

from . import packages
from .chassis import AGENT, DAEMONS, FLEET, SOCKET, STATUS, Chassis

_DOCUMENT = packages.SOURCE / "docs/explanation/security.md"
_UNITS = (f"{AGENT}.service", f"{FLEET}.service", SOCKET)
_DAEMON = DAEMONS.replace("*", ".service")
# What makes the host a chassis, and what the instance and its questions need.
OTHERS = ("ovn-central", "ovn-host", "curl", "ethtool", "iproute2", "python3")


def without_ovn(chassis: Chassis) -> None:
    """Install where no OVN is: apt says what is missing, and goes on."""
    said = chassis.apt.install(
        "--no-install-recommends", *chassis.releases[0].paths(AGENT, FLEET)
    )
    for name in (AGENT, FLEET):
        assert chassis.apt.state(name) == "install ok installed"
    missing = re.findall(rf"{AGENT}: missing: .*", said)
    print("\n".join(missing))
    # What is not there, where it is configured, and whose package it is.
    for word in ("Open vSwitch", "ovsdb_connection", "ovn-host"):
        assert word in missing[0], said
    _wait_for_word_of_it(chassis)
    chassis.configure()
    chassis.machine.run("systemctl", "restart", AGENT)
    _wait_for_word_of_it(chassis)


def _wait_for_word_of_it(chassis: Chassis) -> None:
    chassis.machine.wait_for(
        lambda: "Open vSwitch not reachable" in chassis.machine.said(*STATUS),
        "word of what is missing",
    )


def ovn_comes(chassis: Chassis) -> None:
    """Install OVN from Debian: the agent gets there with no hand."""
    pid, fleet = chassis.main_pid(AGENT), chassis.main_pid(FLEET)
    chassis.apt.install(*OTHERS)
    # It waited, rather than to end and be started again, and said so once.
    assert len(chassis.journal(AGENT, f"_PID={pid}").splitlines()) < 20
    chassis.furnish()
    chassis.wait_served()
    assert chassis.main_pid(AGENT) == pid
    assert chassis.main_pid(FLEET) == fleet


def units_are_sound(chassis: Chassis) -> None:
    """Have systemd find no fault, and each as exposed as is documented."""
    names = (*_UNITS, _DAEMON)
    said = chassis.machine.said("systemd-analyze", "verify", *names)
    assert said == "", said
    documented = dict(
        re.findall(
            r"\| `(\S+\.service)` \| ([\d.]+) \|", _DOCUMENT.read_text()
        )
    )
    assert len(documented) == 3
    for unit, most in documented.items():
        instance = unit.replace("@", "@0")
        look = ("systemd-analyze", "security", "--no-pager", instance)
        match = re.search(
            r"exposure level for \S+: ([\d.]+)", chassis.machine.said(*look)
        )
        assert match is not None
        print(f"{unit}: exposure {match[1]}")
        assert float(match[1]) <= float(most)
