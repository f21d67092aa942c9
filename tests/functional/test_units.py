"""The systemd units: how exposed they are, and that they are enough.

The programs run here under the units' own capabilities and no_new_privs,
without sudo. All of it under systemd itself: `make boot`.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_privsep.capabilities import CAPS_BYVALUE

from ovn_metadata.agent.startup.daemon import UNIT_SOCKET
from ovn_metadata.privsep.context import CAPABILITIES
from ovn_metadata.privsep.names import METADATA_ADDRESS_V4, METADATA_ADDRESS_V6
from sandbox import Sandbox, host, units, wait_for
from sandbox.case import wait_served
from sandbox.daemons import accepts, run
from sandbox.processes import caps, sole, status_of, uids

# Each is what it is now: a unit that has more exposure needs a reason.
EXPOSURE = {units.AGENT: 1.5, units.PRIVSEP: 4.6, units.FLEET: 3.1}


@pytest.fixture
def installed(tmp_path) -> Path:
    """Provide the units with the programs of this environment."""
    for file in units.FOLDER.iterdir():
        text = host.relocate(file.read_text(), Path(sys.prefix))
        (tmp_path / file.name).write_text(text)
    return tmp_path


def test_systemd_finds_no_fault(installed):
    names = [path.name for path in installed.iterdir()]
    assert len(names) == 4
    done = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", *names),
        cwd=installed,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{installed}:"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    # Of units of the machine's it says things too.
    ours = [ln for ln in done.stderr.splitlines() if "ovn-metadata" in ln]
    assert ours == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure(unit):
    look = ("systemd-analyze", "security", "--offline=true", "--no-pager")
    done = subprocess.run(
        (*look, str(units.FOLDER / unit)),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    match = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert match is not None, done.stderr
    assert float(match[1]) <= EXPOSURE[unit]


def test_the_agents_exposure_is_low():
    assert EXPOSURE[units.AGENT] < 3.0


# As systemd does for ProtectSystem=strict: $2 are the paths to write to.
_MADE_AGAIN = """
mount -t tmpfs run /run && mkdir "$1" && mkfifo /run/go
mount --make-shared /run
unshare --mount --propagation slave sh -ec '
    for path in $2; do
        [ ! -e "$path" ] || mount --bind "$path" "$path"
    done
    case " $2 " in *" /run "*) ;; *) mount -o remount,bind,ro /run ;; esac
    read -r line </run/go
    touch "$1/file"
' sh "$1" "$2" &
exec 3>/run/go
rmdir "$1" && mkdir "$1"
echo >&3
wait $!
"""


def test_the_agent_can_write_a_fleets_folder_that_is_made_again():
    """Somebody has emptied /run; supervisord starts anew."""
    unit = (units.FOLDER / units.AGENT).read_text()
    (paths,) = re.findall(r"^ReadWritePaths=(.+)$", unit, re.M)
    script = ("sh", "-ec", _MADE_AGAIN, "sh", str(host.FLEET))
    run("unshare", "--mount", *script, paths.replace("-/", "/"))


def test_the_daemons_unit_lets_it_ask_as_an_instance_does():
    """Without this the agent's request in each network would be refused."""
    unit = units.settings(units.PRIVSEP)
    (families,), (allowed,) = (
        unit[name] for name in ("RestrictAddressFamilies", "IPAddressAllow")
    )
    assert {"AF_INET", "AF_INET6"} < {*families.split()}
    assert {*allowed.split()} == {METADATA_ADDRESS_V4, METADATA_ADDRESS_V6}


def test_the_daemons_unit_has_its_capabilities_and_no_other():
    names = {CAPS_BYVALUE[number].lower() for number in CAPABILITIES}
    assert units.capabilities(units.PRIVSEP) == names


def test_the_socket_is_where_the_agent_connects():
    (path,) = units.settings(units.PRIVSEP_SOCKET)["ListenStream"]
    assert path == UNIT_SOCKET


# ------------------------------------------------ the programs, as bounded


@pytest.fixture
def by_units(own_box: Sandbox, tmp_path) -> Iterator[Sandbox]:
    """Provide an agent that has no sudo and no way to gain a privilege."""
    agent = own_box.agent
    agent.configure()
    host.install_privileges(Path(sys.prefix))
    shutil.rmtree(host.SUDOERS_FOLDER)
    host.SUDOERS_FOLDER.mkdir()
    program, *rest = agent.command()  # setpriv, to become the user
    bounds = units.bounded(units.AGENT)[1:]
    agent._daemon.command = (program, *bounds, *rest)
    yield own_box
    agent.stop()


def listeners(namespace: str) -> set[str]:
    """Return the inodes of the TCP sockets that listen in NAMESPACE."""
    inside = ("ip", "netns", "exec", namespace, "ss", "-Hltne")
    found = {*re.findall(r"\bino:(\d+)", run(*inside))}
    assert found
    return found


