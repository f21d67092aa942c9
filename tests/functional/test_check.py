"""`ovn-metadata-agent --check` reports what a start would come to."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sandbox import Sandbox, wait_for
from sandbox.agent import CONFIG, NEUTRON_CONFIG, write_ini
from sandbox.host import CONFIG_FOLDER, FLEET_USER
from sandbox.hoststate import Everything, settled
from sandbox.sockets import status

GOOD, REFUSED, MISSING = 0, 1, 2
FREE_PORT = 6699  # nobody listens there in a sandbox


@pytest.fixture(scope="module", params=["as root", "as the service user"])
def command(box: Sandbox, request) -> tuple[str, ...]:
    """Provide the agent's command with its files, and --check."""
    own = box.agent.command()
    start = next(n for n, w in enumerate(own) if w.endswith("-agent"))
    who = () if request.param == "as root" else own[:start]
    return (*who, own[start], "--check", *box.agent.config_arguments())


def check(
    command: Sequence[str], options=None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; see `started`."""
    with started(command, options) as running:
        stdout, stderr = running.communicate(timeout=60)
    return subprocess.CompletedProcess(
        command, running.returncode, stdout, stderr
    )


def started(command: Sequence[str], options=None) -> subprocess.Popen[str]:
    """Start COMMAND; OPTIONS (by section and name) overrule its files."""
    file = CONFIG_FOLDER / "more.conf"
    write_ini(file, options or {})
    return subprocess.Popen(
        (*command, "--config-file", str(file)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )


def missing(done: subprocess.CompletedProcess[str]) -> list[str]:
    start = "ovn-metadata-agent: missing: "
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    return [line.removeprefix(start) for line in lines if start in line]


def at_rest(box: Sandbox) -> Everything:
    """Return what there is, once networks of tests before are gone."""
    wanted = {"gateway", *box.neutron.networks}

    def found() -> list[Everything]:
        here = {*status()["networks"]}  # from which a network goes last
        now = settled(box)
        is_over = here <= wanted and now.processes == dict.fromkeys(here, 1)
        return [now] if is_over else []

    what = f"no network but {wanted}"
    return wait_for(found, timeout_s=90, what=what)[0]


def test_it_is_well_where_the_agent_serves(box, case, command):
    """And changes nothing there."""
    case.instance(case.network())
    before = at_rest(box)
    done = check(command)
    assert (done.returncode, missing(done)) == (GOOD, []), done.stderr
    assert done.stdout == "ovn-metadata-agent: the configuration is good\n"
    assert at_rest(box).differences(before) == []


def test_wrong_usage_is_no_start(command):
    """A package's upgrade would restart it."""
    done = check((*command, "--bogus"))
    assert (done.returncode, "--bogus" in done.stderr) == (REFUSED, True)


def test_a_value_is_refused_in_the_words_of_a_start(box, command):
    done = check(command, {("ovn", "ovsdb_probe_interval"): "60s"})
    assert (done.returncode, done.stdout) == (REFUSED, "")
    (line,) = done.stderr.splitlines()
    assert '[ovn] ovsdb_probe_interval = "60s": must be an integer' in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(
            {("ovs", "ovsdb_connection"): "unix:/run/nowhere.sock"},
            "Open vSwitch at unix:/run/nowhere.sock",
            id="Open vSwitch",
        ),
        pytest.param(
            {("ovn", "ovn_sb_connection"): f"tcp:127.0.0.1:{FREE_PORT}"},
            f"OVN Southbound at tcp:127.0.0.1:{FREE_PORT}",
            id="Southbound",
        ),
        pytest.param(
            {("ovn_metadata_agent", "chassis_name"): "another"},
            "the chassis another in OVN Southbound",
            id="the chassis' row",
        ),
        pytest.param(
            {
                ("DEFAULT", "nova_metadata_host"): "127.0.0.1",
                ("DEFAULT", "nova_metadata_port"): str(FREE_PORT),
            },
            f"Nova's metadata API at 127.0.0.1 port {FREE_PORT}",
            id="Nova",
        ),
        pytest.param(  # there is no route to the world
            {
                ("DEFAULT", "nova_metadata_host"): "$my_ipv6",
                ("DEFAULT", "nova_metadata_port"): str(FREE_PORT),
            },
            f"Nova's metadata API at ::1 port {FREE_PORT}",
            id="Nova on this host",
        ),
    ],
)
def test_what_is_not_there_is_named(box, command, options, said):
    done = check(command, options)
    assert done.returncode == MISSING
    (line,) = missing(done)
    assert line.startswith(said)


