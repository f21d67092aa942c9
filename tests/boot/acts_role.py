"""Acts of the role: a host gets the agent, and its configuration changes."""

from __future__ import annotations

import re

from .chassis import AGENT, FLEET, INSTANCE, Chassis
from .control import SECRET, Control

_BOOK = "deploy.yml"
_CONF = "/etc/ovn-metadata-agent/agent.conf"
_PRIVILEGED = "/etc/ovn-metadata-agent/privileged.conf"
_RENDERED = "/run/ovn-metadata-fleet/config"
VENV = "/opt/ovn-metadata-agent"
# Files that are newer than a moment, of what a play writes.
_TOUCHED = "find /etc /lib/systemd /opt -xdev -newermt @{} -type f"


def looked_at(chassis: Chassis, control: Control) -> None:
    """Say what would be done on a host without it, and do nothing."""
    played = control.play(_BOOK, "--check", "--diff")
    assert played.is_good, played.end
    assert played.changed > 0
    there = f"ls -d /etc/ovn-metadata* {VENV} /usr/bin/ovn-meta* 2>/dev/null"
    assert chassis.machine.said("sh", "-c", there) == ""


def deployed(chassis: Chassis, control: Control) -> None:
    """Install, configure, start; the instance has its metadata."""
    control.converge(_BOOK)
    wait_served(chassis)
    owners = chassis.machine.run("stat", "-c%U:%G %a", _CONF, _PRIVILEGED)
    assert owners == "root:ovn-metadata 640\nroot:root 644\n", owners
    assert SECRET in chassis.machine.run("cat", _CONF)


def looked_at_again(chassis: Chassis, control: Control) -> None:
    """Find nothing to do; show a change that would be, but no secret."""
    played = control.play(_BOOK, "--check", "--diff")
    assert played.is_good, played.end
    assert played.changed == 0, played.end
    now = chassis.machine.run("date", "+%s.%N").strip()
    played = control.play(
        *(_BOOK, "--check", "--diff", "-vvv"),
        metadata_backlog=2048,
        metadata_proxy_shared_secret=f"{SECRET}-another",
    )
    assert played.is_good, played.end
    assert "metadata_backlog = 2048" in played.text
    assert_untouched(chassis, now)
    assert SECRET not in chassis.machine.run("journalctl", "--no-pager")


def reloaded(chassis: Chassis, control: Control) -> None:
    """Change what a reload takes up: nothing is restarted."""
    pids = _pids(chassis)
    with chassis.undisturbed("reloaded"):
        control.variables["ovn_metadata_agent_timeout_client"] = 31
        control.converge(_BOOK)
        chassis.machine.wait_for(
            lambda: _is_rendered(chassis, "timeout client 31s"),
            "haproxy with its new timeout",
        )
    assert _pids(chassis) == pids


def restarted(chassis: Chassis, control: Control) -> None:
    """Change what needs a restart: the agent is restarted, and only it."""
    agent, _, fleet = _pids(chassis)
    with chassis.undisturbed("restarted"):
        control.variables["ovn_metadata_agent_reconcile_workers"] = 5
        control.converge(_BOOK)
    now = _pids(chassis)
    assert now[0] not in (0, agent)
    assert now[2] == fleet


def privileged(chassis: Chassis, control: Control) -> None:
    """Change what root goes by: all that reads it is restarted."""
    agent, daemon, fleet = _pids(chassis)
    with chassis.undisturbed("privileged.conf"):
        settings = {"privsep": {"thread_pool_size": 3}}
        control.variables["ovn_metadata_agent_privileged_config"] = settings
        control.converge(_BOOK)
    now = _pids(chassis)
    assert not {0, agent, daemon, fleet} & {*now}


