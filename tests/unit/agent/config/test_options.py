from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import json
import re
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ovn_metadata.agent.config import options
from ovn_metadata.agent.config.per_project import PerProject
from ovn_metadata.agent.config.settings import (
    BOOT_REQUESTS,
    IGNORED,
    FairShare,
    Nova,
    NovaServer,
    RateLimit,
    Settings,
    Shield,
    Southbound,
    SpareNetworks,
    Timeouts,
    Vswitch,
    all_options,
)
from ovn_metadata.agent.errors import ConfigError

from .test_values import bad_texts

SECRET = "s3cr3t"
NETWORK = "7e1b4b0a-0000-4000-8000-00000000000a"

Load = Callable[..., Settings]

DEFAULTS = Settings(
    state_path=Path("/var/lib/neutron"),
    proxy_socket=Path("/var/lib/neutron/metadata_proxy"),
    proxy_gid=None,
    socket_mode="deduce",
    workers=None,
    backlog=4096,
    nova=Nova(
        hosts=(("127.0.0.1", None),),
        port=8775,
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
        probe_interval_ms=8000,
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
    shield=Shield(
        forwarded=PerProject("off", {}, {}),
        hop_limit=PerProject(64, {}, {}),
        tokens=PerProject("off", {}, {}),
        boot_window_s=0,
    ),
    spare_networks=SpareNetworks(limit=64, keep_s=120),
    status_socket=Path("/var/lib/neutron/ovn-metadata-agent.sock"),
    metrics_socket=Path("/var/lib/neutron/ovn-metadata-agent-metrics.sock"),
    metrics_address=None,
    gateway_metrics=False,
    reconcile_workers=16,
    resync_interval_s=60,
    selfcheck_interval_s=30,
    resolve_interval_s=30,
    privileged_config=Path("/etc/ovn-metadata-agent/privileged.conf"),
    service_user=None,
    chassis_name="",
)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    file = tmp_path / "x.pem"
    file.write_text("")
    return file


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
        metrics_socket=Path(
            "/var/lib/neutron/kolla/ovn-metadata-agent-metrics.sock"
        ),
        nova=dataclasses.replace(DEFAULTS.nova, hosts=(("192.0.2.1", None),)),
        shared_secret=SECRET,
        workers=2,
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


EVERY_OPTION = """
[DEFAULT]
state_path = /srv/neutron
metadata_proxy_socket = /run/md.sock
metadata_proxy_group = root
metadata_proxy_socket_mode = all
metadata_workers = 96
metadata_backlog = 128
auth_ca_cert = {pem}
nova_metadata_host = a, b:80, ::1, [::2]:81, [::3], a:9000
nova_metadata_port = 9000
nova_metadata_protocol = https
nova_metadata_insecure = true
nova_client_cert = {pem}
nova_client_priv_key = {pem}
metadata_proxy_shared_secret = a$$b
external_pids = /run/pids
agent_down_time = 150
[ovs]
ovsdb_connection = ssl:a:1
ovsdb_connection_timeout = 1
[ovn]
ovn_sb_connection = ssl:b:2
ovn_sb_private_key = {pem}
ovn_sb_certificate = {pem}
ovn_sb_ca_cert = {pem}
ovsdb_connection_timeout = 2
ovsdb_retry_max_interval = 3
ovsdb_probe_interval = 0
ovsdb_log_level = DEBUG
[AGENT]
root_helper = doas
[privsep]
helper_command = doas privsep-helper
[metadata_haproxy]
timeout_connect = 4
timeout_client = 5
timeout_server = 6
timeout_http_request = 7
timeout_http_keep_alive = 8
[metadata_rate_limiting]
rate_limit_enabled = true
ip_versions = 4,6
base_window_duration = 9
base_query_rate_limit = 10
burst_window_duration = 11
burst_query_rate_limit = 12
[ovn_metadata_agent]
status_socket = /run/s.sock
metrics_socket = /run/m.sock
metrics_address = [::1]:9755
gateway_metrics = true
reconcile_workers = 13
instance_connections = 14
instance_uploads = 15
greedy_rate = 16
greedy_requests = 17
logged_rate = 18
resolve_interval = 19
resync_interval = 20
selfcheck_interval = 23
refuse_forwarded = enforce, project:p-1:off
hop_limit = 1,project:p-2: 64
tokens = project:p_3:optional, off, network:{network}:required
boot_window = 24
spare_networks = 21
network_keep_time = 22
privileged_config = /etc/p.conf
service_user = root
chassis_name = c-2
"""


def test_every_option_arrives_in_its_field(load: Load, pem: Path):
    settings = load(EVERY_OPTION.format(pem=pem, network=NETWORK))
    assert without_warnings(settings) == Settings(
        state_path=Path("/srv/neutron"),
        proxy_socket=Path("/run/md.sock"),
        proxy_gid=0,
        socket_mode="all",
        workers=96,
        backlog=128,
        nova=Nova(
            hosts=settings.nova.hosts,
            port=9000,
            protocol="https",
            ca_cert=pem,
            insecure=True,
            client_cert=pem,
            client_key=pem,
        ),
        shared_secret="a$b",
        pids_path=Path("/run/pids"),
        agent_down_time_s=150,
        vswitch=Vswitch("ssl:a:1", 1),
        southbound=Southbound(
            *(("ssl:b:2",), pem, pem, pem), 2, 3, 0, "DEBUG"
        ),
        root_helper="doas",
        helper_command="doas privsep-helper",
        timeouts=Timeouts(4, 5, 6, 7, 8),
        rate_limit=RateLimit(True, (4, 6), 9, 10, 11, 12),
        fair_share=FairShare(14, 15, 16, 17, 18),
        shield=Shield(
            PerProject("enforce", {}, {"p1": "off"}),
            PerProject(1, {}, {"p2": 64}),
            PerProject("off", {NETWORK: "required"}, {"p_3": "optional"}),
            24,
        ),
        spare_networks=SpareNetworks(21, 22),
        status_socket=Path("/run/s.sock"),
        metrics_socket=Path("/run/m.sock"),
        metrics_address=("::1", 9755),
        gateway_metrics=True,
        reconcile_workers=13,
        resync_interval_s=20,
        selfcheck_interval_s=23,
        resolve_interval_s=19,
        privileged_config=Path("/etc/p.conf"),
        service_user="root",
        chassis_name="c-2",
    )
    assert settings.gateway_threads == 64
    assert settings.nova.endpoints == (
        NovaServer("a", 9000, "a"),
        NovaServer("b", 80, "b"),
        NovaServer("::1", 9000),
        NovaServer("::2", 81),
        NovaServer("::3", 9000),
    )


@pytest.mark.parametrize(
    ("hosts", "protocol", "authority"),
    [
        ("127.0.0.1", "http", "127.0.0.1:8775"),
        ("nova:80", "http", "nova"),
        ("nova:80", "https", "nova:80"),
        ("nova:443", "https", "nova"),
        ("2001:DB8::1", "http", "[2001:db8::1]:8775"),
        ("[2001:db8::1]:443", "https", "[2001:db8::1]"),
        ("Nova.Example.", "http", "nova.example:8775"),
        ("b:1,a:2,c", "http", "b:1"),
    ],
)
def test_nova_gets_the_host_that_http_clients_send(
    load: Load, hosts, protocol, authority
):
    """As `requests` in Neutron's agent; the first server's for all."""
    settings = load(
        f"[DEFAULT]\nnova_metadata_host = {hosts}\n"
        f"nova_metadata_protocol = {protocol}\n"
    )
    assert settings.nova.authority == authority


def test_every_option_is_in_the_file_above():
    assert all(
        f"\n{option.name} = " in EVERY_OPTION for _, _, option in all_options()
    )


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("[DEFAULT]\nmetadata_workers = 0", "gateway_threads", 1),
        ("[DEFAULT]\nmetadata_workers =", "gateway_threads", 1),
        ("[DEFAULT]\nmetadata_workers = 64", "gateway_threads", 64),
        (
            '[DEFAULT]\nmetadata_proxy_shared_secret = " a"',
            "shared_secret",
            " a",
        ),
        ("[AGENT]\nroot_helper =", "root_helper", None),
        ("[agent]\nroot_helper = doas", "root_helper", "doas"),
        ("[privsep]\nhelper_command =", "helper_command", None),
    ],
)
def test_value_that_is_not_taken_as_it_is(load: Load, line, field, value):
    assert getattr(load(line + "\n"), field) == value


