"""Ansible on this host, which plays against the machine by ssh and sudo."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .machine import Machine
from .packages import SOURCE

PLAYS = SOURCE / "packaging/ansible"
OPERATOR = "deployer"  # who may do all by sudo, and nothing by itself
SECRET = "swordfish-0815"

_HOST = "chassis"
_TIMEOUT_S = 540
_RECAP = re.compile(rf"^{_HOST} +: (.*)$", re.M)


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """What came of a play."""

    text: str
    counts: Mapping[str, int]  # "ok", "changed", "failed", ...

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return self.counts["failed"] == self.counts["unreachable"] == 0

    @property
    def end(self) -> str:
        """What was said last, for a message."""
        return self.text[-4000:]

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        return self.counts["changed"]


class Control:
    """Plays of packaging/ansible, on MACHINE, with one set of variables."""

    def __init__(
        self, folder: Path, machine: Machine, *, programs: Path
    ) -> None:
        """Have inventory and key in FOLDER, Ansible's PROGRAMS elsewhere."""
        self._folder = folder
        self._machine = machine
        self._programs = programs
        self.variables: dict[str, Any] = {
            "ovn_metadata_agent_nova_metadata_host": ["127.0.0.1"],
            "ovn_metadata_agent_metadata_proxy_shared_secret": SECRET,
            "ovn_metadata_agent_ovn_sb_connection": ["tcp:127.0.0.1:6642"],
        }

    def let_in(self) -> None:
        """Have the machine know the operator by a key."""
        key = self._folder / "key"
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        subprocess.run(make, check=True)
        self._machine.run("useradd", "--create-home", OPERATOR)
        ssh = f"/home/{OPERATOR}/.ssh"
        self._machine.write(
            f"{ssh}/authorized_keys", key.with_suffix(".pub").read_text()
        )
        self._machine.run("chown", "-R", f"{OPERATOR}:", ssh)
        self._machine.write(
            f"/etc/sudoers.d/{OPERATOR}",
            f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n",
            mode="0440",
        )

    def play(self, book: str, *options: str, **variables: object) -> Played:
        """Play BOOK; VARIABLES, without their prefix, are the host's too."""
        added = {f"ovn_metadata_agent_{k}": v for k, v in variables.items()}
        self._write_inventory(self.variables | added)
        done = subprocess.run(
            (
                str(self._programs / "ansible-playbook"),
                f"--inventory={self._folder / 'inventory.json'}",
                *(str(PLAYS / book), *options),
            ),
            cwd=PLAYS,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        recap = _RECAP.search(done.stdout)
        assert recap is not None, done.stdout
        pairs = (pair.split("=") for pair in recap[1].split())
        counts = {name: int(count) for name, count in pairs}
        assert SECRET not in done.stdout
        return Played(done.stdout, counts)

    def converge(self, book: str, **variables: object) -> Played:
        """Play BOOK; hold that it is good, and that a second time is idle."""
        first = self.play(book, **variables)
        assert first.is_good, first.end
        again = self.play(book, **variables)
        assert again.is_good, again.end
        assert again.changed == 0, again.end
        print(f"   {book}: {first.changed} changed, then {again.changed}")
        return first

    def _write_inventory(self, variables: Mapping[str, object]) -> None:
        enter = f"nsenter --target={self._machine.pid} --all --"
        reach = {
            "ansible_user": OPERATOR,
            "ansible_ssh_private_key_file": str(self._folder / "key"),
            "ansible_ssh_common_args": (
                "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
                f"-o ProxyCommand='{enter} /usr/sbin/sshd -i'"
            ),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {"hosts": {_HOST: {**reach, **variables}}}
        inventory = {"all": {"children": {"ovn_metadata_agent": hosts}}}
        path = self._folder / "inventory.json"
        path.write_text(json.dumps(inventory))

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(PLAYS / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._folder / "home"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._folder / "ssh"),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOLOR": "true",
            "LC_ALL": "C.UTF-8",
        }
