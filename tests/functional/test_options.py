"""The operator's file as it is; a mistake in it is named, nothing touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Agent, Sandbox, wait_for
from sandbox.agent import CONFIG
from sandbox.case import Host, wait_served
from sandbox.host import (
    CONFIG_FOLDER,
    FLEET_USER,
    HOME,
    LOG_FOLDER,
    SERVICE_USER,
    ids,
    install_privileges,
)
from sandbox.processes import send_signal

FLEET = Path("/run/ovn-metadata-fleet")
PRIVILEGED = Path("/etc/ovn-metadata-agent/privileged.conf")
SOCKET = HOME / "metadata_proxy"

LOGGING = """\
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys = mine
[logger_root]
level = INFO
handlers = file
[handler_file]
class = FileHandler
args = ("{file}",)
formatter = mine
[formatter_mine]
format = MINE %(message)s
"""

# A deployer's file (seed-era names, other agents' options and sections).
OPERATORS = """\
[DEFAULT]
debug = False
nova_metadata_ip = 127.0.0.1
nova_metadata_port = 8775
metadata_proxy_shared_secret = sandbox-secret
metadata_workers = 2
state_path = /var/lib/neutron
core_plugin = ml2
some_option_of_nobody = 1
transport_url = rabbit://a:b@127.0.0.1:5672/

[agent]
root_helper = sudo /usr/bin/neutron-rootwrap /etc/neutron/rootwrap.conf
root_helper_daemon = sudo neutron-rootwrap-daemon /etc/neutron/rootwrap.conf
report_interval = 300

[ovs]
ovsdb_connection = tcp:127.0.0.1:6640
ovsdb_timeout = 10
ovs_integration_bridge = br-int

[ovn]
ovn_sb_connection = tcp:127.0.0.1:6642
ovn_nb_connection = tcp:127.0.0.1:6641
ovsdb_connection_timeout = 180
ovn_metadata_enabled = true
ovn_l3_scheduler = leastloaded

[oslo_concurrency]
lock_path = /var/lib/neutron/tmp

[cache]
enabled = true
"""


def run(agent: Agent, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the agent with ARGUMENTS in place of its own, to its end."""
    command = agent.command()
    program = next(n for n, w in enumerate(command) if w.endswith("-agent"))
    return subprocess.run(
        (*command[: program + 1], *(arguments or agent.config_arguments())),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )


@pytest.fixture
def bare(host: Host, tmp_path: Path) -> Iterator[Agent]:
    """Provide an agent alone: no OVN, no Nova; it won't get that far."""
    host.clear()
    agent = Agent(tmp_path)
    before = HOME.stat()
    yield agent
    agent.close()
    os.chown(HOME, before.st_uid, before.st_gid)
    HOME.chmod(stat.S_IMODE(before.st_mode))
    agent.options.clear()
    agent.configure()


def untouched(agent: Agent) -> None:
    """Nothing made, nothing started."""
    assert list(HOME.iterdir()) == []
    assert not FLEET.exists()
    assert agent.processes() == []


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line DONE ended with; exit code 1, no traceback."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


# ------------------------------------------------------------ files as used


def start_by_hand(box: Sandbox, *arguments: str) -> None:
    """Start the agent of BOX with ARGUMENTS as its configuration."""
    box.agent.configure()
    install_privileges(Path(sys.prefix))
    command = box.agent.command()
    ours = box.agent.config_arguments()
    first = command.index(ours[0])
    box.agent._daemon.command = (
        *command[:first],
        *arguments,
        *command[first + len(ours) :],
    )
    box.agent._daemon.start()


