"""Run the two containers on a chassis, and do to them what operators do.

python -m container STORE IMAGE KOLLA KOLLA_IMAGE [CHECK...], in a sandbox.
Ends with what was wrong.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ovn_metadata.privsep.context import CAPABILITIES
from sandbox import (
    Sandbox,
    host,
    inside_sandbox,
    wait_for,
)
from sandbox.processes import processes

from .containers import AGENT, FLEET, RUN_DIR, SERVICE_ID, Containers
from .engine import Engine, capabilities
from .kolla import AUTHORITY, OPERATORS, define, stand_in
from .kolla import run_arguments as kolla_arguments
from .takeover import from_neutrons_container

ROLE = host.REPOSITORY / "packaging/kolla/ansible/roles/ovn-metadata"
RENEW = ROLE / "files" / "renew-fleet"
STAND_IN = "ovn-metadata-fleet-stand-in"
# Without the open files: a machine for tests may lack the right to raise it.
LIMITS = "--pids-limit -1"
PRIVILEGED_CONF = "/etc/ovn-metadata-agent/privileged.conf"


def served(c: Containers) -> None:
    """Serve, each process with its rights and no others."""
    c.prepare()
    c.start_both()
    c.wait_served()
    status = c.engine.run(
        "exec", f"--user={SERVICE_ID}", AGENT, "agent-status"
    )
    assert status.count("serves") == 2, status
    mask = sum(1 << number for number in CAPABILITIES)
    for process in processes(everywhere=True):
        print(
            f"{process.kind}: user {process.user}, "
            f"effective {process.cap_eff:x}, bounding {process.cap_bnd:x}"
        )
        wanted = {"privsep": mask, "supervisord": process.cap_bnd}
        assert process.cap_eff == wanted.get(process.kind, 0)
        assert process.no_new_privs
        if process.kind == "haproxy":
            assert process.cap_bnd == 0
    for name in (AGENT, FLEET):
        done = c.engine.tried("exec", name, "touch", "/etc/x")
        assert "Read-only file system" in done.stderr, done


def requests_logged(c: Containers) -> None:
    """Have the requests in the host's log."""
    wait_for(
        lambda: any(
            re.search(r"haproxy-metadata-proxy-[-0-9a-f]+\[\d+\]: ", line)
            for line in c.log.lines
        ),
        timeout_s=5,
        what="a request in the log",
    )


def health_checks(c: Containers) -> None:
    """Tell a process that does not answer any more."""
    pids = {
        p.kind: p.pid
        for p in processes("agent", "supervisord", everywhere=True)
    }
    for name, kind in ((AGENT, "agent"), (FLEET, "supervisord")):
        assert c.health(name) == 0
        os.kill(pids[kind], signal.SIGSTOP)
        try:
            assert c.health(name) != 0
        finally:
            os.kill(pids[kind], signal.SIGCONT)
    c.wait_served()


def daemon_killed(c: Containers) -> None:
    """Have another daemon for the next call, and no zombie of the first."""
    (before,) = processes("privsep", everywhere=True)
    with c.undisturbed("daemon killed"):
        os.kill(before.pid, signal.SIGKILL)
        wait_for(
            lambda: not Path(f"/proc/{before.pid}").exists(),
            timeout_s=10,
            what="its end",
        )
    with c.undisturbed("network of another instance"):
        c.box.instance(c.box.neutron.create_port(c.ports[0].network))
        wait_for(
            lambda: processes("privsep", everywhere=True),
            timeout_s=20,
            what="another daemon",
        )


def agent_restarted(c: Containers) -> None:
    """Restart, kill, stop, replace the agent's: nobody notices."""
    before = haproxies()
    with c.undisturbed("agent restarted"):
        c.engine.run("restart", AGENT)
    with c.undisturbed("agent killed"):
        c.engine.run("kill", "--signal=KILL", AGENT)
        c.engine.run("start", AGENT)
    with c.undisturbed("agent stopped, removed, made anew"):
        c.engine.run("stop", AGENT)
        c.engine.run("rm", AGENT)
        c.start(AGENT)
    assert haproxies() == before


def haproxies() -> set[int]:
    """Return the pids of all haproxies that run."""
    return {process.pid for process in processes("haproxy", everywhere=True)}


