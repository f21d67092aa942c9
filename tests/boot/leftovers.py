"""What is on the machine that was not there before."""

from __future__ import annotations

import re

from .machine import Machine

# Each kind of thing that a package, or what it runs, can leave behind. /run
# is a file system of its own.
_LOOKS = {
    "file": "find / /run -xdev",
    "user": "cut -d: -f1 /etc/passwd",
    "group": "cut -d: -f1 /etc/group",
    "unit": "systemctl list-unit-files --plain --no-legend | cut -d' ' -f1",
    "process": "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'",
    "namespace": "ls /run/netns",
    "link": "ls /sys/class/net",
    "port": "ovs-vsctl list-ports br-int",
    "registration": "ovn-sbctl --bare --columns=external_ids"
    " list Chassis_Private",
}
_OURS = re.compile(
    r"ovn.metadata|agent-status|ovnmeta|neutron|tap1111|11111111-"
)
# What Debian's policy lets a package leave: there may be files elsewhere that
# such a user owns. And what ovn-metadata-cleanup says that it leaves, for
# Neutron looks for it.
_STAYS = {
    ("user", "ovn-metadata"),
    ("user", "ovn-metadata-fleet"),
    ("group", "ovn-metadata"),
    ("group", "ovn-metadata-fleet"),
    ("registration", "neutron:ovn-bridge=br-int"),
}
# What the host itself writes, and what Debian's packages leave that came with
# ours: purged, or (uuid-runtime) recommended by what stays.
_OTHERS = re.compile(
    r"/(opt/boot|tmp|root|var/tmp|var/cache|var/backups|run/(systemd|udev|log)"
    r"|var/lib/(apt|dpkg|systemd)|var/log/(apt|journal|[a-z.]*log)"
    r"|run/(adduser|agetty.reload|netns)|etc/(hosts|xml)|usr/lib/ocf"
    r"|etc/systemd/system/sockets.target.wants"
    r"|(run|var/lib|var/log|etc)/(haproxy|openvswitch|ovn|supervisor)"
    r"|run/haproxy[a-z.-]*|.*/(K01|S01)?(lib)?uuid[a-z-]*[0-9.a-z]*)(/|$)"
)

Things = set[tuple[str, str]]


def take(machine: Machine) -> Things:
    """List all there is, as pairs of a kind and a name."""
    found = set()
    for kind, look in _LOOKS.items():
        said = machine.said("sh", "-c", f"{look} 2>/dev/null")
        found |= {(kind, name) for name in said.splitlines()}
    return found


def by_name(machine: Machine, before: Things) -> Things:
    """Return what has a name of ours, of any kind."""
    new = take(machine) - before - _STAYS
    return {(kind, name) for kind, name in new if _OURS.search(name)}


def files(machine: Machine, before: Things) -> list[str]:
    """Return the files that are new, by whatever name, where all is purged."""
    new = take(machine) - before
    return sorted(
        name
        for kind, name in new
        if kind == "file" and not _OTHERS.match(name)
    )
