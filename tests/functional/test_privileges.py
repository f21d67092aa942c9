"""Who runs as whom, with what, and who can read or touch what."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_privsep import capabilities

from ovn_metadata.privsep.context import CAPABILITIES
from sandbox import Sandbox, wait_for
from sandbox.agent import LOG
from sandbox.case import Host, wait_served
from sandbox.host import (
    CONFIG_FOLDER,
    FIRST_NETWORK_ID,
    FLEET_USER,
    HOME,
    PRIVILEGE_FOLDER,
    SERVICE_USER,
    SUDOERS_FOLDER,
    ids,
    ids_of,
)
from sandbox.processes import Process, caps, sole, status_of, uids

FLEET = Path("/run/ovn-metadata-fleet")
SECRET = "tell-nobody-5f0c"


@pytest.fixture(scope="module")
def served(host: Host) -> Sandbox:
    """One network with one instance, a log that holds all there is."""
    box = host.sandbox({("DEFAULT", "debug"): "True"})
    box.nova.stop()
    box.nova.secret = SECRET
    next(box.folder.glob("nova-*.secret")).write_text(SECRET)
    box.nova.start()
    box.agent.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    box.plug([box.neutron.create_port(network, name="vm")])
    wait_served(box.instances[0])
    box.nova.stop()
    # It is logged as well.
    assert box.instances[0].fetch(timeout=30).status == 503
    box.nova.start()
    return box


def haproxy_ids(process: Process) -> tuple[int, int]:
    """Return the uid and gid that the haproxy PROCESS is to have."""
    return ids_of(Path(process.cmdline[-1]).stem)


# ------------------------------------------------------- who runs as whom


def test_agent_has_a_user_and_no_capability(served):
    """In every thread: effective, permitted, inheritable and ambient."""
    for status in status_of(sole("agent").pid):
        assert uids(status) == {ids(SERVICE_USER)[0]}
        assert caps(status, "Eff", "Prm", "Inh", "Amb") == {0}


def test_every_haproxy_has_nothing_and_no_way_to_get_it(served):
    """The network's and the gateway's."""
    found = served.agent.processes("haproxy")
    assert len(found) == 2
    for process in found:
        for status in status_of(process.pid):
            assert uids(status) == {haproxy_ids(process)[0]}
            assert status["Groups"] == str(FIRST_NETWORK_ID)
            assert caps(status, "Eff", "Prm", "Inh", "Amb", "Bnd") == {0}
            assert status["NoNewPrivs"] == "1"


def test_privsep_daemon_has_exactly_the_documented_capabilities(served):
    mask = sum(1 << number for number in CAPABILITIES)
    for status in status_of(sole("privsep").pid):
        assert caps(status, "Eff", "Prm") == {mask}
        assert caps(status, "Inh", "Amb") == {0}


def test_documented_capabilities_are_few():
    """None that reads or writes whatever it likes, past what must be."""
    assert {
        capabilities.CAP_NET_ADMIN,
        capabilities.CAP_SYS_ADMIN,
        capabilities.CAP_CHOWN,
    } >= set(CAPABILITIES)


def test_supervisord_is_roots_and_talks_to_root_only(served):
    assert sole("supervisord").user == "root"
    for path in (FLEET / "supervisord.sock", FLEET / "programs"):
        entry = path.stat()
        assert entry.st_uid == 0
        assert stat.S_IMODE(entry.st_mode) == 0o700


@pytest.mark.parametrize("user", [SERVICE_USER, FLEET_USER])
def test_supervisords_folder_has_one_file_for_others(served, user):
    """The host's lock, for the agent; all may pass through to it.

    And what the agent shares with haproxies: test_least_modes has their modes.
    """
    shared = {FLEET / name for name in ("config", "read", "work", "socket")}
    found = [FLEET, *FLEET.rglob("*")]
    found = [p for p in found if not shared & {p, *p.parents}]
    assert len(found) > 6
    for path in found:
        is_lock = path.name == "agent.lock" and user == SERVICE_USER
        assert allowed(user, "-w", path) == is_lock, path
        if path.name != "supervisord.pid":
            assert allowed(user, "-r", path) == is_lock, path


def allowed(user: str, test: str, path: Path) -> bool:
    uid, gid = ids(user)
    who = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    done = subprocess.run((*who, "test", test, str(path)), check=False)
    return done.returncode == 0


def _ini() -> Path:
    return CONFIG_FOLDER / "neutron_ovn_metadata_agent.ini"


def test_service_user_cannot_write_what_root_runs(served):
    for path in (FLEET, FLEET / "programs", PRIVILEGE_FOLDER, _ini()):
        assert not allowed(SERVICE_USER, "-w", path), path


# ----------------------------------------------------------------- secret


def holders(root: Path, text: bytes) -> Iterator[Path]:
    """Yield the files below ROOT that hold TEXT."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                if text in path.read_bytes():
                    yield path