def test_a_rate_limit_below_one_boot_is_a_warning(box, command):
    """With Neutron's default, 10 in 10 s; the start is good all the same."""
    section = "metadata_rate_limiting"
    done = check(command, {(section, "rate_limit_enabled"): "true"})
    assert done.returncode == GOOD, done.stderr
    for line, name in zip(
        done.stderr.splitlines(), ("base", "burst"), strict=True
    ):
        assert line.startswith(
            f"ovn-metadata-agent: warning: [{section}] {name}_query_rate_limit"
            f" = 10: less than the 28 requests of one boot; "
        )


def test_a_bridge_that_is_not_there_is_named(box, command):
    key = "external_ids:ovn-bridge-nobody"
    box.ovn.vsctl("set", "open_vswitch", ".", f"{key}=br-none")
    try:
        options = {("ovn_metadata_agent", "chassis_name"): "nobody"}
        done = check(command, options)
    finally:
        box.ovn.vsctl("remove", "open_vswitch", ".", *key.split(":"))
    assert done.returncode == MISSING
    assert missing(done)[0].startswith("the bridge br-none, ")


def test_what_is_missing_is_told_before_the_rest_is_asked(box, command):
    """Southbound gives no answer until the first line has come."""
    key = "external_ids:ovn-bridge-nobody"
    box.ovn.vsctl("set", "open_vswitch", ".", f"{key}=br-none")
    remote = f"tcp:127.0.0.1:{FREE_PORT}"
    options = {
        ("ovn_metadata_agent", "chassis_name"): "nobody",
        ("ovn", "ovn_sb_connection"): remote,
    }
    try:
        with (
            socket.create_server(("127.0.0.1", FREE_PORT)) as server,
            started(command, options) as running,
        ):
            assert running.stderr
            assert "missing: the bridge br-none" in running.stderr.readline()
            client, _ = server.accept()
            with client:
                client.recv(65536)
            assert "it closed the connection" in running.stderr.readline()
            assert running.wait(timeout=60) == MISSING
    finally:
        box.ovn.vsctl("remove", "open_vswitch", ".", *key.split(":"))


def test_a_haproxy_of_no_version_is_named(box, command):
    """What is at its path has to be a program, or a start fails."""
    file = CONFIG_FOLDER / "privileged-other.conf"
    option = {("ovn_metadata_agent", "privileged_config"): str(file)}
    other = CONFIG_FOLDER / "haproxy-other"
    shutil.copy("/usr/bin/true", other)
    write_ini(file, {("fleet", "haproxy"): str(other)})
    done = check(command, option)
    other.unlink()
    assert done.returncode == MISSING
    assert missing(done) == [
        f"haproxy 2.6 or newer; {other} is something else"
    ]
    write_ini(file, {("fleet", "haproxy"): "/usr/bin/true"})
    done = check(command, option)
    assert done.returncode == REFUSED
    assert "must contain haproxy" in done.stderr
    write_ini(file, {("fleet", "haproxy"): "/usr/bin/nothing"})
    done = check(command, option)
    assert done.returncode == REFUSED
    assert "haproxy not found at /usr/bin/nothing" in done.stderr


