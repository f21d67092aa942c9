"""The machine as a chassis: an instance on it, and whether it is served."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import leftovers
from .apt import Apt
from .machine import Machine
from .packages import THERE, Release

NETWORK = "11111111-1111-4111-8111-111111111111"
INSTANCE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
NAMESPACE = f"/run/netns/ovnmeta-{NETWORK}"
AGENT, FLEET = "ovn-metadata-agent", "ovn-metadata-fleet"
SOCKET, DAEMONS = "ovn-metadata-privsep.socket", "ovn-metadata-privsep@*"
# Whatever becomes of the configuration: it says where the socket is.
STATUS = (
    "agent-status",
    "--socket=/var/lib/neutron/ovn-metadata-agent.sock",
)

_UNITS = ("instance", "nova")
_INSIDE = Path(__file__).parent / "inside"
_IN_INSTANCE = ("ip", "netns", "exec", "vm")


class Chassis:
    """What is asked of MACHINE, and how it is looked at.

    RELEASES are the packages, the oldest first; BEFORE is what was there.
    """

    def __init__(self, machine: Machine, releases: Sequence[Release]) -> None:
        self.machine = machine
        self.apt = Apt(machine)
        self.releases = releases
        self.before = leftovers.take(machine)

    def furnish(self) -> None:
        """Give it an OVN with a network, an instance, and Nova's answers.

        Both are units: a host has Nova start its instances again.
        """
        for path in _INSIDE.iterdir():
            unit = path.suffix == ".service"
            folder = "/etc/systemd/system" if unit else THERE
            mode = "0755" if os.access(path, os.X_OK) else "0644"
            target = f"{folder}/{path.name}"
            self.machine.write(target, path.read_text(), mode=mode)
        self.machine.run(f"{THERE}/ovn")
        enable = ("systemctl", "enable", "--quiet", "--now")
        self.machine.run(*enable, *_UNITS)

    def unfurnish(self) -> None:
        """Take instance and Nova away again."""
        disable = ("systemctl", "disable", "--quiet", "--now")
        self.machine.run(*disable, *_UNITS)
        self.machine.run("ip", "netns", "delete", "vm")
        for unit in _UNITS:
            self.machine.run("rm", f"/etc/systemd/system/{unit}.service")

    def configure(self, *lines: str) -> None:
        """Write the agent's own file, with LINES more for [DEFAULT]."""
        default = "\n".join(("[DEFAULT]", *lines))
        self.machine.write(
            "/etc/ovn-metadata-agent/agent.conf",
            self.options().replace("[DEFAULT]", default),
            mode="0640",
            group="ovn-metadata",
        )

    def options(self) -> str:
        """Return what the agent needs of a configuration."""
        return (_INSIDE / "agent.conf").read_text()

    def fetched(self) -> str:
        """Return what the instance is answered."""
        curl = ("curl", "-s", "-m2", "169.254.169.254")
        return self.machine.said(*_IN_INSTANCE, *curl)

    def status(self) -> dict[str, Any]:
        """Return what the agent says of itself; nothing if it can't."""
        try:
            return dict(json.loads(self.machine.said(*STATUS, "--json")))
        except ValueError:
            return {}

    def serves(self) -> bool:
        """Tell whether the instance has its metadata, and all is well."""
        fine = f"{' '.join(STATUS)} >/dev/null && echo fine"
        return (
            self.fetched() == INSTANCE
            and self.machine.said("sh", "-c", fine) == "fine\n"
        )

    def wait_served(self) -> None:
        """Wait for that."""
        self.machine.wait_for(self.serves, "metadata")

    def main_pid(self, unit: str) -> int:
        """Return the main process of UNIT, 0 if there is none."""
        return int(self.property(unit, "MainPID"))

    def command_line(self, unit: str) -> str:
        """Return what UNIT's main process was started with."""
        path = f"/proc/{self.main_pid(unit)}/cmdline"
        return self.machine.run("cat", path).replace("\0", " ")

    def daemon(self) -> int:
        """Return the privsep daemon's pid, 0 while there is none."""
        pids = self.property(DAEMONS, "MainPID").split()
        return int(pids[0]) if len(pids) == 1 else 0

    def property(self, unit: str, name: str) -> str:
        """Return what systemd has as NAME of UNIT."""
        show = ("systemctl", "show", "--value", f"--property={name}")
        return self.machine.run(*show, unit).strip()

    def haproxies(self) -> set[str]:
        """Return the pids of our haproxies: Debian starts one of its own."""
        ours = ("pgrep", "-f", "^/usr/sbin/haproxy .*/ovn-metadata-fleet/")
        return {*self.machine.said(*ours).split()}

    def wait_taken_over(self, before: set[str]) -> None:
        """Wait until the haproxies BEFORE have finished, for others."""
        self.machine.wait_for(
            lambda: not before & self.haproxies() and self.serves(),
            "haproxies of the new supervisord",
        )

    def processes(self, unit: str) -> str:
        """Return the command lines in the cgroup of UNIT."""
        return self.machine.said("systemctl", "status", "--no-pager", unit)

    def journal(self, unit: str, *options: str) -> str:
        """Return what UNIT has logged."""
        look = ("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")
        return self.machine.said(*look, *options)

    @contextlib.contextmanager
    def undisturbed(self, what: str) -> Iterator[None]:
        """Hold that no request fails meanwhile; say so as WHAT."""
        loop = subprocess.Popen(
            self.machine.command(*_IN_INSTANCE, "python3", f"{THERE}/loop.py"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert loop.stdout is not None
        loop.stdout.readline()  # what is done next may be over at once
        try:
            yield
        finally:
            said, _ = loop.communicate(timeout=30)
        found = json.loads(said)
        failures = found["failures"]
        print(
            f"{what}: {found['count']} requests, {len(failures)} failed, "
            f"longest gap {found['gap'] * 1000:.0f} ms"
        )
        assert not failures, failures[:3]