# ------------------------------------------------- what must fit together


@pytest.mark.parametrize("name", ["auth_ca_cert", "nova_client_cert"])
def test_certificate_that_is_used_must_be_there(load, file, pem, name):
    with pytest.raises(ConfigError) as caught:
        load(
            f"[DEFAULT]\nnova_metadata_protocol = https\n"
            f"nova_client_cert = {pem}\nnova_client_priv_key = {pem}\n"
            f"{name} = /no.pem\n"
        )
    assert str(caught.value) == (
        f'{file}: [DEFAULT] {name} = "/no.pem": '
        f"cannot be read: No such file or directory"
    )


HTTPS = "[DEFAULT]\nnova_metadata_protocol = https\n"


def test_authorities_in_a_folder_are_found_by_their_hash(load, file, tmp_path):
    line = f"{HTTPS}auth_ca_cert = {tmp_path}\n"
    with pytest.raises(ConfigError) as caught:
        load(line)
    assert str(caught.value) == (
        f'{file}: [DEFAULT] auth_ca_cert = "{tmp_path}": '
        f"has no file that is named by its hash (openssl rehash)"
    )
    (tmp_path / "README").write_text("not one of them")
    hashed = [tmp_path / "0a1b2c3d.0", tmp_path / "0a1b2c3d.1"]
    for one in hashed:
        one.write_text("PEM")
    assert load(line).files_in_use() == tuple(hashed)
    hashed[1].unlink()
    hashed[1].symlink_to("/no.pem")
    with pytest.raises(ConfigError, match=r"0a1b2c3d.1 cannot be read"):
        load(line)


