"""Boot a chassis with the units and do to them what operators do.

python -m boot ROOT, a folder of `build-root`'s. Ends with what was wrong.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .machine import Machine

NETWORK = "11111111-1111-4111-8111-111111111111"
INSTANCE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
NAMESPACE = f"/run/netns/ovnmeta-{NETWORK}"
FETCH = ("ip", "netns", "exec", "vm", "curl", "-s", "-m2", "169.254.169.254")
AGENT, FLEET = "ovn-metadata-agent", "ovn-metadata-fleet"
SOCKET, DAEMONS = "ovn-metadata-privsep.socket", "ovn-metadata-privsep@*"


class Boot:
    """The checks, on MACHINE."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def serves(self) -> bool:
        """Tell whether the instance has its metadata, and all is well."""
        fine = "agent-status >/dev/null && echo fine"
        return (
            self.machine.said(*FETCH) == INSTANCE
            and self.machine.said("sh", "-c", fine) == "fine\n"
        )

    def wait_served(self) -> None:
        """Wait for that."""
        self.machine.wait_for(self.serves, "metadata")

    def main_pid(self, unit: str) -> int:
        """Return the main process of UNIT, 0 if there is none."""
        show = ("systemctl", "show", "--value", "--property=MainPID", unit)
        return int(self.machine.run(*show))

    def daemon(self) -> int:
        """Return the privsep daemon's pid, 0 while there is none."""
        show = ("systemctl", "show", "--value", "--property=MainPID", DAEMONS)
        pids = self.machine.run(*show).split()
        return int(pids[0]) if len(pids) == 1 else 0

    def haproxies(self) -> set[str]:
        """Return the pids of all haproxies."""
        return {*self.machine.said("pgrep", "-x", "haproxy").split()}

    def wait_taken_over(self, before: set[str]) -> None:
        """Wait until the haproxies BEFORE have finished, for others."""
        self.machine.wait_for(
            lambda: not before & self.haproxies() and self.serves(),
            "haproxies of the new supervisord",
        )

    def processes(self, unit: str) -> str:
        """Return the command lines in the cgroup of UNIT."""
        return self.machine.said("systemctl", "status", "--no-pager", unit)

    @contextlib.contextmanager
    def undisturbed(self, what: str) -> Iterator[None]:
        """Hold that no request fails meanwhile; say so as WHAT."""
        enter = ("ip", "netns", "exec", "vm")
        loop = subprocess.Popen(
            self.machine.command(*enter, "python3", "/src/inside/loop.py"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
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
        assert found["count"] > 0
        assert not failures, failures[:3]


def served(boot: Boot) -> None:
    """Have the instance its metadata, and each process its bounds."""
    boot.wait_served()
    for name, pid, bounds in (
        ("agent", boot.main_pid(AGENT), "0000000000000000"),
        ("daemon", boot.daemon(), "0000000000201019"),
    ):
        status = boot.machine.run("cat", f"/proc/{pid}/status")
        lines = dict(line.split(":\t", 1) for line in status.splitlines())
        print(f"{name}: bounding set {lines['CapBnd']}")
        assert lines["NoNewPrivs"] == "1"
        assert lines["Seccomp"] == "2"
        assert lines["CapBnd"] == bounds


def daemon_killed(boot: Boot) -> None:
    """Have another one for the next call."""
    before = boot.daemon()
    with boot.undisturbed("daemon killed"):
        boot.machine.run("kill", "-9", str(before))
        boot.machine.wait_for(
            lambda: boot.daemon() not in (0, before), "new daemon"
        )
    boot.wait_served()


def agent_killed(boot: Boot) -> None:
    """Have it started again, and its daemon end with it."""
    agent, daemon = boot.main_pid(AGENT), boot.daemon()
    with boot.undisturbed("agent killed"):
        boot.machine.run("kill", "-9", str(agent))
        boot.machine.wait_for(
            lambda: boot.main_pid(AGENT) not in (0, agent), "new agent"
        )
        boot.machine.wait_for(
            lambda: boot.daemon() not in (0, daemon), "new daemon"
        )
        boot.wait_served()


def each_restarted(boot: Boot) -> None:
    """Restart one after the other: that is none of the others'."""
    for unit in (SOCKET, AGENT, FLEET, DAEMONS):
        others = {AGENT, FLEET} - {unit}
        before = {other: boot.main_pid(other) for other in others}
        with boot.undisturbed(f"restarted {unit}"):
            verb = "stop" if unit == DAEMONS else "restart"
            haproxies = boot.haproxies()
            boot.machine.run("systemctl", verb, unit)
            if unit == FLEET:
                boot.wait_taken_over(haproxies)
            boot.machine.wait_for(boot.daemon, "daemon")
            boot.wait_served()
        assert {other: boot.main_pid(other) for other in others} == before


def agent_stopped(boot: Boot) -> None:
    """Have nothing of it run then; the haproxies serve on."""
    with boot.undisturbed("agent stopped"):
        boot.machine.run("systemctl", "stop", AGENT)
        boot.machine.wait_for(lambda: not boot.daemon(), "daemon's end")
        # A master and a worker of each; older ones finish and go.
        boot.machine.wait_for(
            lambda: boot.machine.said("pgrep", "-cx", "haproxy") == "4\n",
            "the haproxies of the network and of the gateway, and no others",
        )
        boot.machine.run("systemctl", "start", AGENT)
        boot.wait_served()


def fleet_stopped(boot: Boot) -> None:
    """Have no supervisord started in the daemon's unit."""
    with boot.undisturbed("fleet stopped"):
        boot.machine.run("systemctl", "stop", FLEET)
        boot.machine.wait_for(
            lambda: "can't start one" in boot.machine.said("agent-status"),
            "word of it",
        )
        assert "supervisord" not in boot.processes(DAEMONS)
        haproxies = boot.haproxies()
        assert len(haproxies) == 4
        boot.machine.run("systemctl", "start", FLEET)
        boot.wait_taken_over(haproxies)


def unbound_and_bound(boot: Boot) -> None:
    """Hold no namespace that was removed, in any mount namespace."""
    inode = boot.machine.run("stat", "--format=%i", NAMESPACE).strip()
    held = f"grep -l 'net:.{inode}' /proc/[0-9]*/mountinfo 2>&-"
    assert boot.machine.said("sh", "-c", held)
    boot.machine.run(
        "ovs-vsctl", "clear", "Interface", "vm-out", "external_ids"
    )
    boot.machine.wait_for(
        lambda: not boot.machine.said("sh", "-c", f"ls {NAMESPACE}* 2>&-"),
        "namespace's end",
    )
    assert boot.machine.said("sh", "-c", held) == ""
    boot.machine.run(
        *("ovs-vsctl", "set", "Interface", "vm-out"),
        "external_ids:iface-id=vm",
    )
    boot.wait_served()


def read_only_state_path(boot: Boot) -> None:
    """Say what to do about a state_path that the unit does not know."""
    drop_in = f"/run/systemd/system/{AGENT}.service.d"
    lines = (
        r"[Service]\nReadWritePaths=\n"
        r"ReadWritePaths=-/run/ovn-metadata-fleet\n"
    )
    boot.machine.run(
        "sh", "-c", f"mkdir -p {drop_in}; printf '{lines}' > {drop_in}/x.conf"
    )
    boot.machine.run("systemctl", "daemon-reload")
    with boot.undisturbed("state_path read-only"):
        boot.machine.run("systemctl", "restart", AGENT)
        boot.machine.wait_for(
            lambda: "ReadWritePaths= of" in _journal(boot, AGENT),
            "word of it",
        )
        boot.machine.run("rm", "-r", drop_in)
        boot.machine.run("systemctl", "daemon-reload")
        boot.machine.run("systemctl", "restart", AGENT)
        boot.wait_served()


def _journal(boot: Boot, unit: str, *options: str) -> str:
    look = ("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")
    return boot.machine.said(*look, *options)


def nothing_failed(boot: Boot) -> None:
    """Find no unit that failed, or was refused what it tried."""
    failed = boot.machine.run(
        "systemctl", "--failed", "--plain", "--no-legend"
    )
    assert "ovn-metadata" not in failed, failed
    for unit in (AGENT, FLEET, DAEMONS):
        for line in _journal(boot, unit).splitlines():
            for word in ("Operation not permitted", "Traceback", "SIGSYS"):
                assert word not in line, line


CHECKS: tuple[Callable[[Boot], None], ...] = (
    served,
    daemon_killed,
    agent_killed,
    each_restarted,
    agent_stopped,
    fleet_stopped,
    unbound_and_bound,
    nothing_failed,
    read_only_state_path,
)


def main() -> int:
    """Boot ROOT and run every check; stop at the first that fails."""
    root = Path(sys.argv[1])
    with (
        tempfile.TemporaryDirectory() as folder,
        Machine(root, Path(folder) / "console") as machine,
    ):
        machine.run("/src/inside/chassis")
        boot = Boot(machine)
        for check in CHECKS:
            print(f"-- {check.__name__}: {check.__doc__}")
            try:
                check(boot)
            except Exception:
                print(machine.said("agent-status"))
                for unit in ("*privsep*", FLEET, AGENT):
                    print(_journal(boot, unit, "--lines=25"))
                raise
    print("all is as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