def test_operators_file_works_unchanged(own_box):
    """Seed-era names, neutron-rootwrap, unknown options; --config-dir too."""
    folder = CONFIG_FOLDER / "conf.d"
    folder.mkdir()
    (folder / "10-workers.conf").write_text("[DEFAULT]\nmetadata_workers=1\n")
    ini = CONFIG_FOLDER / "networking_ovn_metadata_agent.ini"
    ini.write_text(OPERATORS)
    neutron = CONFIG_FOLDER / "other.conf"
    neutron.write_text("[DEFAULT]\nnova_metadata_port=1\n[nova]\nx=y\n")
    start_by_hand(
        own_box,
        *("--config-file", str(neutron), "--config-file", str(ini)),
        *("--config-dir", str(folder)),
    )
    own_box.agent.wait_ready()
    network = own_box.neutron.create_network("n")
    (instance,) = own_box.plug([own_box.neutron.create_port(network)])
    wait_served(instance)


def test_default_folder_is_found_without_arguments(own_box):
    """As EDPM starts it: no arguments, /etc/neutron.conf.d/*.conf."""
    folder = Path("/etc/neutron.conf.d")
    folder.mkdir()
    try:
        own_box.agent.configure()
        (folder / "01.conf").write_text(CONFIG.read_text())
        start_by_hand(own_box)
        own_box.agent.wait_ready()
    finally:
        shutil.rmtree(folder)


# metadata_proxy_socket_mode, _group, and what the socket shows of them.
ACCESS = [
    ("user", "", 0o644, SERVICE_USER),
    ("group", "", 0o664, SERVICE_USER),
    ("all", "", 0o666, SERVICE_USER),
    ("deduce", "", 0o664, SERVICE_USER),
    ("group", "daemon", 0o664, "daemon"),
    ("deduce", "daemon", 0o666, "daemon"),
]


@pytest.mark.parametrize(
    ("running", "access"),
    [(False, ACCESS[-2:]), (True, ACCESS)],
    ids=["fresh", "running"],
)
def test_socket_has_its_mode_and_group(own_box, running, access):
    """At a restart, of the agent alone (RUNNING) or of the fleet too."""
    agent = own_box.agent
    for name, group, mode, owners in access:
        options = {
            ("DEFAULT", "metadata_proxy_socket_mode"): name,
            ("DEFAULT", "metadata_proxy_group"): group,
        }
        restart(agent, options, running=running)

        def seen(mode=mode, owners=owners) -> bool:
            return access_of(SOCKET) == (mode, FLEET_USER, owners)

        wait_for(seen, timeout_s=60, what=f"{mode:o} {owners} on the socket")
    before = SOCKET.stat().st_ino
    for process in agent.processes("haproxy"):
        if "gateway" in " ".join(process.cmdline):
            send_signal(process.pid, signal.SIGKILL)
    wait_for(
        lambda: seen() and SOCKET.stat().st_ino != before,
        timeout_s=60,
        what="the same on the next gateway's socket",
    )


def access_of(path: Path) -> tuple[int, str, str]:
    """Return mode, user and group of the socket that PATH leads to."""
    with contextlib.suppress(FileNotFoundError):
        entry = path.stat()
        assert stat.S_ISSOCK(entry.st_mode)
        mode = stat.S_IMODE(entry.st_mode)
        return mode, path.owner(), path.group()
    return 0, "", ""


def test_a_user_that_has_no_effect_is_named(own_box):
    """Neutron runs its haproxy as that one."""
    own_box.agent.configure({("DEFAULT", "metadata_proxy_user"): "daemon"})
    own_box.agent.start()
    own_box.agent.wait_ready()
    (line,) = [
        line
        for line in own_box.agent.log().splitlines()
        if "metadata_proxy_user" in line
    ]
    assert "WARNING" in line
    assert "privileged.conf" in line


@pytest.mark.parametrize("running", [False, True], ids=["fresh", "running"])
def test_backlog_takes_effect(own_box, running):
    """As `ss -xl` shows it."""
    for backlog in ("64", "4096"):
        option = ("DEFAULT", "metadata_backlog")
        restart(own_box.agent, {option: backlog}, running=running)

        def seen(backlog=backlog) -> bool:
            return backlog in backlogs()

        wait_for(seen, timeout_s=60, what=f"backlog {backlog}")


