"""The containers as kolla-ansible's own code and our role define them.

kolla_container itself needs a systemd and a container engine's daemon, which
are not here: what it is told is given to podman instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from sandbox import Sandbox, host, ovn
from sandbox.daemons import run

SOURCE = host.REPOSITORY / "packaging" / "kolla" / "ansible"
# What the operator has for root's programs.
OPERATORS = "# the operator's\n[fleet]\n"
AUTHORITY = "operator.crt"
_STRATEGY = "COPY_ALWAYS"
_CONFIG = Path("/etc/kolla/ovn-metadata-fleet/privileged.conf")
_SERVICES = Path("/run/ovn-metadata-services.json")
_INVENTORY = """\
localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3

[ovn-metadata]
localhost
"""
_DUMP = f"""\
- hosts: ovn-metadata
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: ovn-metadata
        public: true
    - ansible.builtin.copy:
        content: "{{{{ ovn_metadata_services | to_json }}}}"
        dest: {_SERVICES}
        mode: "0644"
"""


def define(
    environment: Path, box: Sandbox, *, image: str
) -> Mapping[str, Mapping[str, Any]]:
    """Play the role's configuration; return the services that it has.

    ENVIRONMENT is a Python environment with kolla-ansible; the folder that
    it keeps its playbooks in is where the role goes.
    """
    ansible = box.folder / "ansible"
    shutil.copytree(environment / "share/kolla-ansible/ansible", ansible)
    shutil.copytree(SOURCE, ansible, dirs_exist_ok=True)
    (ansible / "dump.yml").write_text(_DUMP)
    inventory = box.folder / "inventory"
    inventory.write_text(_INVENTORY)
    custom = box.folder / "config" / "ovn-metadata" / "privileged.conf"
    custom.parent.mkdir(parents=True)
    certificates = box.folder / "certificates"
    authority = certificates / "ca" / AUTHORITY
    authority.parent.mkdir(parents=True)
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
        *("-subj", "/CN=operator", "-keyout", "/dev/null"),
        *("-out", str(authority)),
    )
    # One that the operator had once.
    _CONFIG.parent.mkdir(parents=True)
    _CONFIG.write_text(OPERATORS)
    values = {
        "kolla_action": "config",
        "config_strategy": _STRATEGY,
        "node_custom_config": str(box.folder / "config"),
        "kolla_internal_vip_address": "127.0.0.1",
        "network_interface": "lo",
        "enable_ovn": True,
        "ovn_sb_connection": ovn.SB_REMOTE,
        "metadata_secret": box.nova.secret,
        "internal_protocol": "http",
        "nova_internal_fqdn": box.nova.address,
        "nova_metadata_port": box.nova.port,
        "openstack_tag": "here",
        "kolla_copy_ca_into_containers": True,
        "kolla_certificates_dir": str(certificates),
        "ovn_metadata_image_full": image,
    }
    command = (
        *(str(environment / "bin" / "ansible-playbook"), "-i", str(inventory)),
        *("-e", json.dumps(values), "ovn-metadata.yml", "dump.yml"),
    )

    def play(*, changes: bool) -> None:
        done = subprocess.run(
            command,
            cwd=ansible,
            env={**os.environ, "HOME": str(box.folder)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        changed = " changed=0 " not in done.stdout
        assert changed == changes, done.stdout

    play(changes=True)
    assert OPERATORS not in _CONFIG.read_text()
    custom.write_text(OPERATORS)
    play(changes=True)
    play(changes=False)
    services: dict[str, dict[str, Any]] = json.loads(_SERVICES.read_text())
    return services


def run_arguments(service: Mapping[str, Any], *more: str) -> list[str]:
    """Return podman-run(1)'s arguments for SERVICE, and MORE of them."""
    found = [
        *("--detach", "--network=host", "--health-interval=disable"),
        *(f"--env=KOLLA_CONFIG_STRATEGY={_STRATEGY}",),
        f"--name={service['container_name']}",
        *(f"--cap-add={name}" for name in service["cap_add"]),
        *(f"--security-opt={value}" for value in service["security_opt"]),
        *(f"--volume={volume}" for volume in service["volumes"]),
        f"--health-cmd={service['healthcheck']['test'][1]}",
    ]
    if "pid_mode" in service:
        found.append(f"--pid={service['pid_mode']}")
    return [*found, *more, service["image"]]


def stand_in(fleet: Mapping[str, Any]) -> dict[str, str]:
    """Return renew-fleet's environment as the handler for FLEET has it."""
    file = SOURCE / "roles" / "ovn-metadata" / "handlers" / "main.yml"
    (told,) = (
        h for h in yaml.safe_load(file.read_text()) if "environment" in h
    )
    return {
        name: jinja2.Template(value).render(
            service=fleet, config_strategy=_STRATEGY
        )
        for name, value in told["environment"].items()
    }
