"""Acts of a host that Neutron's agent serves: to ours, and back."""

from __future__ import annotations

from pathlib import Path

from .acts_role import wait_served
from .chassis import AGENT, FLEET, NETWORK, Chassis
from .control import SECRET, Control

UNIT = "neutron-ovn-metadata-agent"
_INI = f"/etc/neutron/{UNIT.replace('-', '_')}.ini"
_LOG = f"/var/log/neutron/{UNIT}.log"

# As RDO's packages have them: a user that is not root, a unit whose stop
# leaves the haproxies, and root by sudo.
_CONFIGURATION = """\
[DEFAULT]
nova_metadata_host = 127.0.0.1
metadata_proxy_shared_secret = {secret}
state_path = /var/lib/neutron
metadata_workers = 0
[AGENT]
root_helper = sudo {prefix}/bin/neutron-rootwrap /etc/neutron/rootwrap.conf
[oslo_concurrency]
lock_path = /var/lib/neutron/lock
[ovs]
ovsdb_connection = tcp:127.0.0.1:6640
[ovn]
ovn_sb_connection = tcp:127.0.0.1:6642
"""
_SERVICE = """\
[Unit]
Description=Neutron's metadata agent
After=openvswitch-switch.service
Requires=openvswitch-switch.service
[Service]
Type=simple
User=neutron
Environment=PATH={prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart={prefix}/bin/{unit} --config-file {ini} --log-file {log}
PrivateTmp=false
KillMode=process
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
_ROOTWRAP = """\
[DEFAULT]
filters_path = {prefix}/etc/neutron/rootwrap.d
exec_dirs = {prefix}/bin,/usr/sbin,/usr/bin,/sbin,/bin
use_syslog = false
"""
_SUDO = """\
Defaults:neutron !requiretty
neutron ALL = (root) NOPASSWD: {prefix}/bin/neutron-rootwrap *
neutron ALL = (root) NOPASSWD: {prefix}/bin/privsep-helper *
"""


def neutron_serves(chassis: Chassis, prefix: Path) -> None:
    """Have Neutron's agent serve, from the virtual environment PREFIX."""
    machine = chassis.machine
    chassis.apt.install("haproxy", "python3-venv")
    machine.run(
        *("useradd", "--system", "--user-group", "--create-home"),
        *("--home-dir=/var/lib/neutron", "neutron"),
    )
    machine.run("install", "-d", "-oneutron", "-gneutron", "/var/log/neutron")
    for path, text, mode in (
        (_INI, _CONFIGURATION, "0640"),
        (f"/usr/lib/systemd/system/{UNIT}.service", _SERVICE, "0644"),
        ("/etc/neutron/rootwrap.conf", _ROOTWRAP, "0644"),
        ("/etc/sudoers.d/neutron", _SUDO, "0440"),
    ):
        words = {"prefix": prefix, "unit": UNIT, "ini": _INI, "log": _LOG}
        machine.write(path, text.format(secret=SECRET, **words), mode=mode)
    machine.run("chgrp", "neutron", _INI)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--quiet", "--now", UNIT)
    try:
        _wait_for_neutrons(chassis)
    except TimeoutError:
        print(machine.said("tail", "-n60", _LOG))
        raise


def migrated(chassis: Chassis, control: Control) -> None:
    """Come to ours while the instance asks, and leave Neutron's no way."""
    control.variables |= {
        "ovn_metadata_agent_neutron_config_files": [_INI],
        "ovn_metadata_agent_user_groups": ["neutron"],
    }
    for name in ("nova_metadata_host", "ovn_sb_connection"):
        del control.variables[f"ovn_metadata_agent_{name}"]
    del control.variables["ovn_metadata_agent_metadata_proxy_shared_secret"]
    played = control.play("migrate.yml", "--check", "--diff")
    assert played.is_good, played.end
    assert _neutrons(chassis), "a look is not to change anything"
    _migrate(chassis, control)


def rolled_back(chassis: Chassis, control: Control) -> None:
    """Go back: the instance is served by Neutron's agent."""
    played = control.play("rollback.yml", "--check")
    assert played.is_good, played.end
    assert chassis.main_pid(AGENT), "a look is not to change anything"
    control.converge("rollback.yml")
    wait_served(chassis)
    _wait_for_neutrons(chassis)
    assert not chassis.main_pid(AGENT)
    assert not chassis.main_pid(FLEET)
    theirs = "find /var/lib/neutron -user ovn-metadata ! -type l ! -type s"
    assert chassis.machine.run("sh", "-c", theirs) == ""


def migrated_again(chassis: Chassis, control: Control) -> None:
    """Come to ours once more, from what the way back left."""
    _migrate(chassis, control)


def neutrons_packages_upgraded(chassis: Chassis, _: Control) -> None:
    """Restart after state_path's mode was set, as neutron-common sets it."""
    test = ("runuser", "-u", "ovn-metadata", "--", "test")
    chassis.machine.run("chmod", "0755", "/var/lib/neutron")
    chassis.machine.run(*test, "!", "-w", "/var/lib/neutron")
    with chassis.undisturbed("restarted after an upgrade of Neutron's"):
        chassis.machine.run("systemctl", "restart", AGENT)
        wait_served(chassis)
    chassis.machine.run(*test, "-w", "/var/lib/neutron")
    owner = chassis.machine.run("stat", "--format=%U:%G", "/var/lib/neutron")
    assert owner == "neutron:neutron\n", owner


def _migrate(chassis: Chassis, control: Control) -> None:
    with chassis.undisturbed("migrated"):
        control.converge("migrate.yml")
    wait_served(chassis)
    assert not _neutrons(chassis)
    assert chassis.property(UNIT, "LoadState") == "masked"
    assert not chassis.main_pid(UNIT)
    assert len(chassis.haproxies()) == 2  # the network's and the gateway's
    status = chassis.status()
    assert status["problems"] == [], status


def _neutrons(chassis: Chassis) -> str:
    """Return the pids of Neutron's haproxies."""
    look = ("pgrep", "--full", f"haproxy -f .*{NETWORK}.conf")
    return chassis.machine.said(*look)


def _wait_for_neutrons(chassis: Chassis) -> None:
    chassis.machine.wait_for(
        lambda: _neutrons(chassis), "haproxy of Neutron's", timeout_s=90
    )
    wait_served(chassis)