def test_workers_are_the_gateways_threads(own_box):
    """0 and unset mean one."""
    agent = own_box.agent
    for workers, wanted in (("3", 3), ("0", 1), ("2", 2), ("", 1)):
        option = ("DEFAULT", "metadata_workers")
        restart(agent, {option: workers}, running=True)

        def seen(wanted=wanted) -> bool:
            return gateway_threads(agent) == {wanted}

        wait_for(seen, timeout_s=60, what=f"{wanted} threads")


def restart(agent: Agent, options, *, running: bool) -> None:
    """Restart AGENT with OPTIONS; its fleet too unless it is RUNNING."""
    agent.stop()
    if not running:
        agent.stop_fleet()
    agent.configure(options)
    agent.start()
    agent.wait_ready()


def gateway_threads(agent: Agent) -> set[int]:
    """Return the numbers of threads of the gateway."""
    return {
        len(list(Path(f"/proc/{process.pid}/task").iterdir()))
        for process in agent.processes("haproxy")
        if any("gateway" in word for word in process.cmdline)
    }


def backlogs() -> list[str]:
    """Return the backlog of each socket named metadata_proxy."""
    said = subprocess.run(
        ("ss", "-Hxl"), capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in said.splitlines()]
    return [row[3] for row in rows if "metadata_proxy" in row[4]]


def test_log_goes_where_it_is_told(own_box):
    """File and folder, a file that logrotate cut, logging's own format."""
    agent = own_box.agent
    agent._daemon.command = agent.command()[: -len(("--log-file", "FILE"))]
    names = ("debug.log", "second.log", "third.log")
    first, second, third = (LOG_FOLDER / name for name in names)
    config = CONFIG_FOLDER / "logging.conf"
    config.write_text(LOGGING.format(file=third))

    def reload(options) -> None:
        agent.configure(options)
        agent.reload()

    def has(file: Path, words: str, *, times: int = 1) -> None:
        wait_for(
            lambda: file.read_text().count(words) >= times,
            timeout_s=60,
            what=f"{words!r} in {file.name}",
        )

    agent.configure(
        {
            ("DEFAULT", "log_dir"): str(LOG_FOLDER),
            ("DEFAULT", "log_file"): first.name,
            ("DEFAULT", "debug"): "true",
            ("ovn", "ovsdb_log_level"): "CRITICAL",
        }
    )
    agent.start()
    has(first, " DEBUG ")
    agent.wait_ready()
    library = "ovs_idl.vlog"  # it has a word at INFO for each connection
    assert library not in first.read_text()
    reload(
        {("DEFAULT", "log_file"): second.name, ("DEFAULT", "debug"): "false"}
    )
    has(second, "configuration reloaded")
    os.truncate(second, 0)
    reload({})
    has(second, "configuration reloaded")
    assert "\0" not in second.read_text()
    assert " DEBUG " not in second.read_text()
    reload({("ovn", "ovsdb_log_level"): "INFO"})
    has(second, "configuration reloaded", times=2)
    own_box.ovn.restart("sb")
    has(second, library)
    reload({("DEFAULT", "log_config_append"): str(config)})
    has(third, "MINE configuration reloaded")
    # A mistake in that file: the log stays, and the status has the mistake.
    config.write_text(
        LOGGING.format(file=third).replace("args = (", "args = ((")
    )
    reload({})
    has(third, "MINE configuration not reloaded, the old one stays")
    assert "OVNMD-406" in agent.status("--json").stdout


def logs_in_a_folder(agent: Agent) -> Path:
    """Have AGENT log to log_dir alone; return that folder."""
    agent._daemon.command = agent.command()[: -len(("--log-file", "FILE"))]
    folder = LOG_FOLDER / "own"
    folder.mkdir()
    shutil.chown(folder, SERVICE_USER)
    agent.configure({("DEFAULT", "log_dir"): str(folder)})
    return folder