def fleet_restarted(c: Containers) -> None:
    """Have the haproxies end with their container, and come again."""
    for what, act in (
        ("fleet restarted", lambda: c.engine.run("restart", FLEET)),
        ("fleet made anew", lambda: anew(c)),
    ):
        before = haproxies()
        with c.load(what) as loader:
            act()
        assert not before & haproxies()
        assert loader.failures, "then renew-fleet would not be needed"
        assert loader.longest_gap_s < 10


def anew(c: Containers) -> None:
    """Replace the fleet's container."""
    c.engine.run("rm", "--force", "--time=10", FLEET)
    c.start(FLEET)


def fleet_renewed(c: Containers) -> None:
    """Give the fleet's container another image; nobody notices."""
    before = haproxies()
    with c.undisturbed("fleet to be renewed with an image that is not there"):
        assert renew(c, "begin", image="localhost/not-there") != 0
        assert c.health(FLEET) == 0
    assert haproxies() == before
    with c.undisturbed("fleet to be renewed without its socket"):
        (RUN_DIR / "supervisord.sock").rename(RUN_DIR / "away")
        assert renew(c, "begin") != 0
        (RUN_DIR / "away").rename(RUN_DIR / "supervisord.sock")
        assert c.health(FLEET) == 0
    with c.undisturbed("fleet renewed by renew-fleet"):
        assert renew(c, "begin") == 0
        anew(c)
        assert renew(c, "end") == 0
    assert not before & haproxies()
    assert only_two_are_left(c)


def fleet_renewed_in_pieces(c: Containers) -> None:
    """Repeat each step, and go on after each that failed."""
    before = haproxies()
    with c.undisturbed("fleet's stand-in that does not take over"):
        assert renew(c, "begin", COMMAND="sleep 300", WAIT_S="2") != 0
        assert c.health(FLEET) == 0
        assert only_two_are_left(c)
    with c.undisturbed("fleet's renewal interrupted"):
        interrupt_begin(c)
        assert c.health(FLEET) == 0
        assert only_two_are_left(c)
    assert haproxies() == before
    with c.undisturbed("fleet renewed, begun twice"):
        assert renew(c, "begin") == 0
        stand_ins = haproxies()
        assert renew(c, "begin") == 0
        assert haproxies() == stand_ins
        c.engine.run("rm", "--force", "--time=0", FLEET)
        # The step between failed, all starts anew: as Ansible would.
        assert renew(c, "begin") == 0
        assert haproxies() == stand_ins
    with c.undisturbed("fleet's end that no other fleet precedes"):
        assert renew(c, "end", WAIT_S="2") != 0
        assert haproxies() == stand_ins
        assert renew(c, "end") != 0, "it is the one that serves"
        assert haproxies() == stand_ins
    with c.undisturbed("fleet renewed after all"):
        assert renew(c, "begin") == 0
        c.start(FLEET)
        assert renew(c, "end") == 0
        assert renew(c, "end") == 0
    assert not stand_ins & haproxies()
    assert only_two_are_left(c)


def interrupt_begin(c: Containers) -> None:
    """Begin with a stand-in that does not take over, and interrupt it."""
    with subprocess.Popen(
        (str(RENEW), "begin", c.engine.command, c.image),
        env=renewal(COMMAND="sleep 300"),
    ) as begin:
        exists = ("container", "exists", STAND_IN)
        wait_for(
            lambda: c.engine.tried(*exists).returncode == 0,
            timeout_s=20,
            what="the stand-in",
        )
        begin.terminate()
    assert begin.returncode != 0


def only_two_are_left(c: Containers) -> bool:
    """Tell whether nothing of a renewal is left."""
    left = [*RUN_DIR.glob("silenced*")]
    count = c.engine.run("ps", "--all", "--quiet").count("\n")
    return not left and count == 2


def renewal(**more: str) -> dict[str, str]:
    """Return the environment of renew-fleet, with MORE."""
    return {**os.environ, "LIMITS": LIMITS, **more}


def renew(c: Containers, step: str, *, image: str = "", **more: str) -> int:
    """Run renew-fleet's STEP with MORE in the environment; its exit code."""
    images = (image or c.image,) if step == "begin" else ()
    return subprocess.run(
        (str(RENEW), step, c.engine.command, *images),
        env=renewal(**more),
        check=False,
        timeout=120,
    ).returncode


def network_gone(c: Containers) -> None:
    """Hold no namespace that was removed, in host and containers."""
    assert c.netns.name in c.engine.run("exec", FLEET, "ls", "/run/netns")
    c.box.unplug(c.instances)
    wait_for(
        lambda: not c.netns.exists(), timeout_s=20, what="namespace's end"
    )
    for name in (AGENT, FLEET):
        there = c.engine.run("exec", name, "ls", "/run/netns")
        assert c.netns.name not in there
    c.wait_served()


