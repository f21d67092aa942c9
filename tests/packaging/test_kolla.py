"""The container definitions fit the code, the units and one another.

What they do: `make container`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2.sandbox
import pytest
import yaml
from container.engine import QUADLET, capabilities, read_unit
from oslo_privsep.capabilities import CAPS_BYVALUE

from ovn_metadata.agent.config import options
from ovn_metadata.agent.haproxy.places import Places
from ovn_metadata.privsep import names, settings
from ovn_metadata.privsep.context import CAPABILITIES
from sandbox import host, units

PACKAGING = host.REPOSITORY / "packaging"
CONTAINERFILE = PACKAGING / "container" / "Containerfile"
IMAGE = PACKAGING / "kolla" / "docker" / "ovn-metadata-agent"
ROLE = PACKAGING / "kolla" / "ansible" / "roles" / "ovn-metadata"
RENEW = ROLE / "files" / "renew-fleet"
AGENT, FLEET = "ovn-metadata-agent", "ovn-metadata-fleet"
COMPATIBLE = "neutron-ovn-metadata-agent"

# What docker and podman both give to a container that asks for nothing.
ENGINES_OWN = {
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP"),
    *("NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
# Of Kolla's templates and variables those that are used here.
MACROS = """\
{% macro install_pip(packages) %}pip install {{ packages | join(' ') }}\
{% endmacro %}
"""
BUILD_VALUES = {
    "namespace": "registry.example/kolla",
    "image_prefix": "",
    "tag": "1",
    "maintainer": "somebody",
    "image_name": "ovn-metadata-agent",
}
DEPLOYMENT = {
    "container_config_directory": "/var/lib/kolla/config_files",
    "internal_protocol": "https",
    "kolla_container_engine": "docker",
    "kolla_copy_ca_into_containers": "no",
    "metadata_secret": "s3cret",
    "node_config_directory": "/etc/kolla",
    "nova_internal_fqdn": "nova.example",
    "nova_metadata_port": "8775",
    "openstack_cacert": "",
    "ovn_metadata_logging_debug": "False",
    "ovn_sb_connection": "tcp:192.0.2.1:6642,tcp:192.0.2.2:6642",
    "ovsdb_port": "6640",
}


def rendered(path: Path, values: Mapping[str, object]) -> str:
    """Return the template PATH with VALUES, as Kolla renders it."""
    environment = jinja2.sandbox.SandboxedEnvironment(
        loader=jinja2.DictLoader({"macros.j2": MACROS}),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    environment.filters["bool"] = lambda value: value in (True, "yes")
    environment.filters["customizable"] = lambda value, _name: value
    return environment.from_string(path.read_text()).render(values)


def read_role(name: str) -> Any:
    return yaml.safe_load((ROLE / name / "main.yml").read_text())


def programs() -> set[str]:
    """Return the programs that setup.py installs."""
    text = (host.REPOSITORY / "setup.py").read_text()
    # A long one is two strings.
    return set(re.findall(r'"([\w-]+) = (?:"\s+")?[\w.]+:\w+"', text))


def fleets() -> set[str]:
    """Return the capabilities that the fleet's unit has."""
    found = units.capabilities(units.FLEET)
    return {name.removeprefix("cap_").upper() for name in found}


def agents() -> set[str]:
    """Return what the daemon has, and what it takes to drop to a user."""
    daemons = {CAPS_BYVALUE[number] for number in CAPABILITIES}
    return {
        *(name.removeprefix("CAP_") for name in daemons),
        *("SETUID", "SETGID"),
    }


NEEDED = {AGENT: agents, FLEET: fleets}

# ------------------------------------------------------------ capabilities


@pytest.mark.parametrize("name", [AGENT, FLEET])
def test_quadlet_lists_what_the_code_needs(name):
    unit = read_unit(QUADLET / f"{name}.container")
    assert unit["DropCapability"] == ["all"]
    assert set(capabilities(unit)) == NEEDED[name]()
    assert unit["NoNewPrivileges"] == unit["ReadOnly"] == ["true"]
    # Five quick failures would end it for good.
    text = (QUADLET / f"{name}.container").read_text()
    assert "\nStartLimitIntervalSec=0\n" in text


