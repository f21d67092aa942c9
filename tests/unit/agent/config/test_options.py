from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.option_table import IGNORED, OPTIONS
from ovn_metadata.agent.config.settings import (
    FairShare,
    Nova,
    NovaEndpoint,
    RateLimit,
    Settings,
    Southbound,
    Timeouts,
    Vswitch,
)
from ovn_metadata.agent.errors import AgentError, ConfigError

ROOT = Path(__file__).parents[4]
SAMPLE = ROOT / "etc/ovn-metadata-agent/agent.conf.sample"
PROGRAM = "ovn-metadata-agent"
SECRET = "s3cr3t"

Load = Callable[..., Settings]

DEFAULTS = Settings(
    state_path=Path("/var/lib/neutron"),
    proxy_socket=Path("/var/lib/neutron/metadata_proxy"),
    proxy_gid=None,
    socket_mode="deduce",
    gateway_threads=1,
    backlog=4096,
    nova=Nova(
        endpoints=(NovaEndpoint("127.0.0.1", 8775),),
        protocol="http",
        ca_cert=None,
        insecure=False,
        client_cert=None,
        client_key=None,
    ),
    shared_secret="",
    pids_path=Path("/var/lib/neutron/external/pids"),
    agent_down_time_s=75,
    vswitch=Vswitch(
        connection="unix:/usr/local/var/run/openvswitch/db.sock",
        timeout_s=180,
    ),
    southbound=Southbound(
        remotes=("tcp:127.0.0.1:6642",),
        private_key=None,
        certificate=None,
        ca_cert=None,
        timeout_s=180,
        retry_max_interval_s=8,
        probe_interval_ms=60000,
        log_level="INFO",
    ),
    root_helper=None,
    helper_command=None,
    timeouts=Timeouts(
        connect_s=30,
        client_s=32,
        server_s=32,
        http_request_s=30,
        http_keep_alive_s=30,
    ),
    rate_limit=RateLimit(
        enabled=False,
        ip_versions=(4,),
        base_window_s=10,
        base_requests=10,
        burst_window_s=10,
        burst_requests=10,
    ),
    fair_share=FairShare(
        connections=256,
        uploads=2,
        greedy_rate=50,
        greedy_requests=16,
        logged_rate=50,
    ),
    status_socket=Path("/var/lib/neutron/ovn-metadata-agent.sock"),
    reconcile_workers=4,
    resync_interval_s=60,
    resolve_interval_s=30,
    privileged_config=Path("/etc/ovn-metadata-agent/privileged.conf"),
    service_user="",
    chassis_name="",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of its own, where nothing is configured."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(options, "OWN_FILE", str(tmp_path / "none.conf"))
    return folder


@pytest.fixture
def file(tmp_path: Path, home: Path) -> Path:
    return tmp_path / "x.ini"


@pytest.fixture
def load(file: Path, tmp_path: Path) -> Load:
    """Return a function that loads a configuration of the given text."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def load_text(text: str, *argv: str) -> Settings:
        file.write_text(text)
        named = ["--config-dir", str(empty), "--config-file", str(file)]
        _, settings = options.load([*named, *argv], PROGRAM)
        return settings

    return load_text


def without_warnings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, warnings=())


def test_defaults_are_neutrons(load: Load):
    assert without_warnings(load("")) == DEFAULTS


NEUTRON_FILE = """
[DEFAULT]
core_plugin = ml2
transport_url = rabbit://user:password@host//
state_path = /var/lib/neutron/kolla
nova_metadata_ip = 192.0.2.1
nova_metadata_protocol = http
metadata_proxy_shared_secret = s3cr3t
metadata_workers = 2
metadata_proxy_user = 4711
[agent]
root_helper = sudo neutron-rootwrap /etc/neutron/rootwrap.conf
root_helper_daemon = sudo neutron-rootwrap-daemon /etc/neutron/rootwrap.conf
report_interval = 300
[ovs]
ovsdb_connection = tcp:127.0.0.1:6640
ovsdb_timeout = 10
[ovn]
ovn_nb_connection = tcp:192.0.2.2:6641
ovn_sb_connection = tcp:192.0.2.2:6642,tcp:192.0.2.3:6642
ovn_metadata_enabled = true
[privsep]
helper_command = sudo neutron-rootwrap /etc/neutron/rootwrap.conf privsep
[oslo_concurrency]
lock_path = /var/lib/neutron/tmp
[cache]
enabled = maybe
"""


def test_file_of_neutrons_agent_is_understood(load: Load):
    settings = load(NEUTRON_FILE)
    (warning,) = settings.warnings
    assert "metadata_proxy_user has no effect" in warning
    assert without_warnings(settings) == dataclasses.replace(
        DEFAULTS,
        state_path=Path("/var/lib/neutron/kolla"),
        proxy_socket=Path("/var/lib/neutron/kolla/metadata_proxy"),
        pids_path=Path("/var/lib/neutron/kolla/external/pids"),
        status_socket=Path("/var/lib/neutron/kolla/ovn-metadata-agent.sock"),
        nova=dataclasses.replace(
            DEFAULTS.nova, endpoints=(NovaEndpoint("192.0.2.1", 8775),)
        ),
        shared_secret=SECRET,
        gateway_threads=2,
        root_helper="sudo neutron-rootwrap /etc/neutron/rootwrap.conf",
        helper_command=(
            "sudo neutron-rootwrap /etc/neutron/rootwrap.conf privsep"
        ),
        vswitch=Vswitch("tcp:127.0.0.1:6640", 180),
        southbound=dataclasses.replace(
            DEFAULTS.southbound,
            remotes=("tcp:192.0.2.2:6642", "tcp:192.0.2.3:6642"),
        ),
    )


VALUES = [
    ("DEFAULT", "metadata_workers", "0", "gateway_threads", 1),
    ("DEFAULT", "metadata_workers", "", "gateway_threads", 1),
    ("DEFAULT", "metadata_workers", "64", "gateway_threads", 64),
    ("DEFAULT", "metadata_workers", "96", "gateway_threads", 64),
    ("DEFAULT", "metadata_backlog", "128", "backlog", 128),
    ("DEFAULT", "metadata_proxy_socket_mode", "all", "socket_mode", "all"),
    ("DEFAULT", "metadata_proxy_group", "root", "proxy_gid", 0),
    ("DEFAULT", "agent_down_time", "150", "agent_down_time_s", 150),
    ("DEFAULT", "external_pids", "/run/pids", "pids_path", Path("/run/pids")),
    (
        "DEFAULT",
        "metadata_proxy_socket",
        "/run/md.sock",
        "proxy_socket",
        Path("/run/md.sock"),
    ),
    (
        "DEFAULT",
        "metadata_proxy_shared_secret",
        "a$$b",
        "shared_secret",
        "a$b",
    ),
    ("DEFAULT", "metadata_proxy_shared_secret", '" a"', "shared_secret", " a"),
    ("AGENT", "root_helper", "sudo", "root_helper", None),
    ("AGENT", "root_helper", "", "root_helper", None),
    ("AGENT", "root_helper", "doas", "root_helper", "doas"),
    ("agent", "root_helper", "doas", "root_helper", "doas"),
    ("privsep", "helper_command", "", "helper_command", None),
    ("ovn_metadata_agent", "reconcile_workers", "8", "reconcile_workers", 8),
    ("ovn_metadata_agent", "resync_interval", "5", "resync_interval_s", 5),
    ("ovn_metadata_agent", "resolve_interval", "9", "resolve_interval_s", 9),
    ("ovn_metadata_agent", "service_user", "root", "service_user", "root"),
    ("ovn_metadata_agent", "chassis_name", "c-2", "chassis_name", "c-2"),
    (
        "ovn_metadata_agent",
        "status_socket",
        "/run/s.sock",
        "status_socket",
        Path("/run/s.sock"),
    ),
    (
        "ovn_metadata_agent",
        "privileged_config",
        "/etc/p.conf",
        "privileged_config",
        Path("/etc/p.conf"),
    ),
]


@pytest.mark.parametrize(("section", "name", "text", "field", "value"), VALUES)
def test_value_arrives(load: Load, section, name, text, field, value):
    settings = load(f"[{section}]\n{name} = {text}\n")
    assert getattr(settings, field) == value


def test_hosts_without_a_port_get_the_common_one(load: Load):
    settings = load(
        "[DEFAULT]\n"
        "nova_metadata_host = a, b:80, ::1, [::2]:81, [::3], a:9000\n"
        "nova_metadata_port = 9000\n"
    )
    assert settings.nova.endpoints == (
        NovaEndpoint("a", 9000),
        NovaEndpoint("b", 80),
        NovaEndpoint("::1", 9000),
        NovaEndpoint("::2", 81),
        NovaEndpoint("::3", 9000),
    )


def test_numbers_of_the_other_sections_arrive(load: Load):
    settings = load(
        "[ovs]\novsdb_connection_timeout = 1\n"
        "[ovn]\novsdb_connection_timeout = 2\n"
        "ovsdb_retry_max_interval = 3\novsdb_probe_interval = 0\n"
        "ovsdb_log_level = DEBUG\n"
        "[metadata_haproxy]\ntimeout_connect = 4\ntimeout_client = 5\n"
        "timeout_server = 6\ntimeout_http_request = 7\n"
        "timeout_http_keep_alive = 8\n"
        "[metadata_rate_limiting]\nrate_limit_enabled = true\n"
        "ip_versions = 4,6\nbase_window_duration = 9\n"
        "base_query_rate_limit = 10\nburst_window_duration = 11\n"
        "burst_query_rate_limit = 12\n"
    )
    assert settings.vswitch.timeout_s == 1
    southbound = settings.southbound
    assert southbound.timeout_s == 2
    assert southbound.retry_max_interval_s == 3
    assert southbound.probe_interval_ms == 0
    assert southbound.log_level == "DEBUG"
    assert settings.timeouts == Timeouts(4, 5, 6, 7, 8)
    assert settings.rate_limit == RateLimit(
        enabled=True,
        ip_versions=(4, 6),
        base_window_s=9,
        base_requests=10,
        burst_window_s=11,
        burst_requests=12,
    )


BAD_VALUES = [
    ("DEFAULT", "state_path", "lib"),
    ("DEFAULT", "state_path", "/"),
    ("DEFAULT", "state_path", "/var/lib/a b"),
    ("DEFAULT", "state_path", "$state_path/x"),
    ("DEFAULT", "state_path", "$nowhere/x"),
    ("DEFAULT", "state_path", "$ovn/x"),
    ("DEFAULT", "metadata_proxy_socket", "/" + "a" * 107),
    ("DEFAULT", "metadata_proxy_socket", '/a"b'),
    ("DEFAULT", "metadata_proxy_group", "no-such-group"),
    ("DEFAULT", "metadata_proxy_socket_mode", "0666"),
    ("DEFAULT", "metadata_workers", "-1"),
    ("DEFAULT", "metadata_workers", "two"),
    ("DEFAULT", "metadata_backlog", "0"),
    ("DEFAULT", "metadata_backlog", ""),
    ("DEFAULT", "auth_ca_cert", "ca.pem"),
    ("DEFAULT", "nova_metadata_host", ""),
    ("DEFAULT", "nova_metadata_host", "http://nova"),
    ("DEFAULT", "nova_metadata_host", "nova\n  server evil 10.0.0.1"),
    ("DEFAULT", "nova_metadata_ip", "a b"),
    ("DEFAULT", "nova_metadata_port", "http"),
    ("DEFAULT", "nova_metadata_port", "0"),
    ("DEFAULT", "nova_metadata_port", "65536"),
    ("DEFAULT", "nova_metadata_protocol", "ftp"),
    ("DEFAULT", "nova_metadata_insecure", "maybe"),
    ("DEFAULT", "nova_client_cert", "/a#b"),
    ("DEFAULT", "nova_client_priv_key", "/a$$b"),
    ("DEFAULT", "external_pids", "pids"),
    ("DEFAULT", "agent_down_time", "0"),
    ("DEFAULT", "debug", "maybe"),
    ("DEFAULT", "use_syslog", "maybe"),
    ("DEFAULT", "use_stderr", "maybe"),
    ("DEFAULT", "log_rotate_interval", "x"),
    ("ovs", "ovsdb_connection", "127.0.0.1:6640"),
    ("ovs", "ovsdb_connection", "tcp:"),
    ("ovs", "ovsdb_connection", "tcp:a:1,tcp:b:1"),
    ("ovs", "ovsdb_connection_timeout", "x"),
    ("ovn", "ovn_sb_connection", ""),
    ("ovn", "ovn_sb_connection", "tcp:a:1,b:2"),
    ("ovn", "ovn_sb_private_key", "key.pem"),
    ("ovn", "ovn_sb_certificate", "cert.pem"),
    ("ovn", "ovn_sb_ca_cert", "ca.pem"),
    ("ovn", "ovsdb_connection_timeout", "0"),
    ("ovn", "ovsdb_retry_max_interval", "0"),
    ("ovn", "ovsdb_probe_interval", "-1"),
    ("ovn", "ovsdb_log_level", "LOUD"),
    ("AGENT", "root_helper", "sudo 'x"),
    ("privsep", "helper_command", 'sudo "x'),
    ("metadata_rate_limiting", "rate_limit_enabled", "maybe"),
    ("metadata_rate_limiting", "ip_versions", "5"),
    ("metadata_rate_limiting", "ip_versions", ""),
    ("metadata_rate_limiting", "base_window_duration", "0"),
    ("metadata_rate_limiting", "base_query_rate_limit", "0"),
    ("metadata_rate_limiting", "burst_window_duration", "0"),
    ("metadata_rate_limiting", "burst_query_rate_limit", "0"),
    ("metadata_haproxy", "timeout_connect", "0"),
    ("metadata_haproxy", "timeout_connect", "2147484"),
    ("metadata_haproxy", "timeout_client", "1.5"),
    ("metadata_haproxy", "timeout_server", "x"),
    ("metadata_haproxy", "timeout_http_request", ""),
    ("metadata_haproxy", "timeout_http_keep_alive", "-1"),
    ("ovn_metadata_agent", "status_socket", "a"),
    ("ovn_metadata_agent", "reconcile_workers", "0"),
    ("ovn_metadata_agent", "reconcile_workers", "257"),
    ("ovn_metadata_agent", "resync_interval", "4"),
    ("ovn_metadata_agent", "instance_connections", "-1"),
    ("ovn_metadata_agent", "instance_uploads", "two"),
    ("ovn_metadata_agent", "greedy_rate", "1000001"),
    ("ovn_metadata_agent", "greedy_requests", "0"),
    ("ovn_metadata_agent", "logged_rate", "20/s"),
    ("ovn_metadata_agent", "resolve_interval", "0"),
    ("ovn_metadata_agent", "privileged_config", "p.conf"),
    ("ovn_metadata_agent", "service_user", "no-such-user"),
    ("ovn_metadata_agent", "chassis_name", "a\n b"),
]


@pytest.mark.parametrize(("section", "name", "text"), BAD_VALUES)
def test_bad_value_names_file_section_and_option(
    load: Load, file: Path, section, name, text
):
    content = (
        f"[{section}]\n{name} = {text}\n"
        f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(content)
    message = str(caught.value)
    assert message.startswith(f'{file}: [{section}] {name} = "')
    assert message.isprintable()
    assert len(message.rpartition('": ')[2]) > 5
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_every_option_has_a_bad_value_above():
    checked = {(section, name) for section, name, _ in BAD_VALUES}
    free = {("DEFAULT", "metadata_proxy_shared_secret")}
    assert (
        checked
        >= {
            (group, option.dest)
            for group, group_options in OPTIONS.items()
            for option in group_options
        }
        - free
    )


@pytest.mark.parametrize(
    ("section", "name"),
    [(section, name) for section in IGNORED for name in IGNORED[section]],
)
@pytest.mark.parametrize("text", ["", "maybe", "-1", "$nowhere", "a\n b"])
def test_value_without_effect_never_stops_a_start(
    load: Load, section, name, text
):
    assert (
        without_warnings(load(f"[{section}]\n{name} = {text}\n")) == DEFAULTS
    )


def test_service_user_is_named_or_numbered(load: Load):
    section = "[ovn_metadata_agent]\nservice_user ="
    assert load(f"{section} root\n").service_user == "root"
    assert load(f"{section} 0\n").service_user == "root"
    with pytest.raises(ConfigError, match='service_user = "4711": no such us'):
        load(f"{section} 4711\n")


def test_message_as_an_operator_reads_it(load: Load, file: Path):
    with pytest.raises(ConfigError) as caught:
        load("[DEFAULT]\nnova_metadata_port = http\n")
    assert isinstance(caught.value, AgentError)
    assert str(caught.value) == (
        f'{file}: [DEFAULT] nova_metadata_port = "http": '
        f"not an integer (1 to 65535)"
    )


def test_file_with_the_value_is_named_not_the_last(
    load: Load, file: Path, tmp_path: Path
):
    later = tmp_path / "later.ini"
    later.write_text("[DEFAULT]\ndebug = true\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}: [DEFAULT]")):
        load("[DEFAULT]\nagent_down_time = x\n", f"--config-file={later}")


def test_later_file_wins(load: Load, tmp_path: Path):
    later = tmp_path / "later.ini"
    later.write_text("[DEFAULT]\nagent_down_time = 5\n")
    settings = load(
        "[DEFAULT]\nagent_down_time = x\n", f"--config-file={later}"
    )
    assert settings.agent_down_time_s == 5


def test_variable_of_the_environment_is_named(load: Load, monkeypatch):
    monkeypatch.setenv("OS_OVN__OVSDB_PROBE_INTERVAL", "soon")
    with pytest.raises(ConfigError) as caught:
        load("[ovn]\novsdb_probe_interval = 1\n")
    assert str(caught.value) == (
        'environment OS_OVN__OVSDB_PROBE_INTERVAL = "soon": '
        "not an integer (0 to 2147483647)"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{SECRET}\n  more", id="two lines"),
        pytest.param(f"{SECRET}\x07", id="control character"),
        pytest.param(f"{SECRET}${SECRET}", id="a dollar not doubled"),
        pytest.param(f"${{metadata_proxy_shared_secret}}{SECRET}", id="loop"),
    ],
)
def test_bad_secret_is_not_told(load: Load, file: Path, text, caplog, capfd):
    with pytest.raises(ConfigError) as caught:
        load(f"[DEFAULT]\nmetadata_proxy_shared_secret = {text}\n")
    message = str(caught.value)
    assert message.startswith(f"{file}: [DEFAULT] metadata_proxy_shared_secre")
    shown = "".join(traceback.format_exception(caught.value))
    shown += caplog.text + "".join(capfd.readouterr())
    assert SECRET not in shown


def test_secret_is_neither_in_repr_nor_in_a_warning(load: Load):
    settings = load(f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n")
    assert settings.shared_secret == SECRET
    assert SECRET not in repr(settings)
    assert settings.warnings == ()


def test_line_that_cannot_be_parsed_is_not_quoted(load: Load, file: Path):
    with pytest.raises(ConfigError) as caught:
        load(f"[DEFAULT]\nmetadata_proxy_shared_secret {SECRET}\n")
    assert str(caught.value).startswith(f"{file}: line 2: ")
    assert SECRET not in str(caught.value)


def test_file_named_by_an_abbreviation_is_not_quoted(home: Path, tmp_path):
    # argparse understands it, so oslo.config finds the mistake, not we.
    bad = tmp_path / "bad.ini"
    bad.write_text(f"[DEFAULT]\nmetadata_proxy_shared_secret {SECRET}\n")
    with pytest.raises(ConfigError, match="can't be read") as caught:
        options.load(["--config-fi", str(bad)], PROGRAM)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown


@pytest.mark.parametrize("option", ["--config-file", "--config-dir"])
def test_what_is_named_must_be_there(load: Load, option: str):
    with pytest.raises(ConfigError, match=r"^/nowhere/x: cannot be "):
        load("", option, "/nowhere/x")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        pytest.param(["--bogus"], 2, id="unknown option"),
        pytest.param(["--config-file"], 2, id="option without its value"),
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["--help"], 0, id="help"),
    ],
)
def test_command_line_ends_the_program(home: Path, capsys, argv, code):
    with pytest.raises(SystemExit) as end:
        options.load(argv, PROGRAM)
    assert end.value.code == code
    assert capsys.readouterr() != ("", "")


def test_options_of_the_log_are_on_the_command_line(home: Path, tmp_path):
    argv = ["--config-file", "/dev/null", "--debug", "--log-file", "/x.log"]
    conf, _ = options.load(argv, PROGRAM)
    assert conf.debug is True
    assert conf.log_file == "/x.log"


def write(path: Path, option: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[DEFAULT]\n{option}\n")


@pytest.mark.parametrize(
    "program", ["ovn-metadata-agent", "neutron-ovn-metadata-agent"]
)
def test_neutrons_files_are_found_without_arguments(home: Path, program: str):
    # oslo.config looks below ~ as it does below /etc, and there first.
    folder = home / ".neutron"
    write(folder / "neutron.conf", "metadata_backlog = 1")
    write(folder / "neutron-ovn-metadata-agent.conf", "agent_down_time = 2")
    write(folder / "neutron.conf.d" / "02.conf", "metadata_workers = 3")
    write(folder / "neutron.conf.d" / "01.conf", "metadata_workers = 4")
    write(
        folder / "neutron-ovn-metadata-agent.conf.d" / "a.conf",
        "nova_metadata_port = 5",
    )
    _, settings = options.load([], program)
    assert settings.backlog == 1
    assert settings.agent_down_time_s == 2
    assert settings.gateway_threads == 3
    assert settings.nova.endpoints[0].port == 5


def test_own_file_is_read_last_and_without_arguments_only(
    home: Path, tmp_path: Path, monkeypatch
):
    own = tmp_path / "agent.conf"
    write(own, "metadata_backlog = 7")
    monkeypatch.setattr(options, "OWN_FILE", str(own))
    write(home / ".neutron" / "neutron.conf", "metadata_backlog = 1")
    _, settings = options.load([], PROGRAM)
    assert settings.backlog == 7
    _, settings = options.load(["--config-file", "/dev/null"], PROGRAM)
    assert settings.backlog == 4096


def test_bad_value_in_a_file_found_by_default(home: Path):
    file = home / ".neutron" / "neutron.conf.d" / "a.conf"
    write(file, "metadata_backlog = x")
    with pytest.raises(ConfigError, match=re.escape(f"{file}: [DEFAULT] ")):
        options.load([], PROGRAM)


def sample_options() -> dict[str, dict[str, str]]:
    """Return what the sample has commented out: section, option, value."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in SAMPLE.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            found[section] = {}
        elif match := re.fullmatch(r"#(\w+) =(?: (.*))?", line):
            assert match[1] not in found[section]
            found[section][match[1]] = match[2] or ""
        else:
            assert line == "" or line.startswith("# ") or line == "#"
    return found


def test_sample_has_every_option_and_no_other():
    found = sample_options()
    log = {
        name
        for name in found["DEFAULT"]
        if name.startswith(("log_", "use_")) or name == "debug"
    }
    assert log == {
        "debug",
        "log_file",
        "log_dir",
        "use_syslog",
        "use_journal",
        "use_stderr",
        "log_config_append",
    }
    assert {(group, name) for group in found for name in found[group]} - {
        ("DEFAULT", name) for name in log
    } == {
        (group, option.dest)
        for group, group_options in OPTIONS.items()
        for option in group_options
    } | {(group, name) for group in IGNORED for name in IGNORED[group]}


def test_sample_says_the_defaults(load: Load):
    text = re.sub(r"(?m)^#(?=\w+ =)", "", SAMPLE.read_text())
    assert without_warnings(load(text)) == DEFAULTS
    assert without_warnings(load(SAMPLE.read_text())) == DEFAULTS


def test_sample_fits_a_terminal():
    assert max(map(len, SAMPLE.read_text().splitlines())) <= 79