def found_without_arguments(c: Containers) -> None:
    """Start as EDPM does: no arguments, the files in /etc/neutron.conf.d."""
    folder = c.box.folder / "neutron.conf.d"
    shutil.copytree(host.CONFIG_FOLDER, folder)
    text = (folder / "neutron_ovn_metadata_agent.ini").read_text()
    for file in folder.iterdir():
        file.unlink()
    (folder / "01-agent.conf").write_text(text)
    c.engine.run("rm", "--force", AGENT)
    unit = c.units[AGENT]
    volumes = [v for v in unit["Volume"] if not v.startswith("/etc/neutron")]
    with_folder = f"{folder}:/etc/neutron.conf.d:ro"
    c.units[AGENT] = {**unit, "Volume": [*volumes, with_folder]}
    try:
        c.start(AGENT, command=["neutron-ovn-metadata-agent"])
        c.wait_served()
    finally:
        c.units[AGENT] = unit


def kollas_health_check(c: Containers) -> None:
    """Pass Kolla's own: the name, and a connection to the port 6640.

    ss sees whose that is with CAP_SYS_PTRACE only.
    """
    (line,) = c.units[AGENT]["Exec"]
    command = [f"neutron-{line.split()[0]}", *line.split()[1:]]
    for more, passes in (((), False), (("SYS_PTRACE",), True)):
        c.engine.run("rm", "--force", AGENT)
        kept = (*capabilities(c.units[AGENT]), *more)
        c.start(AGENT, kept=kept, command=command)
        c.wait_served()
        pids = c.engine.run("exec", AGENT, "pgrep", "-f", command[0]).split()
        assert pids
        connections = c.engine.run("exec", AGENT, "ss", "-ntp")
        mine = [
            line
            for line in connections.splitlines()
            if ":6640 " in line and any(f"pid={p}," in line for p in pids)
        ]
        print(f"with {more or 'its capabilities'}: {mine}")
        assert bool(mine) == passes


def each_capability_needed(c: Containers) -> None:
    """Take one away, and not all of it works."""
    c.prepare()
    assert not what_fails(c, {}), "with all of them it works"
    for name in (AGENT, FLEET):
        whole = capabilities(c.units[name])
        for one in whole:
            c.prepare()
            kept = {name: [other for other in whole if other != one]}
            lacks = what_fails(c, kept)
            print(f"{name} without {one}: {lacks}", flush=True)
            assert lacks, f"{name} does not need {one}"