@pytest.mark.parametrize("name", [AGENT, FLEET])
def test_kolla_ansible_adds_what_engines_do_not_give(name):
    added = read_role("defaults")[f"{name.replace('-', '_')}_cap_add"]
    assert set(added) == NEEDED[name]() - ENGINES_OWN


@pytest.mark.parametrize("name", [AGENT, FLEET])
def test_quadlet_has_what_profiles_would_forbid(name):
    unit = read_unit(QUADLET / f"{name}.container")
    assert unit["SecurityLabelDisable"] == ["true"]
    assert "--security-opt=apparmor=unconfined" in unit["PodmanArgs"]


def test_the_stand_in_has_what_the_fleet_has():
    text = RENEW.read_text().replace("\\\n", "")
    found = re.findall(r"--cap-add (\w+)", text)
    assert set(found) == fleets()
    assert len(found) == len(fleets())
    unit = read_unit(QUADLET / f"{FLEET}.container")
    (pids,), (files,) = unit["PidsLimit"], unit["Ulimit"]
    (limits,) = re.findall(r"LIMITS:-(.*)}", text)
    assert limits == f"--pids-limit {pids} --ulimit {files}"
    assert set(re.findall(r"--security-opt (\S+)", text)) == {
        *("no-new-privileges", "label=disable", "apparmor=unconfined"),
    }
    (volumes,) = re.findall(r"VOLUMES:-(.*)}", text)
    (folder,) = re.findall(r"^RUN_DIR=(.*)", text, re.MULTILINE)
    assert volumes.replace("$RUN_DIR", folder).split() == unit["Volume"]


def test_kubernetes_has_what_the_others_have():
    file = PACKAGING / "container" / "kubernetes" / f"{FLEET}.yaml"
    spec = yaml.safe_load(file.read_text())["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    rights = container["securityContext"]["capabilities"]
    assert rights["drop"] == ["ALL"]
    profile = container["securityContext"]["appArmorProfile"]
    assert profile == {"type": "Unconfined"}
    assert spec["automountServiceAccountToken"] is False
    assert {*rights["add"]} == fleets()
    assert spec["hostPID"] is spec["hostNetwork"] is True
    unit = read_unit(QUADLET / f"{FLEET}.container")
    assert container["args"] == unit["Exec"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    state = "/var/lib/neutron"
    wanted = {volume.split(":")[1] for volume in unit["Volume"]} - {state}
    assert mounted == {*wanted, f"{state}/openstack-helm", "/tmp"}  # a mount
    assert [mount["name"] for mount in container["volumeMounts"]] == [
        volume["name"] for volume in spec["volumes"]
    ]


# ------------------------------------------------------ places and programs


@pytest.mark.parametrize("name", [AGENT, FLEET])
def test_both_share_what_they_must(name):
    default = {o.dest: o.default for o in settings.OPTIONS}["run_dir"]
    unit = read_unit(QUADLET / f"{name}.container")
    shared = {volume.split(":")[1] for volume in unit["Volume"]}
    assert {default, names.NAMESPACE_FOLDER, "/var/lib/neutron"} <= shared
    volumes = read_role("defaults")["ovn_metadata_common_volumes"]
    shared = {volume.split(":")[1] for volume in volumes}
    assert {default, names.NAMESPACE_FOLDER} <= shared
    assert f"{default}:" in RENEW.read_text().replace("$RUN_DIR", default)


def test_the_fleet_has_the_hosts_log():
    path = Places(Path("/a"), Path("/b"), Path("/c")).log
    unit = read_unit(QUADLET / f"{FLEET}.container")
    assert f"{path}:{path}" in unit["Volume"]
    volumes = read_role("defaults")["ovn_metadata_fleet_default_volumes"]
    assert f"'{path}:{path}'" in volumes


@pytest.mark.parametrize("name", [AGENT, FLEET])
def test_quadlet_runs_programs_of_ours(name):
    (line,) = read_unit(QUADLET / f"{name}.container")["Exec"]
    assert line.split()[0] in programs()


def test_the_image_gets_all_that_setup_reads(tmp_path):
    copies = r"^COPY (?!--)(.+) /src/(\S*)$"
    for line in re.findall(copies, CONTAINERFILE.read_text(), re.MULTILINE):
        folder = tmp_path / line[1]
        for source in map(host.REPOSITORY.joinpath, line[0].split()):
            if source.is_dir():
                shutil.copytree(source, folder)
            else:
                folder.mkdir(exist_ok=True)
                shutil.copy(source, folder)
    command = (sys.executable, "setup.py", "--quiet", "egg_info")
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)


def test_containerfile_copies_what_is_there():
    text = CONTAINERFILE.read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) /src/", text, re.MULTILINE)
    sources = [word for line in copied for word in line.split()]
    assert {"agent", "privsep", "setup.py"} <= {*sources}
    assert all((host.REPOSITORY / name).exists() for name in sources)
    (default,) = re.findall(r"^ARG BASE=(.*)", text, re.MULTILINE)
    assert default.startswith("debian:")
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}