def test_all_of_it_runs_as_its_units_bound_it(by_units, tmp_path):
    """Serve, lose the daemon, lose supervisord, reload, tear down."""
    box, agent = by_units, by_units.agent
    journal = tmp_path / "journal"
    fleet = units.fleet(journal)
    network = box.neutron.create_network("n")
    (instance,) = box.plug([box.neutron.create_port(network)])
    with units.PrivsepSocket(journal) as privsep:
        fleet.start()
        agent._daemon.start()
        agent.wait_ready()
        wait_served(instance)
        _check_bounds(box)

        daemon = sole("privsep").pid
        os.kill(daemon, 9)
        other = box.neutron.create_network("m")
        (second,) = box.plug([box.neutron.create_port(other)])
        wait_served(second)
        assert sole("privsep").pid != daemon
        assert privsep.started >= 2

        # The daemon waits for the unit and starts none of its own.
        fleet.kill()
        assert instance.fetch(timeout=60).status == 200
        before = {p.pid for p in agent.processes("haproxy")}
        sockets = listeners(network.namespace)
        wait_for(
            lambda: "can't start one" in agent.status().stdout,
            timeout_s=120,
            what="word of the fleet's end",
        )
        assert agent.processes("supervisord") == []
        fleet.start()
        wait_for(
            lambda: not before & {p.pid for p in agent.processes("haproxy")},
            timeout_s=120,
            what="haproxies of the new supervisord",
        )
        assert listeners(network.namespace) == sockets, "borrowed, not made"
        agent.wait_ready()
        assert instance.fetch(timeout=60).status == 200

        agent.configure({("metadata_haproxy", "timeout_connect"): "29"})
        agent.reload()
        wait_for(
            lambda: "configuration reloaded" in agent.log(),
            timeout_s=60,
            what="the reload",
        )
        box.unplug([instance, second])
        wait_for(
            lambda: not list(Path("/run/netns").glob("ovnmeta-*")),
            timeout_s=120,
            what="the namespaces' end",
        )
        agent.stop()
        wait_for(
            lambda: not agent.processes("privsep"),
            timeout_s=60,
            what="the daemon's end with its agent",
        )


def _check_bounds(box: Sandbox) -> None:
    for status in status_of(box.agent.pid):
        assert status["NoNewPrivs"] == "1"
        assert caps(status, "Eff", "Prm", "Bnd") == {0}
    mask = sum(1 << number for number in CAPABILITIES)
    for status in status_of(sole("privsep").pid):
        assert status["NoNewPrivs"] == "1"
        assert caps(status, "Eff", "Prm", "Bnd") == {mask}
        assert uids(status) == {0}
    for status in status_of(sole("supervisord").pid):
        assert status["NoNewPrivs"] == "1"
        assert len(units.capabilities(units.FLEET)) == sum(
            cap.bit_count() for cap in caps(status, "Bnd")
        )
    for process in box.agent.processes("haproxy"):
        assert process.cap_bnd == 0


def test_the_fleet_is_ready_when_supervisord_answers(by_units, tmp_path):
    """By sd_notify(3), and no program of its is told where."""
    fleet, address = units.fleet(tmp_path / "journal"), tmp_path / "notify"
    fleet.ready = None
    fleet.environment = {"NOTIFY_SOCKET": str(address)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(60)
        fleet.start()
        assert systemd.recv(100) == b"READY=1"
    assert accepts(Path("/run/ovn-metadata-fleet/supervisord.sock"))
    with units.PrivsepSocket(tmp_path / "journal"):
        by_units.agent._daemon.start()
        by_units.agent.wait_ready()
        for process in by_units.agent.processes("haproxy"):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environment
        by_units.agent.stop()


def test_without_the_socket_it_says_what_to_start(by_units):
    agent = by_units.agent
    agent._daemon.start()
    wait_for(lambda: not agent.running, timeout_s=60, what="its end")
    (line,) = agent.log().splitlines()
    assert "start ovn-metadata-privsep.socket" in line


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a socket", "the socket is not owned by root"),
        ("a file", "Connection refused"),
    ],
)
def test_what_is_not_roots_socket_is_not_used(by_units, what, words):
    """Whoever answers could have the agent run what he likes."""
    agent, path = by_units.agent, Path(UNIT_SOCKET)
    own = host.ids(host.SERVICE_USER)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(UNIT_SOCKET)
            if what == "a file":
                path.unlink()
                path.touch()
            os.chown(path, *own)
            os.seteuid(own[0])  # the kernel notes who listens
            try:
                made.listen(1)
            finally:
                os.seteuid(0)
            agent._daemon.start()
            wait_for(lambda: not agent.running, timeout_s=60, what="its end")
    finally:
        path.unlink()
    line = agent.log().splitlines()[-1]
    assert words in line
    assert f"is {UNIT_SOCKET} the socket of" in line


def test_nobody_but_the_agents_user_has_a_daemon_started(by_units, tmp_path):
    """By the socket's mode; and one of its group by the service."""
    journal = tmp_path / "journal"
    with units.PrivsepSocket(journal) as privsep:
        entry = privsep.path.stat()
        gid = host.ids(host.SERVICE_USER)[1]
        assert (entry.st_uid, entry.st_gid) == (0, gid)
        assert stat.S_IMODE(entry.st_mode) == 0o660
        other = host.ids(host.FLEET_USER)
        assert "Permission denied" in _ask_as(*other)
        assert privsep.started == 0
        assert _ask_as(other[0], gid) == "b''\n"
        assert privsep.started == 1
    assert f"refused: uid {other[0]}" in journal.read_text()
    wait_for(
        lambda: not by_units.agent.processes("privsep"),
        timeout_s=60,
        what="the daemon's end",
    )


def _ask_as(uid: int, gid: int) -> str:
    """Connect as UID and GID, for a daemon; return what comes of it."""
    code = (
        "import socket;"
        "own = socket.socket(socket.AF_UNIX);"
        f"own.connect({UNIT_SOCKET!r}); own.settimeout(60);"
        "print(own.recv(100))"
    )
    who = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    done = subprocess.run(
        ("setpriv", *who, sys.executable, "-I", "-c", code),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.stdout + done.stderr