def test_the_environment_names_authorities(load, pem, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    assert load(HTTPS).files_in_use() == (pem,)
    other = pem.with_name("other.pem")
    other.write_text("PEM")
    own = load(f"{HTTPS}auth_ca_cert = {other}\n")
    assert own.files_in_use() == (other,)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no.pem")
    with pytest.raises(ConfigError, match=r"BUNDLE /no.pem cannot"):
        load(HTTPS)
    assert load("").files_in_use() == ()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[DEFAULT]\nauth_ca_cert = /no.pem\n", id="http"),
        pytest.param(
            "[DEFAULT]\nauth_ca_cert = /no.pem\n"
            "nova_metadata_protocol = https\nnova_metadata_insecure = 1\n",
            id="https without a look",
        ),
        pytest.param("[ovn]\novn_sb_ca_cert = /no.pem\n", id="tcp"),
    ],
)
def test_certificate_that_is_not_used_need_not_be_there(load, text):
    assert load(text).files_in_use() == ()


@pytest.mark.parametrize("tokens", ["optional", "off, project:p:required"])
def test_tokens_need_the_secret(load, tokens):
    """Without it any client could make one."""
    text = f"[ovn_metadata_agent]\ntokens = {tokens}\n"
    reason = r"tokens .* needs \[DEFAULT\] metadata_proxy_shared_secret"
    with pytest.raises(ConfigError, match=reason):
        load(text)
    load(f"{text}[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n")