# ------------------------------------------------------------------- Kolla


def test_dockerfile_renders_and_stands_on_what_kolla_builds():
    text = rendered(IMAGE / "Dockerfile.j2", BUILD_VALUES)
    assert "{" not in text.replace("${", "")
    (parent,) = re.findall(r"^FROM (.*)", text, re.MULTILINE)
    assert parent == "registry.example/kolla/neutron-base:1"
    # Kolla names the archive of an image's source by its section.
    assert re.search(rf"^ADD {IMAGE.name}-archive ", text, re.MULTILINE)
    for file in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (IMAGE / file).is_file()
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["root"]
    # Users that the two kinds of image share the state of a host with.
    (fleet_id,) = re.findall(
        r"^ARG FLEET_ID=(\d+)", CONTAINERFILE.read_text(), re.MULTILINE
    )
    assert f"--uid {fleet_id} --gid {fleet_id} {FLEET}" in text


@pytest.mark.parametrize("name", [AGENT, FLEET])
@pytest.mark.parametrize("authorities", ["yes", "no"])
def test_config_json_is_one_that_kolla_takes(name, authorities):
    config = json.loads(
        rendered(
            ROLE / "templates" / f"{name}.json.j2",
            {**DEPLOYMENT, "kolla_copy_ca_into_containers": authorities},
        )
    )
    assert config.keys() <= {"command", "config_files", "permissions"}
    assert config["command"].split()[0] in {*programs(), COMPATIBLE}
    for file in config["config_files"]:
        assert file.keys() >= {"source", "dest", "owner", "perm"}
        assert file["source"].startswith("/var/lib/kolla/config_files/")
        assert re.fullmatch(r"0[0-7]{3}", file["perm"])
        # One that is optional, and removed, would not count as a change.
        assert "optional" not in file
        # Root's: what root reads, nobody else may write.
        assert file["owner"].split(":")[0] == "root"
        assert int(file["perm"], 8) & 0o022 == 0
    copied = [f["dest"] for f in config["config_files"]]
    assert any("ca-certificates" in dest for dest in copied) == (
        authorities == "yes"
    )
    secrets = [f for f in config["config_files"] if ".ini" in f["dest"]]
    assert all(int(file["perm"], 8) & 0o007 == 0 for file in secrets)
    # The haproxies' folders have their groups: to set all of them would have
    # none read its own.
    assert not any("recurse" in p for p in config.get("permissions", ()))


