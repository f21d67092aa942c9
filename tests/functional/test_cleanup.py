"""What is left over goes, by the command or by the agent; nothing else does.

Each test has a chassis of its own, to litter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Network, Sandbox, host, wait_for
from sandbox.agent import write_ini
from sandbox.case import wait_served
from sandbox.daemons import CommandError, Daemon, accepts, run
from sandbox.namespaces import NETNS_FOLDER
from sandbox.peer import idle_haproxy
from sandbox.processes import processes, send_signal

SIGKILL = 9
CONFIG = host.OLD_PROXY
PIDS = host.HOME / "external/pids"
FLEET = Path("/run/ovn-metadata-fleet")
KEYS = ("neutron:ovn-metadata-id", "neutron:ovn-metadata-sb-cfg")
MARK = "ovn-metadata-network"
OPTIONS = {("ovn_metadata_agent", "resync_interval"): "5"}


# -- the command ------------------------------------------------------------


def cleanup_command(box: Sandbox, *options: str) -> list[str]:
    """Return the command with the agent's files and OPTIONS."""
    program = str(Path(sys.prefix, "bin", "ovn-metadata-cleanup"))
    return [program, *box.agent.config_arguments(), *options]


def cleanup(
    box: Sandbox, *options: str, user: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ovn-metadata-cleanup with the agent's files, as root or USER."""
    who = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
    return subprocess.run(
        [*(who if user else ()), *cleanup_command(box, *options)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


# -- what there is ----------------------------------------------------------


def ports(box: Sandbox) -> dict[str, str]:
    """Return the ports of Open vSwitch with their iface-ids."""
    return {
        row["name"]: row["external_ids"].get("iface-id", "")
        for row in box.ovn.ovs.select(
            "Interface", (), ["name", "external_ids"]
        )
    }


def files() -> dict[str, tuple[int, ...]]:
    """Return what is below the agent's and fleet's folders, and whose.

    But for the logs, which are supervisord's and the haproxies' own.
    """
    found = {}
    for top in (host.HOME, FLEET, NETNS_FOLDER):
        for folder, folders, names in os.walk(top):
            for name in (*folders, *names):
                if name.endswith(".log"):
                    continue
                entry = Path(folder, name).lstat()
                owner = entry.st_uid, entry.st_gid, entry.st_mode
                kept = entry.st_ino, entry.st_mtime_ns, *owner
                found[str(Path(folder, name))] = kept
    return found


def links() -> list[str]:
    return sorted(entry.name for entry in Path("/sys/class/net").iterdir())


def registration(box: Sandbox) -> dict[str, str]:
    (row,) = box.ovn.sb.select("Chassis_Private", (), ["external_ids"])
    ids: dict[str, str] = row["external_ids"]
    return ids


def inventory(box: Sandbox) -> dict[str, object]:
    """Return all that the command may look at."""
    return {
        "ports": ports(box),
        "files": files(),
        "links": links(),
        "registration": registration(box),
        "processes": [
            (process.pid, process.cmdline)
            for process in processes("haproxy", "supervisord")
        ],
    }


def still(box: Sandbox) -> dict[str, object]:
    """Return the inventory once it is the same for a while.

    What was served just now is noted and tidied a moment later.
    """
    seen: list[dict[str, object]] = []

    def is_still() -> bool:
        seen.append(inventory(box))
        return len(seen) > 1 and differences(seen[-1], seen[-2]) == []

    wait_for(is_still, timeout_s=60, interval_s=1.0, what="a host at rest")
    return seen[-1]


def wait_runs(kinds: tuple[str, ...], *pids: int) -> None:
    """Wait until of KINDS only PIDS run: the others have their end."""
    wait_for(
        lambda: [process.pid for process in processes(*kinds)] == [*pids],
        timeout_s=60,
        what=f"no {kinds} but {pids}",
    )


def kill(kinds: tuple[str, ...], *spared: int) -> None:
    """Kill all of KINDS but those SPARED, and wait for their end."""

    def killed() -> bool:
        left = [p.pid for p in processes(*kinds) if p.pid not in spared]
        for pid in left:  # one may have forked since the last look
            send_signal(pid, SIGKILL)
        return not left

    wait_for(killed, timeout_s=60, what=f"end of {kinds}")


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Return what there is in ONE inventory and not in the OTHER."""
    found = {str(item) for part in one.items() for item in flat(part)}
    found ^= {str(item) for part in other.items() for item in flat(part)}
    return sorted(found)


def flat(part: tuple[str, object]) -> list[object]:
    name, value = part
    items = value.items() if isinstance(value, dict) else value
    return [(name, item) for item in items]  # type: ignore[attr-defined]


def haproxies_on(file: Path) -> list[int]:
    return [p.pid for p in processes("haproxy") if str(file) in p.cmdline]


# -- litter -----------------------------------------------------------------


@dataclasses.dataclass
class Litter:
    """What accidents, and Neutron's agent, left of networks long gone."""

    box: Sandbox
    broken: str = ""
    veth: str = ""
    port: str = ""
    files: str = ""
    haproxy: str = ""

    def drop(self) -> None:
        """Leave something of each kind, each of a network of its own."""
        for field in ("broken", "veth", "port", "files", "haproxy"):
            setattr(self, field, str(uuid.uuid4()))
        # As ip-netns(8) makes the file: before its mount, or after.
        (NETNS_FOLDER / f"ovnmeta-{self.broken}").touch(mode=0)
        tap = f"tap{self.veth[:10]}"
        pair = ("type", "veth", "peer", "name", f"{tap}1")
        run("ip", "link", "add", f"{tap}0", *pair)
        run("ip", "link", "set", f"{tap}0", "alias", f"ovnmeta-{self.veth}")
        add_port(
            self.box,
            f"tap{self.port[:10]}0",
            **{"iface-id": str(uuid.uuid4()), MARK: self.port},
        )
        for file in self.left_files():
            if not file.parent.exists():
                make_agents_folder(file.parent)
            file.write_text("stale\n")
        os.chown(self.left_files()[-1], *host.ids(host.FLEET_USER))
        self.drop_haproxy()

    def left_files(self) -> list[Path]:
        """Return the files that are left, the PID file last."""
        network, gateway = self.files, FLEET / "read/gateway"
        return [
            CONFIG / f"{network}.conf",
            CONFIG / f"{network}.new",
            host.map_of(network),
            host.map_of(network).with_name(f".{network}.map.tmp"),
            gateway / "nova-client-0123456789abcdef.pem",
            gateway / "nova-authority-0123456789abcdef.pem",
            host.stats_of(network),
            PIDS / f"{network}.pid.haproxy",
        ]

    def drop_haproxy(self) -> None:
        """Leave Neutron's haproxy in a namespace that has lost its name."""
        name = f"ovnmeta-{self.haproxy}"
        tap = f"tap{self.haproxy[:10]}"
        run("ip", "netns", "add", name)
        pair = ("type", "veth", "peer", "name", f"{tap}1", "netns", name)
        run("ip", "link", "add", f"{tap}0", *pair)
        config = CONFIG / f"{self.haproxy}.conf"
        config.write_text(idle_haproxy("127.0.0.1:80"))
        run("ip", "netns", "exec", name, "haproxy", "-f", str(config))
        run("ip", "netns", "delete", name)
        assert f"{tap}0" in links()
        assert haproxies_on(config)

    def networks(self) -> list[str]:
        """Return the networks that something was left of."""
        fields = dataclasses.asdict(
            dataclasses.replace(self, box=None)  # type: ignore[arg-type]
        )
        return [network for network in fields.values() if network]

    def left(self, *networks: str) -> list[str]:
        """Return what there is of NETWORKS, or of all this."""
        found = [*files(), *links(), *ports(self.box)]
        found += [" ".join(p.cmdline) for p in processes("haproxy")]
        return [
            text
            for network in networks or self.networks()
            for text in found
            if network in text or f"tap{network[:10]}" in text
        ]


def add_port(box: Sandbox, name: str, **ids: str) -> None:
    """Put a port NAME on the bridge, whether there is such a link or not."""
    pairs = [f'external_ids:{key}="{value}"' for key, value in ids.items()]
    # Open vSwitch 4.0's ovs-vsctl fails if it waits for one without a link.
    box.ovn.vsctl(
        *("--no-wait", "add-port", box.ovn.bridge, name),
        *("--", "set", "Interface", name, *pairs),
    )


@dataclasses.dataclass
class Foreign:
    """What is nobody's business: others' things with names like ours."""

    box: Sandbox
    pid: int

    @classmethod
    def drop(cls, box: Sandbox) -> Foreign:
        for name in cls.namespaces():
            run("ip", "netns", "add", name)
        for file in cls.files():
            file.write_text("keep\n")
        mac = {"attached-mac": "fa:16:3e:00:00:01", "iface-status": "active"}
        add_port(box, "tap0a1b2c3d-40", **{"iface-id": "vm", **mac})
        # Nobody can tell: it stays.
        add_port(box, "tap0a1b2c3d-50", **{"iface-id": "whose"})
        run(
            *("ip", "link", "add", "tap0a1b2c3d-60", "type", "veth"),
            *("peer", "name", "tap0a1b2c3d-61"),
        )
        config = box.folder / f"{uuid.uuid4()}.conf"
        config.write_text(idle_haproxy("127.0.0.1:8081"))
        run("haproxy", "-f", str(config))
        (pid,) = haproxies_on(config)
        return cls(box, pid)

    @staticmethod
    def namespaces() -> tuple[str, ...]:
        return (
            "qdhcp-4c3e1f64-f4d0-4eb0-a542-a05e03a1141f",
            "ovnmeta-not-a-uuid",
            "ovnmeta-4C3E1F64-F4D0-4EB0-A542-A05E03A1141F",
        )

    @staticmethod
    def files() -> tuple[Path, ...]:
        other = "5d4f2075-05e1-4fc1-b653-b16f14b2252a"
        return (
            host.HOME / "instances",
            CONFIG / "notes.conf",
            PIDS / f"{other}.pid.radvd",
            PIDS / f"{other}.pid.haproxy",  # of root's: the DHCP agent's
        )

    def check(self) -> None:
        """Fail if any of it has gone."""
        for name in self.namespaces():
            assert (NETNS_FOLDER / name).exists()
        for file in self.files():
            assert file.read_text() == "keep\n"
        assert {"tap0a1b2c3d-40", "tap0a1b2c3d-50"} <= {*ports(self.box)}
        assert {"tap0a1b2c3d-60", "tap0a1b2c3d-61"} <= {*links()}
        assert self.pid in [p.pid for p in processes("haproxy")]


def make_agents_folder(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, *host.ids(host.SERVICE_USER))


@pytest.fixture
def littered(own_box: Sandbox) -> Iterator[tuple[Litter, Foreign]]:
    """Two networks served, others' things, and litter to be dropped."""
    box = own_box
    box.agent.configure(OPTIONS)
    box.agent.start()
    box.agent.wait_ready()
    networks = [box.neutron.create_network(f"n{n}") for n in range(2)]
    for instance in box.plug([box.neutron.create_port(n) for n in networks]):
        wait_served(instance)
    wait_content(box)
    before = {*links()}
    fresh = CONFIG.with_name("fresh")
    make_agents_folder(fresh)
    (fresh / "notes.conf").touch()  # the agent removes an empty folder
    fresh.rename(CONFIG)
    yield Litter(box), Foreign.drop(box)
    for name in {*links()} - before:
        with contextlib.suppress(CommandError):  # went with its peer
            run("ip", "link", "delete", name)


def wait_content(box: Sandbox) -> None:
    """Wait until agent-status is content: all is served, and noted."""
    wait_for(
        lambda: box.agent.status().returncode == 0,
        timeout_s=120,
        interval_s=0.2,
        what="content agent-status",
    )


def served(box: Sandbox) -> list[Network]:
    return [instance.port.network for instance in box.instances]


# -- the tests --------------------------------------------------------------


def test_command_refuses_while_an_agent_runs(littered):
    """With one line that says why; it changes nothing.

    Neutron's agent has no lock of ours, but a socket on which it listens.
    Once it may it removes all, without a supervisord too.
    """
    litter, foreign = littered
    box = litter.box
    text = "an agent runs here"
    check_refusal(box, text)
    check_refusal(box, text, "--dry-run")
    box.agent.stop()
    # An agent that ran as root left this one.
    os.chown(PIDS, 0, 0)
    path = host.HOME / "metadata_proxy"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for options in ((), ("--dry-run",)):
            check_refusal(box, f"listens on {path}; stop it first", *options)
    before = still(box)
    assert cleanup(box, "--dry-run").returncode == 0
    assert differences(inventory(box), before) == []
    # As when ovn-metadata-fleet was stopped, before its package is removed.
    for kind in ("supervisord", "haproxy"):
        kill((kind,), foreign.pid)
    done = cleanup(box)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"removed file {path}\n" in done.stdout
    assert litter.left(*(network.id for network in served(box))) == []
    assert not FLEET.exists()
    foreign.check()


def test_an_agent_is_refused_while_the_command_runs(own_box):
    box = own_box
    # It has the lock for a moment only: who looks too late starts another.
    command = next(filter(None, (stopped_command(box) for _ in range(5))))
    try:
        done = subprocess.run(
            box.agent.command(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        command.send_signal(signal.SIGCONT)
        assert command.wait(timeout=240) == 0
    finally:
        command.kill()
    assert done.returncode == 1
    assert "an agent runs here, or ovn-metadata-cleanup" in done.stderr


def stopped_command(box: Sandbox) -> subprocess.Popen[bytes] | None:
    """Start the command; return it while it has the lock and stands still.

    None if it was faster. An agent makes what the last one has removed.
    """
    box.agent.start()
    box.agent.wait_ready()
    box.agent.stop()
    command = subprocess.Popen(cleanup_command(box), stdout=subprocess.DEVNULL)
    wait_for(
        lambda: command.poll() is not None or is_locked(),
        timeout_s=60,
        interval_s=0.01,
        what="the command to begin",
    )
    command.send_signal(signal.SIGSTOP)
    if command.poll() is None:
        how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, command.pid, how)  # it stands still, or has ended
        with contextlib.suppress(FileNotFoundError):
            if command.poll() is None and is_locked():
                return command
    command.send_signal(signal.SIGCONT)
    assert command.wait(timeout=240) == 0
    return None


def is_locked() -> bool:
    """Tell whether a process has the lock of this host; do not take it."""
    inode = (FLEET / "agent.lock").stat().st_ino
    locks = Path("/proc/locks").read_text().splitlines()
    return any(line.split()[5].endswith(f":{inode}") for line in locks)


def test_a_host_has_one_agent_whatever_its_configuration(littered):
    """Another state_path: neither a second agent nor the clean-up starts."""
    box = littered[0].box
    elsewhere = host.HOME / "elsewhere"
    make_agents_folder(elsewhere)
    more = host.CONFIG_FOLDER / "elsewhere.conf"
    write_ini(more, {("DEFAULT", "state_path"): str(elsewhere)})
    arguments = ("--config-file", str(more))
    text = "an agent runs here"
    before = still(box)
    done = cleanup(box, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr
    assert differences(inventory(box), before) == []
    done = subprocess.run(
        (*box.agent.command(), *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert text in done.stderr
    assert list(elsewhere.iterdir()) == []
    wait_content(box)
    for instance in box.instances:
        wait_served(instance)


def check_refusal(box: Sandbox, text: str, *options: str) -> None:
    before = still(box)
    refused = cleanup(box, *options)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert text in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert differences(inventory(box), before) == []


def test_command_leaves_a_fleet_that_has_its_own_service(littered):
    """Without its haproxies; somebody would start supervisord again.

    What can't be removed is told, and keeps nothing else here.
    """
    litter, foreign = littered
    box = litter.box
    box.agent.stop()
    stuck = CONFIG / f"{uuid.uuid4()}.conf"
    stuck.mkdir()
    kill(("supervisord",))  # one that ends may still take connections
    fleet = Daemon(
        name="ovn-metadata-fleet",
        command=(str(Path(sys.prefix, "bin", "ovn-metadata-fleet")),),
        output=box.folder / "fleet.out",
    )
    fleet.start()
    try:
        wait_for(
            lambda: accepts(FLEET / "supervisord.sock"),
            timeout_s=60,
            what="supervisord",
        )
        done = cleanup(box)
        assert (done.returncode, done.stderr) == (1, ""), done.stdout
        of = f"FAILED network {stuck.stem}: files: "
        assert of in done.stdout, done.stdout
        assert f"{stuck}: Is a directory; " in done.stdout
        assert done.stdout.count("FAILED") == 1, done.stdout
        assert "left alone: supervisord: ovn-metadata-fleet" in done.stdout
        assert fleet.running
        wait_runs(("haproxy",), foreign.pid)
        assert list((FLEET / "programs").iterdir()) == []
        assert litter.left(*(n.id for n in served(box))) == []
        stuck.rmdir()
        assert cleanup(box).returncode == 0
    finally:
        fleet.stop()


def test_command_removes_all_of_ours_and_nothing_else(littered):
    """A dry run lists it and changes nothing; a second run has no work."""
    litter, foreign = littered
    box = litter.box
    box.agent.stop()
    litter.drop()

    before = still(box)
    dry = cleanup(box, "--dry-run", user=host.SERVICE_USER)
    assert differences(inventory(box), before) == []
    assert (dry.returncode, dry.stderr) == (0, ""), dry.stdout
    lines = dry.stdout.splitlines()
    wanted = wanted_lines(litter)
    plan = {line for line in lines if line.startswith("would remove ")}
    assert plan == {f"would remove {text}" for text in wanted}

    done = cleanup(box)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    removed = {line for line in lines if line.startswith("removed ")}
    assert removed == {f"removed {text}" for text in wanted}
    networks = [network.id for network in served(box)]
    assert litter.left(*networks, *litter.networks()) == []
    assert not FLEET.exists()
    wait_runs(("haproxy", "supervisord", "privsep"), foreign.pid)
    assert not {*registration(box)} & {*KEYS}
    assert registration(box)["neutron:ovn-bridge"] == box.ovn.bridge
    assert sorted(path.name for path in host.HOME.iterdir()) == [
        *("external", "instances", "ovn-metadata-proxy")
    ]
    assert sorted(CONFIG.iterdir()) == [CONFIG / "notes.conf"]
    assert {i.outer for i in box.instances} <= {*ports(box)} & {*links()}
    foreign.check()

    again = cleanup(box)
    assert again.returncode == 0
    assert "removed" not in again.stdout
    foreign.check()


def wanted_lines(litter: Litter) -> list[str]:
    """Return what is to be listed."""
    link = "namespace or veth"
    of = {
        litter.broken: link,
        litter.veth: link,
        litter.port: "port",
        litter.files: "files",
        litter.haproxy: "files, haproxy",  # its veth has no mark of ours
        **{
            network.id: f"files, haproxy, {link}, port, program"
            for network in served(litter.box)
        },
    }
    return [
        *(f"network {network}: {kinds}" for network, kinds in of.items()),
        "gateway: files, haproxy, program",
        f"fleet in {FLEET}",
        f"file {host.HOME / 'metadata_proxy'}",
        f"file {host.HOME / 'ovn-metadata-agent-counters.json'}",
        *(f"registration {key} in Chassis_Private" for key in KEYS),
    ]


def test_command_waits_for_the_end_of_a_haproxy_that_hangs(littered):
    """Supervisord kills it, ten seconds after it was told to end."""
    litter, foreign = littered
    box = litter.box
    box.agent.stop()
    (hung,) = haproxies_on(host.config_of(served(box)[0].id))
    send_signal(hung, signal.SIGSTOP)
    done = cleanup(box)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    wait_runs(("haproxy", "supervisord"), foreign.pid)
    assert not FLEET.exists()


def test_command_ends_what_another_run_has_begun(own_box):
    """That was killed between the gateway's program and its folders."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    box.agent.stop()
    assert cleanup(box).returncode == 0
    uid, gid = host.ids(host.SERVICE_USER)
    (FLEET / "programs").mkdir(parents=True)
    for folder in (FLEET / "config", FLEET / "socket"):
        folder.mkdir()
        os.chown(folder, uid, gid)
    done = cleanup(box)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert not FLEET.exists()


def test_command_does_what_it_can_without_databases(littered):
    """The rest goes, exit code 2; our mark tells the ports' owner later."""
    litter, foreign = littered
    box = litter.box
    box.agent.stop()
    litter.drop()
    # Its supervisord has died as well; nobody ends the haproxies for us.
    kill(("supervisord",))
    nowhere = host.CONFIG_FOLDER / "nowhere.ini"
    write_ini(
        nowhere,
        {
            ("ovs", "ovsdb_connection"): "tcp:127.0.0.1:1",
            ("ovn", "ovn_sb_connection"): "tcp:127.0.0.1:1",
        },
    )
    mine = [f"tap{network.id[:10]}0" for network in served(box)]
    mine.append(f"tap{litter.port[:10]}0")
    done = cleanup(box, "--config-file", str(nowhere))
    assert (done.returncode, done.stderr) == (2, ""), done.stdout
    assert "not looked at: Open vSwitch at tcp:127.0.0.1:1" in done.stdout
    assert "not looked at: the registration" in done.stdout
    assert {*mine} <= {*ports(box)}
    assert {*KEYS} <= {*registration(box)}
    wait_runs(("haproxy",), foreign.pid)
    assert not FLEET.exists()
    ids = [network.id for network in served(box)]
    assert {*litter.left(*ids, *litter.networks())} == {*mine}

    rest = cleanup(box)
    assert rest.returncode == 0
    assert rest.stdout.count(": port\n") == len(mine)
    assert not {*mine} & {*ports(box)}
    assert not {*KEYS} & {*registration(box)}
    foreign.check()


def test_agent_cleans_a_littered_host_and_serves(littered):
    """What can't be removed is reported, retried, and stops nothing."""
    litter, foreign = littered
    box = litter.box
    gone, kept = box.instances
    box.agent.stop()
    litter.drop()
    # With its program file gone too, nothing would take it over.
    kill(("supervisord",))
    (FLEET / "programs" / f"{gone.port.network.id}.ini").unlink()
    box.unplug([gone])
    stuck = CONFIG / f"{uuid.uuid4()}.conf"
    stuck.mkdir()
    box.agent.start()
    wait_served(kept)
    wait_for(
        lambda: not litter.left(*litter.networks(), gone.port.network.id),
        timeout_s=120,
        what="end of the litter",
    )

    def is_told() -> bool:
        """Tell whether that one fails, and no other one does any more."""
        said = box.agent.status()
        return (
            said.returncode == 3
            and said.stdout.count("FAILED") == 1
            and f"{stuck.stem}: FAILED" in said.stdout
            and stuck.name in said.stdout
        )

    wait_for(is_told, timeout_s=60, interval_s=0.2, what=f"word of {stuck}")
    foreign.check()

    # The same again, while it runs: the periodic pass finds it. Not before
    # all of it is there: it would end a haproxy that makes a daemon of itself.
    stuck.rmdir()
    send_signal(box.agent.pid, signal.SIGSTOP)
    litter.drop()
    double = start_double(kept.port.network)
    send_signal(box.agent.pid, signal.SIGCONT)
    wait_for(
        lambda: not litter.left() and double.poll() is not None,
        timeout_s=120,
        interval_s=0.1,
        what="end of new litter",
    )
    # It was told to finish, maybe before it could heed that itself.
    assert double.returncode in (0, -signal.SIGUSR1)
    wait_content(box)
    wait_served(kept)
    foreign.check()


def start_double(network: Network) -> subprocess.Popen[bytes]:
    """Start a second haproxy beside NETWORK's, in the foreground.

    One that makes a daemon of itself may be ended before it has done so. It
    listens where nobody asks.
    """
    user, _ = host.ids_of(network.id)
    config = str(host.config_of(network.id))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", network.namespace),
                *("setpriv", f"--reuid={user}", f"--regid={user}"),
                *(f"--groups={host.FIRST_NETWORK_ID}", "--no-new-privs"),
                *("sh", "-c", 'exec haproxy -db -f "$0" 3<&0 4<&0', config),
            ],
            cwd=host.stats_of(network.id).parent,
            stdin=listener,
        )