def test_secret_is_in_no_file_but_the_operators(served):
    """Under state_path, in any log (debug), in /run or /tmp: nowhere."""
    secret = SECRET.encode()
    wanted = (HOME, Path("/var/log"), Path("/run"), PRIVILEGE_FOLDER)
    assert list(holders(CONFIG_FOLDER, secret)) == [_ini()]
    found = [path for root in wanted for path in holders(root, secret)]
    # What is not the agent's: the stand-in's file, the sandbox's /etc.
    others = (served.folder, Path("/run/.staging/etc"))
    assert [p for p in found if not {*others} & {*p.parents}] == []
    assert SECRET not in served.agent.log()


def test_secret_is_in_no_command_line_or_environment(served):
    secret = SECRET.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    assert secret not in (entry / name).read_bytes()


def test_secret_is_in_no_status(served):
    said = wait_for(
        # A Nova that was away is a problem until it is asked again.
        lambda: (
            (told := served.agent.status("--json")).returncode == 0 and told
        ),
        timeout_s=60,
        what="an agent without a problem",
    )
    assert SECRET not in said.stdout + said.stderr


# ----------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("kind", "limit_mib"),
    [("agent", 60), ("privsep", 50), ("supervisord", 40)],
)
def test_memory_with_one_network(served, kind, limit_mib):
    """Proportional set size; shared pages count once for all.

    Importing the libraries alone takes 21 MiB more with Debian 12's, which
    load eventlet, requests and setuptools.
    """
    old = importlib.metadata.version("oslo.privsep").startswith("3.0.")
    limit_mib += 20 if old and kind != "supervisord" else 0
    assert sole(kind).pss_kib < limit_mib * 1024


# ------------------------------------------------- started as root (Kolla)