@pytest.mark.parametrize(
    "connection",
    [
        "[ovn]\novn_sb_connection = tcp:a:1,ssl:b:1\n",
        "[ovs]\novsdb_connection = ssl:a:1\n",
    ],
)
def test_ssl_needs_all_three(load, pem, connection):
    """The OVSDB library raises TypeError without one of them."""
    two = f"ovn_sb_private_key = {pem}\novn_sb_certificate = {pem}\n"
    text = f"{connection}[ovn]\n{two}ovn_sb_ca_cert = "
    assert set(load(f"{text}{pem}\n").files_in_use()) == {pem}
    with pytest.raises(ConfigError, match=r"needs .* ovn_sb_ca_cert for ssl"):
        load(f"{text}\n")
    with pytest.raises(ConfigError, match=r"\[ovn\] ovn_sb_ca_cert = .*read"):
        load(f"{text}/no.pem\n")


# --------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "option", [option for _, _, option in all_options()], ids=str
)
def test_bad_value_names_file_section_option_and_what_is_allowed(
    load: Load, file: Path, option
):
    text = bad_texts(option.value)[0].replace("\n", "\n  ")
    with pytest.raises(ConfigError) as caught:
        load(
            f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n"
            f"[{option.section}]\n{option.name} = {text}\n"
        )
    shown = json.dumps(text.replace("\n  ", "\n"))
    value = "" if option.secret else f" = {shown}"
    assert str(caught.value) == (
        f"{file}: {option}{value}: must be {option.value.allowed}"
    )
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("state_path = $state_path/x", "leads back to itself"),
        ("state_path = $nowhere/x", "names no option"),
        ("state_path = $ovn/x", "names no option"),
        ("nova_client_priv_key = /a$$b", "must be an absolute path"),
        ("nova_metadata_ip = a b", "must be a host name or address"),
        ("debug = maybe", "boolean"),
        ("debug = $state_path", "boolean"),
        ("debug = $nowhere", "names no option"),
        ("use_syslog = maybe", "boolean"),
        ("use_stderr = maybe", "boolean"),
        ("log_rotate_interval = x", "int"),
        ("default_log_levels = amqp=WARN,a=info", "MODULE=LEVEL"),
        ("default_log_levels = DEBUG", "MODULE=LEVEL"),
    ],
)
def test_bad_reference_old_name_or_log_option(
    load: Load, file: Path, line, reason
):
    with pytest.raises(ConfigError) as caught:
        load(f"[DEFAULT]\n{line}\n")
    name, _, text = line.partition(" = ")
    place = f'{file}: [DEFAULT] {name} = "{text}": '
    assert str(caught.value).startswith(place)
    assert reason in str(caught.value)


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


@pytest.mark.parametrize("text", ["a=INFO, b=5", "a=TRACE", ""])
def test_levels_of_the_log_are_as_oslo_takes_them(load: Load, text):
    load(f"[DEFAULT]\ndefault_log_levels = {text}\n")


def test_what_neutron_knows_of_its_host_can_be_named(load: Load, monkeypatch):
    """As its agent finds it, or as a file has it."""
    monkeypatch.setattr(options, "own_address", str)
    line = "[DEFAULT]\nnova_metadata_host = $host,$my_ip,${my_ipv6}\n"

    def hosts(text: str) -> list[str]:
        return [host for host, _ in load(text).nova.hosts]

    found = [socket.gethostname(), "192.0.2.0", "2001:db8::1"]
    assert hosts(line) == found
    more = "host = a\nmy_ip = 192.0.2.7\nmy_ipv6 = 2001:db8::7\n"
    assert hosts(line + more) == ["a", "192.0.2.7", "2001:db8::7"]


def test_a_default_file_is_named_though_an_argument_is_short(
    tmp_path, home, monkeypatch
):
    """oslo.config reads the default files then, too."""
    own, other = tmp_path / "own.conf", tmp_path / "other.conf"
    own.write_text("[DEFAULT]\nnova_metadata_port = bad\n")
    other.touch()
    monkeypatch.setattr(options, "OWN_FILE", str(own))
    with pytest.raises(ConfigError, match=f"^{own}: "):
        options.load(["--config-fi", str(other)])


