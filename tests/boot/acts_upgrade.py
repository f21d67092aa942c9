"""Acts of an upgrade: under load, and with a file that can't be used."""

from __future__ import annotations

from .chassis import AGENT, FLEET, Chassis


def upgraded(chassis: Chassis) -> None:
    """Upgrade to what configures every haproxy anew: no request fails."""
    agent, fleet = chassis.main_pid(AGENT), chassis.main_pid(FLEET)
    haproxies = chassis.haproxies()
    version = chassis.releases[1].version
    with chassis.undisturbed("upgraded"):
        chassis.apt.install(*chassis.releases[1].paths(AGENT, FLEET))
        chassis.machine.wait_for(
            lambda: chassis.status().get("version") == version, version
        )
        chassis.wait_taken_over(haproxies)
    assert chassis.main_pid(AGENT) not in (0, agent)
    # It knows what the new agent expects of it.
    assert chassis.main_pid(FLEET) not in (0, fleet)


def broken_file(chassis: Chassis) -> None:
    """Upgrade with a file that is refused: the old agent serves on."""
    before = chassis.main_pid(AGENT)
    chassis.configure("nova_metadata_port = none")
    with chassis.undisturbed("upgraded with a broken file"):
        said = chassis.apt.install(*chassis.releases[2].paths(AGENT, FLEET))
        chassis.wait_served()
    print(said[said.index(f"{AGENT}: ") :].rstrip())
    assert "nova_metadata_port" in said
    assert "NOT restarted" in said
    for name in (AGENT, FLEET):
        assert chassis.apt.state(name) == "install ok installed"
        assert chassis.apt.version(name).startswith(
            chassis.releases[2].version
        )
    assert chassis.main_pid(AGENT) == before
    assert chassis.status()["version"] == chassis.releases[1].version
    chassis.configure()
    with chassis.undisturbed("mended and restarted"):
        chassis.machine.run("systemctl", "restart", AGENT)
        chassis.wait_served()
    assert chassis.status()["version"] == chassis.releases[2].version