def taken_up(chassis: Chassis, control: Control) -> None:
    """Restart what runs another version, though nothing is installed now."""
    look = "find / -xdev -path '*ovn_metadata_agent-*.dist-info/METADATA'"
    (metadata,) = chassis.machine.run("sh", "-c", look).splitlines()
    was = chassis.machine.run("cat", metadata)
    before = _pids(chassis)
    for text in (re.sub("(?m)^Version: .*", "Version: 99.0.0", was), was):
        chassis.machine.write(metadata, text)
        with chassis.undisturbed("taken up"):
            control.converge(_BOOK)
        now = _pids(chassis)
        assert not {0, *before} & {*now}
        before = now


def refused(chassis: Chassis, control: Control) -> None:
    """Say why a value can't be used, before anything is touched."""
    pids = _pids(chassis)
    now = chassis.machine.run("date", "+%s.%N").strip()
    for options in ((), ("--check",)):
        for reason, broken in (
            (
                "agent.conf: [DEFAULT] nova_metadata_host = "
                '\\"no va\\": must be a host name or address',
                {"nova_metadata_host": ["no va"]},
            ),
            (
                "is no range of ids like",
                {"privileged_config": {"fleet": {"network_ids": "1"}}},
            ),
            (
                "value of metadata_proxy_socket_mode must be one of",
                {"metadata_proxy_socket_mode": "0666"},
            ),
        ):
            played = control.play(_BOOK, *options, **broken)
            assert played.counts["failed"] == 1, played.end
            assert played.changed == 0, played.end
            assert reason in played.text.replace("ovn_metadata_agent_", ""), (
                played.text
            )
    assert_untouched(chassis, now)
    assert _pids(chassis) == pids
    wait_served(chassis)


def moved(chassis: Chassis, control: Control) -> None:
    """Give it another state_path: its unit lets it write there."""
    control.variables["ovn_metadata_agent_state_path"] = "/srv/metadata"
    control.converge(_BOOK)
    wait_served(chassis)
    paths = chassis.property(AGENT, "ReadWritePaths")
    assert "/srv/metadata" in paths
    owner = chassis.machine.run("stat", "--format=%U %a", "/srv/metadata")
    assert owner == "ovn-metadata 755\n"
    del control.variables["ovn_metadata_agent_state_path"]
    control.converge(_BOOK)
    wait_served(chassis)
    assert "/srv/metadata" not in chassis.property(AGENT, "ReadWritePaths")


def in_virtual_environment(chassis: Chassis, control: Control) -> None:
    """Run nothing but what is in there."""
    assert not chassis.machine.said("sh", "-c", "ls /usr/bin/ovn-meta* 2>&-")
    for pid in _pids(chassis):
        line = chassis.machine.run("cat", f"/proc/{pid}/cmdline")
        assert line.startswith(f"{VENV}/bin/python"), line
    open_ones = f"find {VENV} ! -user root -o -perm /022 ! -type l"
    assert chassis.machine.run("sh", "-c", open_ones) == ""
    rule = chassis.machine.run("cat", "/etc/sudoers.d/ovn-metadata-agent")
    assert f"NOPASSWD: {VENV}/bin/ovn-metadata-rootwrap ^" in rule
    said = chassis.machine.said(
        "systemd-analyze", "verify", f"{AGENT}.service", f"{FLEET}.service"
    )
    assert said == "", said


def wait_served(chassis: Chassis) -> None:
    """Wait until the instance has its metadata; the role waited for all."""
    chassis.machine.wait_for(
        lambda: chassis.fetched() == INSTANCE, "metadata of the instance"
    )


def assert_untouched(chassis: Chassis, since: str) -> None:
    """Hold that no file of ours is newer than SINCE."""
    said = chassis.machine.run("sh", "-c", _TOUCHED.format(since))
    assert "ovn-metadata" not in said, said


def _pids(chassis: Chassis) -> tuple[int, int, int]:
    """Return those of the agent, its daemon and the fleet."""
    chassis.machine.wait_for(chassis.daemon, "one daemon")
    return chassis.main_pid(AGENT), chassis.daemon(), chassis.main_pid(FLEET)


def _is_rendered(chassis: Chassis, line: str) -> bool:
    look = ("grep", "-rlF", line, _RENDERED)
    return ".conf" in chassis.machine.said(*look)