def test_state_path_can_be_an_argument_as_in_neutron(load: Load):
    settings = load("[DEFAULT]\nstate_path = /a\n", "--state_path=/b")
    assert settings.state_path == Path("/b")
    assert settings.proxy_socket == Path("/b/metadata_proxy")
    with pytest.raises(ConfigError, match="state_path"):
        load("", "--state_path=b")


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
        "must be an integer from 0 to 2147483647"
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


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param(
            "rate_limit_enabled = true",
            ["base_query_rate_limit = 10", "burst_query_rate_limit = 10"],
            id="Neutron's defaults are below one boot",
        ),
        pytest.param(
            "rate_limit_enabled = true\nbase_query_rate_limit = 28\n"
            "burst_query_rate_limit = 27",
            ["burst_query_rate_limit = 27"],
            id="one is",
        ),
        pytest.param(
            "rate_limit_enabled = true\nbase_query_rate_limit = 28\n"
            "burst_query_rate_limit = 28",
            [],
            id="both allow a boot",
        ),
        pytest.param("base_query_rate_limit = 1", [], id="no limit is on"),
    ],
)
def test_rate_limit_below_one_boot_is_a_warning(load: Load, options, named):
    settings = load(
        f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n"
        f"[metadata_rate_limiting]\n{options}\n"
    )
    assert [text.partition(":")[0] for text in settings.warnings] == [
        f"[metadata_rate_limiting] {each}" for each in named
    ]
    for text in settings.warnings:
        assert "the 28 requests of one boot" in text


def test_help_of_both_limits_names_the_requests_of_one_boot():
    """In the source, since a docstring can't have the constant."""
    source = inspect.getsource(RateLimit)
    assert len(re.findall(rf"boot\s+sends {BOOT_REQUESTS}\b", source)) == 2


def test_file_named_by_an_abbreviation_is_not_quoted(home: Path, tmp_path):
    bad = tmp_path / "bad.ini"
    bad.write_text(f"[DEFAULT]\nmetadata_proxy_shared_secret {SECRET}\n")
    with pytest.raises(ConfigError, match=r"bad\.ini: line 2: No ") as caught:
        options.load(["--config-fi", str(bad)])
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
        options.load(argv)
    assert end.value.code == code
    assert capsys.readouterr() != ("", "")


def test_options_of_the_log_are_on_the_command_line(home: Path, tmp_path):
    argv = ["--config-file", "/dev/null", "--debug", "--log-file", "/x.log"]
    conf, _ = options.load(argv)
    assert conf.debug is True
    assert conf.log_file == "/x.log"


def write(path: Path, option: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[DEFAULT]\n{option}\n")


def test_neutrons_files_are_found_without_arguments(home: Path):
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
    _, settings = options.load([])
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
    _, settings = options.load([])
    assert settings.backlog == 7
    _, settings = options.load(["--config-file", "/dev/null"])
    assert settings.backlog == 4096


def test_own_file_in_a_folder_that_is_closed_is_not_ignored(
    home: Path, tmp_path: Path, monkeypatch
):
    """Only its absence means that the operator wrote none."""
    # stat(2) fails, as in a closed folder, which root does not know.
    own = tmp_path / ("x" * 300)
    monkeypatch.setattr(options, "OWN_FILE", str(own))
    with pytest.raises(ConfigError, match="x: cannot be read: File name too"):
        options.load([])
    other = tmp_path / "other.conf"
    other.write_text("")
    named = ["--config-file", str(other), "--config-dir", str(home)]
    options.load(named)


def test_a_reload_works_while_the_package_is_replaced(load, monkeypatch):
    before = options.version()

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    load("")
    assert options.version() == before
