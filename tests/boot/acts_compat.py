"""Acts in Neutron's place: its files, and the names of its agent."""

from __future__ import annotations

from .chassis import AGENT, Chassis
from .packages import COMPAT

NEUTRONS = "neutron-ovn-metadata-agent"
_NAMES = (NEUTRONS, "networking-ovn-metadata-agent")
_FILES = (
    "/etc/neutron/neutron.conf",
    "/etc/neutron/neutron_ovn_metadata_agent.ini",
)
_GROUP = "neutron"
_DEFAULT = f"/etc/default/{AGENT}"


def neutrons_files(chassis: Chassis) -> None:
    """Name Neutron's files in /etc/default: they are what is read."""
    _write_neutrons_files(chassis)
    before = chassis.machine.run("cat", _DEFAULT)
    arguments = " ".join(f"--config-file {path}" for path in _FILES)
    chassis.machine.run(
        *("usermod", "--append", "--groups", _GROUP, "ovn-metadata")
    )
    with chassis.undisturbed("started with Neutron's files"):
        chassis.machine.write(
            _DEFAULT, f'{before}OVN_METADATA_AGENT_ARGS="{arguments}"\n'
        )
        chassis.machine.run("systemctl", "restart", AGENT)
        chassis.wait_served()
    assert arguments in chassis.command_line(AGENT)
    chassis.machine.write(_DEFAULT, before)


def neutrons_names(chassis: Chassis) -> None:
    """Install the compat package: names of commands and of the service."""
    with chassis.undisturbed("compat package installed"):
        chassis.apt.install(*chassis.releases[-1].paths(COMPAT))
        chassis.wait_served()
    for name in _NAMES:
        chassis.machine.run(name, "--version")
    # What health checks look for.
    assert NEUTRONS in chassis.machine.run("pgrep", "-af", NEUTRONS)
    assert _FILES[1] in chassis.command_line(AGENT)
    before = chassis.main_pid(AGENT)
    with chassis.undisturbed(f"restarted as {NEUTRONS}"):
        chassis.machine.run("systemctl", "restart", NEUTRONS)
        assert chassis.main_pid(AGENT) not in (0, before)
        chassis.wait_served()
    with chassis.undisturbed("compat package removed"):
        chassis.apt.remove(COMPAT)
        chassis.machine.run("systemctl", "restart", AGENT)
        chassis.wait_served()
    assert "neutron" not in chassis.command_line(AGENT)
    chassis.machine.run("rm", "-r", *_FILES)
    chassis.machine.run("rmdir", "/etc/neutron")
    chassis.machine.run("groupdel", _GROUP)


def _write_neutrons_files(chassis: Chassis) -> None:
    """Have them as Debian's packages of Neutron do: their group's to read."""
    chassis.machine.run("groupadd", "--system", _GROUP)
    for path, text in zip(_FILES, ("", chassis.options()), strict=True):
        chassis.machine.write(
            path,
            f"{text}[database]\nconnection = sqlite://\n",
            mode="0640",
            group=_GROUP,
        )