@pytest.mark.parametrize("place", [CONFIG, NEUTRON_CONFIG])
def test_what_the_service_user_may_not_use_is_refused(box, command, place):
    """As root too: it is not root who runs the agent."""
    before = place.stat()
    os.chown(place, 65534, 65534)
    place.chmod(0o700)
    try:
        done = check(command)
    finally:
        os.chown(place, before.st_uid, before.st_gid)
        place.chmod(before.st_mode)
    assert done.returncode == REFUSED, done.stdout
    assert str(place) in done.stderr


@contextlib.contextmanager
def closed_folder(owner: int = 65534) -> Iterator[Path]:
    """Make a folder that is not the agent's, and closed to it."""
    with tempfile.TemporaryDirectory(dir="/run") as name:
        folder = Path(name)
        os.chown(folder, owner, owner)
        yield folder
        os.chown(folder, 0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--log-file", "/proc/no/a.log"), id="no folder"),
        pytest.param(("--log-file", "{}/a.log"), id="a closed folder"),
        pytest.param(("--log-config-append", "/no/log"), id="no file"),
    ],
)
def test_a_log_that_can_not_be_written_is_refused(box, command, arguments):
    with closed_folder() as folder:
        words = [word.format(folder) for word in arguments]
        done = check((*command, *words))
    assert done.returncode == REFUSED, done.stdout
    assert "can't write the log" in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def folder_of_roots() -> Iterator[Path]:
    """Make a folder that all can enter, and only root can change."""
    with tempfile.TemporaryDirectory(dir="/run") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.parametrize("there", [True, False], ids=["file", "no file"])
def test_a_log_in_a_folder_of_roots(box, command, there):
    """A start as root hands over a log that root owns, but no folder."""
    with folder_of_roots() as made:
        file = made / "agent.log"
        if there:
            file.touch()
        done = check((*command, "--log-file", str(file)))
        assert file.exists() is there
    is_root = command[0].endswith("-agent")
    assert done.returncode == (GOOD if is_root and there else REFUSED)
    assert not done.returncode or "Permission denied: /run" in done.stderr


def test_a_privileged_conf_in_a_closed_folder_is_refused(box, command):
    with closed_folder() as folder:
        file = folder / "privileged.conf"
        option = {("ovn_metadata_agent", "privileged_config"): str(file)}
        done = check(command, option)
    assert done.returncode == REFUSED, done.stdout
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("there", [True, False], ids=["empty", "absent"])
def test_a_state_path_that_is_roots(box, command, there):
    """A start as root hands it over, or makes it; the service user can't."""
    with folder_of_roots() as made:
        folder = made / "state"
        if there:
            folder.mkdir()
        option = {("DEFAULT", "state_path"): str(folder)}
        done = check(command, option)
        assert folder.exists() is there
    is_root = command[0].endswith("-agent")
    assert done.returncode == (GOOD if is_root else REFUSED), done.stderr
    assert is_root or "state_path" in done.stderr


def test_a_privileged_conf_of_others_is_refused(box, command):
    file = Path(CONFIG_FOLDER, "privileged-other.conf")
    write_ini(file, {("fleet", "user"): FLEET_USER})
    file.chmod(0o666)
    option = {("ovn_metadata_agent", "privileged_config"): str(file)}
    done = check(command, option)
    assert done.returncode == REFUSED
    assert "chmod go-w" in done.stderr


def test_a_chassis_name_that_can_not_be_read_is_refused(box, command):
    """A start ends over it too."""
    file = Path("/etc/system-id-override")
    file.write_text("chassis-7\n")
    file.chmod(0o600)
    try:
        done = check(command)
    finally:
        file.unlink()
    assert done.returncode == REFUSED, done.stdout
    (line,) = done.stderr.splitlines()
    assert str(file) in line


@pytest.mark.parametrize("owner", [0, 65534], ids=["root", "nobody"])
def test_a_state_path_in_a_closed_folder_is_refused(box, command, owner):
    with closed_folder(owner) as folder:
        option = {("DEFAULT", "state_path"): str(folder / "a" / "state")}
        done = check(command, option)
    assert done.returncode == REFUSED, done.stdout
    (line,) = done.stderr.splitlines()
    assert "state_path" in line