@pytest.fixture
def as_root(own_box) -> Iterator[Sandbox]:
    """Provide an agent that is started as root; no sudo, no rootwrap."""
    agent = own_box.agent
    for path in (*PRIVILEGE_FOLDER.iterdir(), *SUDOERS_FOLDER.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = agent.command()
    agent._daemon.command = command[command.index("--init-groups") + 1 :]
    passwd = Path("/etc/passwd").read_text()
    yield own_box
    Path("/etc/passwd").write_text(passwd)
    os.chown(HOME, *ids(SERVICE_USER))


def test_started_as_root_it_drops_to_the_service_user(as_root):
    box = as_root
    box.agent.configure({("AGENT", "root_helper"): ""})
    box.agent._daemon.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    wait_served(instance)
    for status in status_of(box.agent.pid):
        assert uids(status) == {ids(SERVICE_USER)[0]}
        assert caps(status, "Eff", "Prm", "Inh", "Amb") == {0}
        assert status["NoNewPrivs"] == "1"
    mask = sum(1 << number for number in CAPABILITIES)
    for status in status_of(sole("privsep").pid):
        assert caps(status, "Eff", "Prm") == {mask}
    for process in box.agent.processes("haproxy"):
        assert process.cap_bnd == 0
        assert status_of(process.pid)[0]["Uid"].split()[0] == str(
            haproxy_ids(process)[0]
        )
    assert f"runs as {SERVICE_USER}" in box.agent.log()
    owners = {path.stat().st_uid for path in HOME.glob("ovn-metadata*")}
    assert owners == {ids(SERVICE_USER)[0]}
    # A privsep daemon that dies is started again, though we are root no more.
    pid = sole("privsep").pid
    os.kill(pid, 9)
    wait_for(
        lambda: not Path(f"/proc/{pid}").exists(),
        timeout_s=60,
        what="its end, without a zombie",
    )
    other = box.neutron.create_network("m")
    (second,) = box.plug([box.neutron.create_port(other)])
    wait_served(second)
    assert sole("privsep").pid != pid


def test_started_as_root_it_says_why_there_is_no_daemon(as_root):
    """In its log; the daemon itself says it on stderr."""
    box = as_root
    option = "[privsep]\nthread_pool_size = 0\n"
    (PRIVILEGE_FOLDER / "privileged.conf").write_text(option)
    box.agent.configure()
    box.agent._daemon.start()
    wait_for(lambda: not box.agent.running, timeout_s=60, what="its end")
    wait_for(
        lambda: not box.agent.processes(),
        timeout_s=60,
        what="the end of the daemon",
    )
    assert "hould be greater than or equal to 1" in box.agent.log()
    assert "the privileged daemon did not start" in box.agent.log()
    assert "Traceback" not in box.agent.log()


def acceptor() -> int:
    """Return the pid of the agent's child that stayed root."""

    def found() -> list[int]:
        pids = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended just now
                if b"\0ovn_metadata.privsep.acceptor\0" in file.read_bytes():
                    pids.append(int(file.parent.name))
        return pids

    # What it starts is its copy for a moment.
    wait_for(lambda: len(found()) == 1, timeout_s=60, what="one acceptor")
    return found()[0]


def test_without_the_way_to_root_it_ends_and_says_so(as_root):
    """A container then starts it again. While a daemon lives, it works."""
    box = as_root
    box.agent.start()
    box.agent.wait_ready()
    os.kill(acceptor(), 9)
    first, second = (
        box.neutron.create_port(box.neutron.create_network(name))
        for name in ("n", "m")
    )
    (instance,) = box.plug([first])
    wait_served(instance)
    os.kill(sole("privsep").pid, 9)
    wait_for(lambda: not box.agent.running, timeout_s=60, what="its end")
    (line,) = box.agent._daemon.output.read_text().splitlines()
    assert line.startswith("ovn-metadata-agent: the process that stayed ")
    assert "restart the agent" in line
    wait_served(instance)
    box.agent.start()
    box.agent.wait_ready()
    (other,) = box.plug([second])
    wait_served(other)


def test_started_as_root_no_other_user_gets_a_daemon(as_root):
    """Its socket is an abstract one: everybody can connect."""
    box = as_root
    box.agent.start()
    box.agent.wait_ready()
    lines = Path("/proc/net/unix").read_text().splitlines()
    (name,) = {
        line.split()[-1] for line in lines if "@ovn-metadata-privsep-" in line
    }
    before = sole("privsep").pid
    for user in (FLEET_USER, "nobody"):
        code = (
            "import socket; own = socket.socket(socket.AF_UNIX);"
            f"own.connect({name!r}.replace('@', chr(0), 1));"
            "own.settimeout(50); print(own.recv(100))"
        )
        who = (f"--reuid={user}", "--clear-groups")
        done = subprocess.run(
            ("setpriv", *who, sys.executable, "-I", "-c", code),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "b''\n", done.stderr
    assert sole("privsep").pid == before


def test_the_process_that_stays_root_waits_for_a_descriptor(tmp_path):
    """It tries as often as a log bears, and accepts who waits later."""
    name, log = uuid.uuid4().hex, tmp_path / "log"
    module = "ovn_metadata.privsep.acceptor"
    words = (sys.executable, "-I", "-m", module, name, "0", "/bin/cat")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as acceptor,
        socket.socket(socket.AF_UNIX) as client,
    ):
        assert acceptor.stdin is not None
        assert acceptor.stdout is not None
        assert acceptor.stdout.readline() == b"ready\n"
        files = acceptor.pid, resource.RLIMIT_NOFILE
        resource.prlimit(*files, (4, 64))  # it has 0, 1, 2 and its socket
        begun = time.monotonic()
        client.connect(f"\0{name}")
        wait_for(
            lambda: log.read_text().count("Too many open files") > 2,
            timeout_s=20,
            what="three tries",
        )
        assert time.monotonic() - begun > 0.3
        resource.prlimit(*files, (64, 64))
        client.sendall(b"served")  # cat prints it there
        wait_for(lambda: "served" in log.read_text(), timeout_s=20, what="cat")
        client.close()
        acceptor.stdin.close()


def test_started_as_root_it_takes_over_what_roots_agent_left(as_root):
    """Neutron's, where the unit had User=root; keys that nobody needs too."""
    box = as_root
    network = box.neutron.create_network("n")
    stale = str(uuid.uuid4())
    box.agent.configure(
        {
            ("AGENT", "root_helper"): "",
            ("ovn", "ovn_sb_private_key"): "/etc/neutron/ssl/key",
            ("ovn", "ovn_sb_certificate"): "/etc/neutron/ssl/cert",
        }
    )
    keys = CONFIG_FOLDER / "ssl"
    keys.mkdir(mode=0o700)
    (keys / "key").write_text("")
    pids = HOME / "external" / "pids"
    for folder in (HOME / "ovn-metadata-proxy", pids):
        folder.mkdir(parents=True)
    for key in (network.id, stale):
        (HOME / f"ovn-metadata-proxy/{key}.conf").write_text("nonsense\n")
        (pids / f"{key}.pid.haproxy").write_text("1\n")
    os.chown(HOME, 0, 0)
    LOG.write_text("")
    (instance,) = box.plug([box.neutron.create_port(network)])
    box.agent._daemon.start()
    box.agent.wait_ready()
    wait_served(instance)
    assert (LOG.owner(), HOME.owner()) == (SERVICE_USER, SERVICE_USER)
    wait_for(
        lambda: not (HOME / f"ovn-metadata-proxy/{stale}.conf").exists(),
        timeout_s=60,
        what="the end of what was stale",
    )


def test_started_as_root_a_key_in_a_closed_folder_is_named(as_root):
    """Read as root, it can't be read as the service user."""
    box = as_root
    keys = CONFIG_FOLDER / "ssl"
    keys.mkdir(mode=0o700)
    names = ("ovn_sb_private_key", "ovn_sb_certificate", "ovn_sb_ca_cert")
    for name in names:
        (keys / name).write_text("")
    options = {("ovn", name): str(keys / name) for name in names}
    options["ovn", "ovn_sb_connection"] = "ssl:127.0.0.1:6642"
    box.agent.configure(options)
    box.agent._daemon.start()
    wait_for(lambda: not box.agent.running, timeout_s=60, what="its end")
    (line,) = box.agent.log().splitlines()
    assert f"can't be read as {SERVICE_USER}" in line
    assert str(keys) in line


def test_started_as_root_without_a_user_to_drop_to_it_says_so(as_root):
    """It serves, as root, and says what to do."""
    box = as_root
    box.agent.configure({("AGENT", "root_helper"): ""})
    lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
    kept = [ln for ln in lines if not ln.startswith(f"{SERVICE_USER}:")]
    Path("/etc/passwd").write_text("".join(kept))
    os.chown(HOME, 0, 0)
    box.agent._daemon.start()
    box.agent.wait_ready()
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    wait_served(instance)
    (line,) = [
        line for line in box.agent.log().splitlines() if "as root" in line
    ]
    assert "WARNING" in line
    assert "useradd" in line
    for process in box.agent.processes("haproxy"):
        assert process.cap_bnd == 0
        assert status_of(process.pid)[0]["Uid"].split()[0] == str(
            haproxy_ids(process)[0]
        )


def test_started_as_root_with_an_unknown_user_it_ends(as_root):
    """service_user names nobody: an error, not root as a way out."""
    box = as_root
    option = ("ovn_metadata_agent", "service_user")
    box.agent.configure({option: "nobody-such"})
    box.agent._daemon.start()
    wait_for(lambda: not box.agent.running, timeout_s=60, what="its end")
    assert box.agent._daemon.process.returncode == 1
    (line,) = box.agent.log().splitlines()
    assert "nobody-such" in line
    assert "service_user" in line
    assert box.agent.processes() == []
