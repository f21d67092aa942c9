"""Each command of the documents runs, as it stands there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ovn_metadata.agent.core.codes import DOCS
from sandbox import Instance, Sandbox, host, wait_for
from sandbox.agent import CONFIG
from sandbox.case import Case, wait_served
from sandbox.daemons import run
from sandbox.documented import IN_INSTANCE, Command, commands
from sandbox.ovn import OVS_RUN

SYMPTOMS = host.REPOSITORY / DOCS
# Whole lines of its log, as far as they are constant.
WORDS_OF_CONTROLLER = (
    "Claiming lport PORT for this chassis.",
    "Setting lport PORT ovn-installed in OVS",
    "Setting lport PORT up in Southbound",
    "Not claiming lport PORT, chassis A requested-chassis B pb->chassis C",
    "Mismatch iface-id-ver for lport PORT",
    "Changing chassis for lport PORT from A to B.",
    "'system-id' in Open_vSwitch database is missing.",
    "OVNSB commit failed, force recompute next time.",
)
OLD_WORDS, LAST_OLD = "Timed out, no response from urls: ", 22
WORDS_OF_CLOUD_INIT = (
    OLD_WORDS,
    "Giving up on OpenStack md from ",
    "No local datasource found",
    "No instance datasource found! Likely bad things to come!",
    "no datasource found! Likely bad ",
    "DataSourceNone",
    "Giving up on md from ",
    "latest/api/token",
    "no authorized SSH keys fingerprints found for user",
    "No ds found [mode=",
)
# What stands for something of the reader's, in capitals.
_NAME = re.compile(r"\b[A-Z]{3,}\b")


@contextlib.contextmanager
def packaged(box: Sandbox) -> Iterator[None]:
    """Have ovs-vswitchd's control socket where packages have it."""
    pid = box.ovn.daemons["ovs-vswitchd"].pid
    link = OVS_RUN / f"ovs-vswitchd.{pid}.ctl"
    link.symlink_to(OVS_RUN / "ovs-vswitchd.ctl")
    yield
    link.unlink()


@pytest.fixture(scope="module")
def names(box: Sandbox) -> Iterator[tuple[Instance, Mapping[str, str]]]:
    """Provide an instance, and what stands for it in a command."""
    config = shutil.copy(CONFIG, host.PRIVILEGE_FOLDER / "agent.conf")
    shutil.chown(config, 0, host.SERVICE_USER)
    with contextlib.closing(Case(box)) as case, packaged(box):
        network = case.network(
            "documented", "10.77.0.0/24", "fd00:77::/64", gateway=True
        )
        instance = case.instance(network)
        wait_served(instance, ipv6=True)
        yield (
            instance,
            {
                "ADDRESS": str(instance.port.ip4),
                "INSTANCE": instance.instance_id,
                "NETWORK": network.id,
                "NOVA": "127.0.0.1",
                "PORT": instance.port.id,
            },
        )


@pytest.mark.parametrize(
    "command",
    [command for command in commands() if not command.why_not],
    ids=lambda command: f"{Path(command.page).stem}: {command.text}",
)
def test_command_runs(
    names: tuple[Instance, Mapping[str, str]], command: Command
):
    instance, words = names
    text = _NAME.sub(lambda m: words.get(m[0], m[0]), command.text)
    prefix: tuple[str, ...] = ()
    if command.where == IN_INSTANCE:
        prefix = ("ip", "netns", "exec", instance.namespace)
    path = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    said: list[str] = []

    def runs() -> bool:
        done = subprocess.run(
            (*prefix, "sh", "-c", text),
            capture_output=True,
            check=False,
            cwd="/",
            env={**os.environ, "PATH": path},
            text=True,
            timeout=60,
        )
        said[:] = [done.stdout, done.stderr]
        return done.returncode == 0

    # It tells of what is late on a busy machine, or just not over yet.
    patience_s = 60.0 if text.startswith("agent-status") else 0.0
    try:
        wait_for(runs, timeout_s=patience_s, what=text)
    except TimeoutError:
        raise AssertionError("".join(said)) from None


@pytest.mark.parametrize("line", WORDS_OF_CONTROLLER)
def test_lines_of_ovn_controller_are_its_own(line: str):
    program = shutil.which("ovn-controller")
    assert program is not None
    assert line in SYMPTOMS.read_text()
    pattern = re.sub(r"\b(PORT|[ABC])\b", "%s", line)
    assert pattern.encode() in Path(program).read_bytes()


@pytest.mark.parametrize("words", WORDS_OF_CLOUD_INIT)
def test_lines_of_cloud_init_are_its_own(words: str):
    guest = os.environ.get("OVN_METADATA_GUEST")
    if not guest:
        pytest.skip("no cloud-init: OVN_METADATA_GUEST is not set")
    folder = Path(guest, "usr/lib/python3/dist-packages/cloudinit")
    files = [
        *folder.rglob("*.py"),
        Path(guest, "usr/lib/cloud-init/ds-identify"),
    ]
    assert words in SYMPTOMS.read_text()
    # The file that has the version is another one in each release.
    ask = "import cloudinit.version as v; print(v.version_string())"
    there = f"PYTHONPATH={folder.parent}"
    version = run("env", there, "python3", "-c", ask)
    is_there = words != OLD_WORDS or int(version.split(".")[0]) <= LAST_OLD
    assert any(words in file.read_text() for file in files) == is_there
