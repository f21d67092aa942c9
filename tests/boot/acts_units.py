"""Acts on the units: kill, stop and restart each; nothing else notices."""

from __future__ import annotations

from .chassis import AGENT, DAEMONS, FLEET, NAMESPACE, SOCKET, Chassis


def served(chassis: Chassis) -> None:
    """Have the instance its metadata, and each process its bounds."""
    chassis.wait_served()
    for name, pid, bounds in (
        ("agent", chassis.main_pid(AGENT), "0000000000000000"),
        ("daemon", chassis.daemon(), "0000000000201001"),
    ):
        status = chassis.machine.run("cat", f"/proc/{pid}/status")
        lines = dict(line.split(":\t", 1) for line in status.splitlines())
        print(f"{name}: bounding set {lines['CapBnd']}")
        assert lines["NoNewPrivs"] == "1"
        assert lines["Seccomp"] == "2"
        assert lines["CapBnd"] == bounds


def daemon_killed(chassis: Chassis) -> None:
    """Have another one for the next call."""
    before = chassis.daemon()
    with chassis.undisturbed("daemon killed"):
        chassis.machine.run("kill", "-9", str(before))
        chassis.machine.wait_for(
            lambda: chassis.daemon() not in (0, before), "new daemon"
        )
    chassis.wait_served()


def agent_killed(chassis: Chassis) -> None:
    """Have it started again, and its daemon end with it."""
    agent, daemon = chassis.main_pid(AGENT), chassis.daemon()
    with chassis.undisturbed("agent killed"):
        chassis.machine.run("kill", "-9", str(agent))
        chassis.machine.wait_for(
            lambda: chassis.main_pid(AGENT) not in (0, agent), "new agent"
        )
        chassis.machine.wait_for(
            lambda: chassis.daemon() not in (0, daemon), "new daemon"
        )
        chassis.wait_served()


def each_restarted(chassis: Chassis) -> None:
    """Restart one after the other: that is none of the others'."""
    for unit in (SOCKET, AGENT, FLEET, DAEMONS):
        others = {AGENT, FLEET} - {unit}
        before = {other: chassis.main_pid(other) for other in others}
        with chassis.undisturbed(f"restarted {unit}"):
            verb = "stop" if unit == DAEMONS else "restart"
            haproxies = chassis.haproxies()
            chassis.machine.run("systemctl", verb, unit)
            if unit == FLEET:
                chassis.wait_taken_over(haproxies)
            chassis.machine.wait_for(chassis.daemon, "daemon")
            chassis.wait_served()
        assert {other: chassis.main_pid(other) for other in others} == before


def agent_reloaded_early(chassis: Chassis) -> None:
    """Reload the agent before it handles SIGHUP: it is started again."""
    with chassis.undisturbed("reloaded early"):
        chassis.machine.run("systemctl", "restart", AGENT)
        # It fails if the agent has ended before systemd is done with it.
        chassis.machine.said("systemctl", "reload", AGENT)
        chassis.wait_served()


def agent_stopped(chassis: Chassis) -> None:
    """Have nothing of it run then; the haproxies serve on."""
    with chassis.undisturbed("agent stopped"):
        chassis.machine.run("systemctl", "stop", AGENT)
        chassis.machine.wait_for(lambda: not chassis.daemon(), "daemon's end")
        # Older ones finish and go.
        chassis.machine.wait_for(
            lambda: len(chassis.haproxies()) == 2,
            "the haproxies of the network and of the gateway, and no others",
        )
        chassis.machine.run("systemctl", "start", AGENT)
        chassis.wait_served()


def fleet_stopped(chassis: Chassis) -> None:
    """Have no supervisord started in the daemon's unit."""
    with chassis.undisturbed("fleet stopped"):
        chassis.machine.run("systemctl", "stop", FLEET)
        chassis.machine.wait_for(
            lambda: "can't start one" in chassis.machine.said("agent-status"),
            "word of it",
        )
        assert "supervisord" not in chassis.processes(DAEMONS)
        haproxies = chassis.haproxies()
        assert len(haproxies) == 2
        chassis.machine.run("systemctl", "start", FLEET)
        chassis.wait_taken_over(haproxies)


def unbound_and_bound(chassis: Chassis) -> None:
    """Hold no namespace that was removed, in any mount namespace."""
    inode = chassis.machine.run("stat", "--format=%i", NAMESPACE).strip()
    held = f"grep -l 'net:.{inode}' /proc/[0-9]*/mountinfo 2>&-"
    assert chassis.machine.said("sh", "-c", held)
    chassis.machine.run(
        "ovs-vsctl", "clear", "Interface", "vm-out", "external_ids"
    )
    chassis.machine.wait_for(
        lambda: not chassis.machine.said("sh", "-c", f"ls {NAMESPACE}* 2>&-"),
        "namespace's end",
    )
    assert chassis.machine.said("sh", "-c", held) == ""
    chassis.machine.run(
        *("ovs-vsctl", "set", "Interface", "vm-out"),
        "external_ids:iface-id=vm",
    )
    chassis.wait_served()


def read_only_state_path(chassis: Chassis) -> None:
    """Say what to do about a state_path that the unit does not know."""
    drop_in = f"/run/systemd/system/{AGENT}.service.d"
    chassis.machine.write(
        f"{drop_in}/x.conf",
        "[Service]\nReadWritePaths=\n"
        "ReadWritePaths=-/run/ovn-metadata-fleet\n",
    )
    chassis.machine.run("systemctl", "daemon-reload")
    with chassis.undisturbed("state_path read-only"):
        chassis.machine.run("systemctl", "restart", AGENT)
        chassis.machine.wait_for(
            lambda: "ReadWritePaths= of" in chassis.journal(AGENT),
            "word of it",
        )
        chassis.machine.run("rm", "-r", drop_in)
        chassis.machine.run("systemctl", "daemon-reload")
        chassis.machine.run("systemctl", "restart", AGENT)
        chassis.wait_served()


def nothing_failed(chassis: Chassis) -> None:
    """Find no unit that failed, or was refused what it tried."""
    failed = chassis.machine.run(
        "systemctl", "--failed", "--plain", "--no-legend"
    )
    assert "ovn-metadata" not in failed, failed
    for unit in (AGENT, FLEET, DAEMONS):
        for line in chassis.journal(unit).splitlines():
            for word in ("Operation not permitted", "Traceback", "SIGSYS"):
                assert word not in line, line