def what_fails(c: Containers, kept: Mapping[str, Iterable[str]]) -> str:
    """Return what does not work with the capabilities KEPT, or ""."""
    timeout_s = 20.0
    try:
        c.start_both(kept)
        c.wait_served(timeout_s=timeout_s)
    except (TimeoutError, OSError) as error:
        return f"not served: {error}"
    if any(
        process.cap_bnd for process in processes("haproxy", everywhere=True)
    ):
        return "the haproxies have a bounding set"
    c.engine.run("restart", AGENT)
    try:
        wait_for(c.ready, timeout_s=timeout_s, what="agent", interval_s=0.2)
    except TimeoutError:
        return "the agent can't be restarted"
    before = haproxies()
    supervisord = int((RUN_DIR / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGSTOP)
    (RUN_DIR / "supervisord.sock").unlink()
    c.engine.run("rename", FLEET, "old")
    c.start(FLEET, kept=kept.get(FLEET))
    try:
        wait_for(
            lambda: not before & haproxies(),
            timeout_s=timeout_s,
            what="end of the haproxies before",
        )
    except TimeoutError:
        return "a fleet can't take over from another"
    return ""


def private_pids(c: Containers) -> None:
    """Do without the host's PIDs, and with a capability less for it."""
    c.prepare()
    whole = c.units[FLEET]
    others = [v for v in whole["PodmanArgs"] if v != "--pid=host"]
    c.units[FLEET] = {**whole, "PodmanArgs": others}
    try:
        kept = [n for n in capabilities(whole) if n != "SYS_PTRACE"]
        c.start_both({FLEET: kept})
        c.wait_served()
        with c.load("fleet with PIDs of its own restarted"):
            c.engine.run("restart", FLEET)
        c.box.unplug(c.instances)
        wait_for(
            lambda: not c.netns.exists(), timeout_s=20, what="namespace's end"
        )
    finally:
        c.units[FLEET] = whole


def kolla(c: Containers) -> None:
    """Do the same with the image and the containers that Kolla makes."""
    c.prepare()
    shutil.rmtree("/etc/kolla", ignore_errors=True)
    services = define(c.kolla, c.box, image=c.kolla_image)
    agent, fleet = (services[name] for name in (AGENT, FLEET))

    def start(service: Mapping[str, Any], *more: str) -> None:
        c.engine.run("run", *kolla_arguments(service, *more))

    c.checked = [agent["container_name"], fleet["container_name"]]
    start(fleet)
    start(agent)
    c.wait_served()
    certificate = f"/etc/ssl/certs/kolla-customca-{AUTHORITY}"
    trusts = ("test", "-s", certificate.replace(".crt", ".pem"))
    for service in (fleet, agent):
        c.engine.run("exec", service["container_name"], *trusts)
    assert all(process.no_new_privs for process in processes(everywhere=True))
    name = agent["container_name"]
    with c.undisturbed("agent's Kolla container made anew"):
        c.engine.run("stop", name)
        c.engine.run("rm", name)
        start(agent)
    with c.undisturbed("fleet's Kolla container renewed"):
        how = stand_in(fleet)
        assert renew(c, "begin", image=fleet["image"], **how) == 0
        text = c.engine.run("exec", STAND_IN, "cat", PRIVILEGED_CONF)
        assert text == OPERATORS
        c.engine.run("exec", STAND_IN, *trusts)
        c.engine.run("rm", "--force", "--time=0", fleet["container_name"])
        start(fleet)
        assert renew(c, "end") == 0
    check = ("exec", name, "healthcheck_port", "neutron-ovn-metadata-agent")
    assert c.engine.tried(*check, "6640").returncode != 0
    c.engine.run("rm", "--force", name)
    start(agent, "--cap-add=SYS_PTRACE")
    c.wait_served()
    c.engine.run(*check, "6640")
    assert c.engine.tried(*check, "6641").returncode != 0


def kollas_start(c: Containers) -> None:
    """Start Kolla's as root where the service user has planted a link."""
    c.engine.remove_all()
    RUN_DIR.mkdir(exist_ok=True)
    before = RUN_DIR.stat()
    logs = "/var/log/kolla/neutron"
    options = (
        *("run", "--rm", "--cap-add=SYS_ADMIN"),
        *("--volume", f"{RUN_DIR}:{RUN_DIR}"),
        *("--volume", "kolla_logs:/var/log/kolla/"),
    )
    start = "CMD=ovn-metadata-agent; . /usr/local/bin/kolla_extend_start"
    root = (c.kolla_image, "bash", "-ec")
    c.engine.run(*options, *root, start)
    owner = c.engine.run(*options, *root, f"stat --format=%U {logs}")
    assert owner == "neutron\n"
    c.engine.run(
        *(*options, "--user=neutron", *root),
        f"rmdir {logs}; ln --symbolic {RUN_DIR} {logs}",
    )
    c.engine.run(*options, *root, start)
    after = RUN_DIR.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        *(before.st_uid, before.st_gid, before.st_mode),
    )


CHECKS: tuple[Callable[[Containers], None], ...] = (
    served,
    requests_logged,
    health_checks,
    daemon_killed,
    agent_restarted,
    fleet_restarted,
    fleet_renewed,
    fleet_renewed_in_pieces,
    network_gone,
    found_without_arguments,
    kollas_health_check,
    private_pids,
    from_neutrons_container,
    kollas_start,
    kolla,
    each_capability_needed,
)


def main() -> int:
    """Run every check; stop at the first that fails."""
    if not inside_sandbox():
        print("run it by: make container", file=sys.stderr)
        return 2
    store, image, kolla, kolla_image, *names = sys.argv[1:]
    with Sandbox() as box:
        engine = Engine(Path(store))
        engine.remove_all()
        c = Containers(
            *(box, engine, image),
            kolla=Path(kolla),
            kolla_image=kolla_image,
        )
        try:
            for check in CHECKS:
                if names and check.__name__ not in names:
                    continue
                print(f"-- {check.__name__}: {check.__doc__}", flush=True)
                check(c)
        except BaseException:
            print(engine.logs())
            raise
        finally:
            engine.remove_all()
    print("all is as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