def test_fleet_is_renewed_only_with_an_image_that_is_there(tmp_path):
    """Nothing is stopped for one that can't be pulled."""
    engine = tmp_path / "engine"
    engine.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nexit 1\n')
    engine.chmod(0o755)
    script = tmp_path / "renew-fleet"
    folder = tmp_path / "run"
    script.write_text(
        RENEW.read_text().replace("=/run/ovn-metadata-fleet\n", f"={folder}\n")
    )
    done = subprocess.run(
        ("sh", script, "begin", engine, "registry.example/x"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no image registry.example/x" in done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "pull registry.example/x\n" in asked
    assert "run " not in asked


def test_commands_read_files_that_are_copied():
    config = json.loads(
        rendered(ROLE / "templates" / f"{AGENT}.json.j2", DEPLOYMENT)
    )
    wanted = re.findall(r"--config-file (\S+)", config["command"])
    assert wanted
    assert {*wanted} <= {file["dest"] for file in config["config_files"]}
    checks = " ".join(
        read_role("defaults")["ovn_metadata_agent_healthcheck_test"]
    )
    assert re.findall(r"--config-file (\S+)", checks) == wanted


@pytest.mark.parametrize("cacert", ["", "/etc/ssl/ca.pem"])
def test_the_agent_takes_kollas_configuration(tmp_path, cacert):
    template = ROLE / "templates" / "neutron_ovn_metadata_agent.ini.j2"
    file = tmp_path / "agent.ini"
    if cacert:
        cacert = str(tmp_path / "ca.pem")
        Path(cacert).touch()
    file.write_text(
        rendered(template, {**DEPLOYMENT, "openstack_cacert": cacert})
    )
    _, read = options.load(["--config-file", str(file)])
    assert read.warnings == ()
    assert str(read.state_path) == "/var/lib/neutron/kolla"
    volumes = read_role("defaults")["ovn_metadata_common_volumes"]
    assert any(str(read.state_path) in volume for volume in volumes)


def test_the_ini_precedes_what_other_agents_read(tmp_path):
    """The role's own, and then the operator's; later sources win."""
    tasks = yaml.safe_load((ROLE / "tasks" / "config.yml").read_text())
    (merged,) = (t for t in tasks if "merge_configs" in t)
    sources = merged["merge_configs"]["sources"]
    custom = tmp_path / "custom"
    mine = {
        "neutron.conf": """\
[DEFAULT]
debug = true
nova_metadata_host = other.example
nova_metadata_port = 1
[ovs]
ovsdb_connection = tcp:192.0.2.9:6640
[ovn]
ovn_sb_connection = tcp:192.0.2.9:6642
""",
        "neutron/h1/neutron.conf": "[DEFAULT]\nnova_metadata_host = h1\n",
        "neutron/neutron_ovn_metadata_agent.ini": (
            "[DEFAULT]\nnova_metadata_port = 8776\n"
        ),
    }
    for name, text in mine.items():
        custom.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        custom.joinpath(name).write_text(text)
    arguments = []
    for number, source in enumerate(sources):
        values = {
            "role_path": str(ROLE),
            "node_custom_config": str(custom),
            "inventory_hostname": "h1",
        }
        path = Path(jinja2.Template(source).render(values))
        if path.exists():
            file = tmp_path / str(number)
            file.write_text(rendered(path, DEPLOYMENT))
            arguments += ["--config-file", str(file)]
    assert len(arguments) == 2 * (len(mine) + 2)
    conf, read = options.load(arguments)
    assert conf.debug is True
    assert read.nova.hosts == ((DEPLOYMENT["nova_internal_fqdn"], None),)
    assert read.nova.port == 8776
    assert conf.ovs.ovsdb_connection == "tcp:127.0.0.1:6640"
    assert "192.0.2.9" not in str(conf.ovn.ovn_sb_connection)


def test_the_role_restarts_what_it_defines():
    services = read_role("defaults")["ovn_metadata_services"]
    assert list(services) == [FLEET, AGENT]  # the order of their handlers
    handlers = read_role("handlers")
    heard = {h.get("listen", h["name"]) for h in handlers}
    assert heard == {f"Restart {name} container" for name in services}
    for handler in handlers:
        if "kolla_container" in handler:
            given = handler["kolla_container"]
            (name,) = re.findall(
                r"services\['(.*)'\]", handler["vars"]["service"]
            )
            told = {*services[name]} - {"container_name", "group", "enabled"}
            if given["action"] == "ensure_image":
                told = {"image"}
            assert told <= {*given}
    known = {h["name"] for h in handlers} | heard
    for file in ROLE.rglob("*.yml"):
        read = yaml.safe_load(file.read_text())
        assert read, file
        for task in read if isinstance(read, list) else ():
            told = task.get("notify", [])
            assert {*([told] if isinstance(told, str) else told)} <= known