def test_log_without_a_file_name_has_the_commands(own_box):
    """Also after a reload, which is done in a thread."""
    agent = own_box.agent
    folder = logs_in_a_folder(agent)
    agent.start()
    file = folder / "ovn-metadata-agent.log"
    wait_for(file.exists, timeout_s=60, what="the log")
    agent.reload()
    wait_for(
        lambda: "configuration reloaded" in file.read_text(),
        timeout_s=60,
        what="the reload in it",
    )
    assert [*folder.iterdir()] == [file]


def test_log_that_is_lost_ends_no_thread(own_box):
    """Its folder is removed; each line would then fail whoever writes it."""
    box, agent = own_box, own_box.agent
    folder = logs_in_a_folder(agent)
    agent.start()
    agent.wait_ready()
    folder.rename(LOG_FOLDER / "moved")

    def is_named() -> bool:
        return "OVNMD-409" in agent.status("--json").stdout

    networks = [box.neutron.create_network(f"n{i}") for i in range(8)]
    ports = [box.neutron.create_port(network) for network in networks]
    wait_served(*box.plug(ports))
    agent.reload()
    box.ovn.restart("sb")
    wait_for(is_named, timeout_s=60, what="OVNMD-409")
    late = box.neutron.create_network("late")
    (instance,) = box.plug([box.neutron.create_port(late)])
    wait_served(instance)
    folder.mkdir()
    shutil.chown(folder, SERVICE_USER)
    wait_for(lambda: not is_named(), timeout_s=60, what="the end of it")
    agent.reload()
    wait_for(
        lambda: (
            "configuration reloaded"
            in (folder / "ovn-metadata-agent.log").read_text()
        ),
        timeout_s=60,
        what="the reload in the log",
    )
    agent.stop()  # it still follows signals


# --------------------------------------------------------------- bad values


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("DEFAULT", "nova_metadata_port", "87x5"),
        ("DEFAULT", "nova_client_cert", "/etc/cert.pem"),
        ("DEFAULT", "debug", "maybe"),
        ("ovn_metadata_agent", "tokens", "off, project:a:sometimes"),
        ("ovn_metadata_agent", "hop_limit", "64, network:no-uuid:1"),
    ],
)
def test_bad_value_is_one_line_naming_it(bare, section, option, value):
    """Exit code 1, nothing touched; unit tests have all options."""
    bare.configure({(section, option): value})
    line = refused(run(bare))
    assert str(CONFIG) in line
    assert f"[{section}] {option}" in line
    assert value in line
    untouched(bare)


def test_file_that_is_no_configuration_is_named(bare):
    bare.configure()
    CONFIG.write_text("[DEFAULT]\nnonsense\n")
    assert f"{CONFIG}: line 2" in refused(run(bare))
    untouched(bare)


def test_file_that_is_missing_or_unreadable_is_named(bare):
    bare.configure()
    CONFIG.chmod(0o600)
    assert str(CONFIG) in refused(run(bare))
    CONFIG.unlink()
    assert str(CONFIG) in refused(run(bare))
    untouched(bare)


def test_secret_is_not_quoted_when_its_line_is_bad(bare):
    bare.configure()
    for text in (
        "[DEFAULT]\nmetadata_proxy_shared_secret: hush-5f0c $ {x\n nohup\n",
        "[DEFAULT]\nmetadata_proxy_shared_secret = hush-5f0c$nobody\n",
        "[DEFAULT]\nhush-5f0c\n",
    ):
        CONFIG.write_text(text)
        line = refused(run(bare))
        assert str(CONFIG) in line
        assert "hush-5f0c" not in line
    untouched(bare)


# ----------------------------------------------------- what the host lacks


