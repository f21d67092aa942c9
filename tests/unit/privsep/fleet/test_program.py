"""What root runs: fixed forms that nothing sent can change."""

from __future__ import annotations

import configparser
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovn_metadata.privsep import names, validate
from ovn_metadata.privsep.errors import InvalidArgumentError
from ovn_metadata.privsep.fleet import program
from ovn_metadata.privsep.settings import FleetSettings
from ovn_metadata.privsep.supervisor import held

NETWORK = "4c3e1f64-f4d0-4eb0-a542-a05e03a1141f"
SETTINGS = FleetSettings(
    haproxy="/usr/sbin/haproxy",
    user="ovn-metadata-fleet",
    uid=990,
    gid=991,
    run_dir=Path("/run/ovn-metadata-fleet"),
    network_ids=range(1000, 2000),
)
# The id that the first digits of NETWORK's lead to.
OWN = 1001 + 0x4C3E1F64 % 999
WITHOUT_PRIVILEGE = [
    "--no-new-privs",
    "--bounding-set=-all",
    "--inh-caps=-all",
]


def command(network: str) -> list[str]:
    return program.command(network, SETTINGS)


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(
        inline_comment_prefixes=(" ;", " #"), strict=True
    )
    parser.read_string(text)
    return parser


@pytest.mark.parametrize(
    ("network", "uid", "gid"), [(NETWORK, OWN, OWN), ("gateway", 990, 991)]
)
def test_haproxy_is_the_last_of_the_chain_and_has_no_privilege(
    network, uid, gid
):
    words = command(network)
    start = words.index("/usr/sbin/haproxy")
    assert words[start - 6 : start] == [
        *(f"--reuid={uid}", f"--regid={gid}", "--groups=1000"),
        *WITHOUT_PRIVILEGE,
    ]
    assert words[start:] == [
        "/usr/sbin/haproxy",
        "-db",
        "-C",
        f"/run/ovn-metadata-fleet/work/{network}",
        "-f",
        f"/run/ovn-metadata-fleet/config/{network}.conf",
    ]
    # Found by itself and never through somebody's PATH.
    assert all(w.startswith("/") for w in (words[0], words[start - 7]))


def test_a_network_is_entered_and_the_gateway_is_not():
    assert command(NETWORK)[1] == f"--net=/run/netns/ovnmeta-{NETWORK}"
    assert Path(command(NETWORK)[0]).name == "nsenter"
    assert Path(command("gateway")[0]).name == "setpriv"


def test_a_tool_that_is_not_installed_is_named_where_it_would_be():
    assert program.tool("no-such-tool") == "/usr/bin/no-such-tool"


@given(
    st.one_of(st.just("gateway"), st.uuids().map(str)),
    st.text("ab/._@+,=:- \n;#%[]\"'\\", max_size=12).map("/v{}".format),
)
def test_a_program_file_says_one_thing_whatever_folder_passes(network, path):
    try:
        folder = validate.folder(path)
    except InvalidArgumentError:
        return
    settings = dataclasses.replace(SETTINGS, run_dir=Path(folder))
    text = program.render_program(network, settings)
    parser = parse(text)
    assert parser.sections() == [f"program:{names.program_name(network)}"]
    section = parser[parser.sections()[0]]
    expected = program.command(network, settings)
    assert section["command"].split() == expected
    assert "%" not in text  # supervisord would expand it
    assert section["stdout_logfile"] == (f"{folder}/log/{network}.log")
    assert section["directory"] == "/"
    assert section["autorestart"] == "true"


def test_supervisord_listens_on_one_socket_for_root_alone():
    parser = parse(program.render_supervisord(SETTINGS))
    assert not [s for s in parser.sections() if "inet" in s]
    assert dict(parser["unix_http_server"]) == {
        "file": "/run/ovn-metadata-fleet/supervisord.sock",
        "chmod": "0700",
    }
    assert parser["include"]["files"] == (
        "/run/ovn-metadata-fleet/programs/*.ini"
    )
    assert parser["supervisord"]["user"] == "root"
    factories = [
        parser[section]["supervisor.rpcinterface_factory"].strip()
        for section in parser.sections()
        if section.startswith("rpcinterface:")
    ]
    assert factories == [
        "supervisor.rpcinterface:make_main_rpcinterface",
        "ovn_metadata.privsep.supervisor.extension:make_interface",
    ]


def test_supervisord_is_started_isolated_from_the_callers_environment():
    words = program.supervisord_command(SETTINGS, "-n")
    assert words[1:4] == ["-I", "-m", "supervisor.supervisord"]
    assert words[4:] == [
        "-c",
        "/run/ovn-metadata-fleet/supervisord.conf",
        "-n",
    ]


@pytest.mark.parametrize("network", [NETWORK, "gateway"])
def test_what_it_writes_supervisords_extension_reads(network):
    text = program.render_program(network, SETTINGS)
    section = parse(text)[f"program:{names.program_name(network)}"]
    owner, group = map(int, held._IDS.findall(section["command"]))
    assert owner == SETTINGS.user_of(network).uid
    assert group == SETTINGS.common_gid


def test_a_new_supervisord_starts_the_gateway_first():
    """All networks need it: their clients get 503 until it serves."""

    def priority(network: str) -> int:
        section = f"program:{names.program_name(network)}"
        text = program.render_program(network, SETTINGS)
        return int(parse(text)[section]["priority"])

    assert priority("gateway") < priority(NETWORK)