def prepared(agent: Agent) -> None:
    """Install AGENT's privileges and write its files; do not start."""
    agent.configure()
    install_privileges(Path(sys.prefix))
    for path in HOME.iterdir():
        subprocess.run(("rm", "-r", str(path)), check=True)
    subprocess.run(("rm", "-rf", str(FLEET)), check=True)


def set_haproxy(path: str) -> None:
    text = PRIVILEGED.read_text()
    lines = [ln for ln in text.splitlines() if not ln.startswith("haproxy")]
    at = lines.index("[fleet]")
    lines.insert(at + 1, f"haproxy = {path}")
    PRIVILEGED.write_text("\n".join(lines) + "\n")


def test_no_sudo_right_is_one_line_with_the_remedy(bare):
    prepared(bare)
    (rule,) = Path("/etc/sudoers.d").iterdir()
    rule.unlink()
    done = run(bare)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert SERVICE_USER in line
    assert "sudoers" in line
    assert "Traceback" not in done.stderr
    assert bare.processes() == []
    assert not FLEET.exists()


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        pytest.param("/nonexistent/haproxy", "install", id="not there"),
        pytest.param("/run/haproxy.sh", "real binary", id="a script"),
        pytest.param("haproxy", "absolute", id="by PATH"),
    ],
)
def test_no_real_haproxy_is_one_line_with_the_remedy(bare, path, remedy):
    """A wrapper that detaches is told from haproxy; nothing is started."""
    prepared(bare)
    script = Path("/run/haproxy.sh")
    script.write_text("#!/bin/sh\nexec podman run haproxy\n")
    script.chmod(0o755)
    set_haproxy(path)
    line = refused(run(bare))
    assert path in line
    assert remedy in line
    assert bare.processes() == []
    assert not FLEET.exists()


def test_privileged_conf_of_another_owner_is_refused(bare):
    """It decides what root runs; the message says how to mend it."""
    prepared(bare)
    os.chown(PRIVILEGED, *ids(SERVICE_USER))
    done = run(bare)
    assert done.returncode == 1
    assert str(PRIVILEGED) in done.stderr.splitlines()[-1]
    assert "chown root" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not FLEET.exists()


def test_state_path_not_writable_is_one_line_with_the_remedy(bare):
    prepared(bare)
    os.chown(HOME, 0, 0)
    line = refused(run(bare))
    assert str(HOME) in line
    assert "state_path" in line
    assert "chown" in line
    untouched(bare)


def test_something_else_at_the_status_socket_is_left(bare):
    """Not removed as an earlier agent's socket is."""
    prepared(bare)
    precious = HOME / "precious"
    precious.write_text("keep")
    bare.configure({("ovn_metadata_agent", "status_socket"): str(precious)})
    done = run(bare)
    assert done.returncode == 1
    assert f"{precious} (status_socket)" in done.stderr.splitlines()[-1]
    assert precious.read_text() == "keep"


def test_log_folder_not_writable_is_one_line_with_the_remedy(bare):
    prepared(bare)
    log = ("--log-file", "/proc/nowhere/agent.log")
    line = refused(run(bare, *bare.config_arguments(), *log))
    assert "log_file" in line
    assert bare.processes() == []


def test_run_folder_that_another_user_can_move_is_refused(bare):
    """Its supervisord.conf decides what root runs."""
    prepared(bare)
    folder = HOME / "fleet"
    text = PRIVILEGED.read_text()
    PRIVILEGED.write_text(
        text.replace("[fleet]", f"[fleet]\nrun_dir = {folder}")
    )
    done = run(bare)
    assert done.returncode == 1
    assert f"{HOME} decides what root runs" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not folder.exists()


def test_leftovers_of_root_are_named(bare):
    """A folder of root's below state_path (LP2077684), and what to do."""
    prepared(bare)
    folder = HOME / "external"
    folder.mkdir()
    line = refused(run(bare))
    assert str(folder) in line
    assert "chown" in line
    assert bare.processes() == []
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
