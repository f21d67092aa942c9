"""The plugin for sos, run by Debian's sos beside a real agent."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sandbox import Sandbox, host
from sandbox.case import Case

LOGS = Path("/var/log/ovn-metadata-agent")
SOS = Path("/usr/lib/python3/dist-packages/sos/report/plugins")
PLUGIN = host.REPOSITORY / "packaging" / "sos" / "ovn_metadata_agent.py"
KEY = """\
-----BEGIN PRIVATE KEY-----
  MIIEvQIBADANBgkq
  -----END PRIVATE KEY-----"""
FILE = f"""\
[DEFAULT]
metadata_proxy_shared_secret = {{secret}}
transport_url = rabbit://neutron:R4bb1t@h1:5672,neutron:R4bb1t@h2:5672/
[database]
connection = mysql+pymysql://neutron:M4r14@db/neutron
[keystone_authtoken]
password = K3y5t0n3
  and the rest of P4rt2
[ovn]
ovn_sb_private_key = {KEY}
ovn_sb_connection = ssl:10.0.0.1:6642,ssl:[fd00::1]:6642
"""
# What the agent itself says. Its programs take one that needs more than 0.7 s
# for one that hangs, which a busy machine may make it: then once more.
TOLD = {
    "sos_commands/ovn_metadata_agent/agent-status": b"gateway: serves",
    "sos_commands/ovn_metadata_agent/agent-status_--json": b'"networks"',
    "dump/status.json": b'"networks"',
}
TRIES = 3
OTHERS = ("R4bb1t", "M4r14", "K3y5t0n3", "P4rt2", "MIIEvQIBADANBgkq")
# Root's alone. The agent's user can make a link to it in folders of its own.
ROOTS = "Sh4d0w"

pytestmark = pytest.mark.skipif(
    not SOS.is_dir(), reason="sos is not installed: apt install sosreport"
)


@pytest.fixture
def report(own_box: Sandbox, tmp_path: Path) -> dict[str, bytes]:
    """Return the files of a report: only the plugin's, of a served network."""
    box = own_box
    box.agent.start()
    box.agent.wait_ready()
    case = Case(box)
    case.instance(case.network())
    config, key = (host.PRIVILEGE_FOLDER / n for n in ("agent.conf", "n.pem"))
    config.write_text(FILE.format(secret=box.nova.secret))
    key.write_text(KEY)
    LOGS.mkdir()
    (LOGS / "ovn-metadata-agent.log").write_text("a line\n" + "ab" * 32)
    (tmp_path / "shadow").write_text(ROOTS)
    links = [LOGS / "a.log", host.FLEET / "config" / "a.conf"]
    for link in links:
        link.symlink_to(tmp_path / "shadow")
    try:
        for number in range(TRIES):
            found = run_sos(tmp_path / str(number))
            if all(w in found.get(name, b"") for name, w in TOLD.items()):
                break
        return found
    finally:
        for link in links:
            link.unlink()
        config.unlink()
        key.unlink()
        shutil.rmtree(LOGS)


def run_sos(tmp_path: Path) -> dict[str, bytes]:
    """Return the files of a report, those of the dump in it too."""
    tmp_path.mkdir()
    plugins = tmp_path / "plugins"
    shutil.copytree(SOS, plugins)
    shutil.copy(PLUGIN, plugins)
    script = f"""
        mount --bind {plugins} {SOS}
        # sos has a PATH of its own.
        mount -t tmpfs none /usr/local/sbin
        ln -s {sys.prefix}/bin/agent-status /usr/local/sbin
        exec sos report --batch --quiet --tmp-dir {tmp_path} \
            -o ovn_metadata_agent"""
    subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], check=True, timeout=300
    )
    (file,) = tmp_path.glob("sosreport-*.tar.xz")
    with tarfile.open(file) as archive:
        found = {
            member.name.partition("/")[2]: opened.read()
            for member in archive
            if member.isfile() and (opened := archive.extractfile(member))
        }
    (dump,) = [name for name in found if name.endswith(".tar.gz")]
    (tmp_path / "dump").write_bytes(found.pop(dump))
    with tarfile.open(tmp_path / "dump") as archive:
        for name in archive.getnames():
            opened = archive.extractfile(name)
            assert opened
            found[f"dump/{name.partition('/')[2]}"] = opened.read()
    return found


def test_a_report_has_what_support_needs_and_no_secret(own_box, report):
    maps = "".join(one.read_text() for one in host.FLEET.rglob("*.map"))
    signatures = re.findall(r"\|([0-9a-f]{64})", maps)
    assert signatures
    for secret in (
        own_box.nova.secret,
        "ab" * 32,
        ROOTS,
        *OTHERS,
        *signatures,
    ):
        found = [n for n, text in report.items() if secret.encode() in text]
        assert (secret, found) == (secret, [])
    assert not [name for name in report if name.endswith((".map", ".pem"))]
    config = report["etc/ovn-metadata-agent/agent.conf"].decode()
    assert "metadata_proxy_shared_secret = ***\n" in config
    assert "connection = ***@db/neutron\n" in config
    assert "ssl:10.0.0.1:6642,ssl:[fd00::1]:6642\n" in config
    assert b"a line\n***" in report["dump/agent.log"]
    assert b"gateway.conf <==" in report["dump/haproxies.txt"]
    for name, word in TOLD.items():
        assert word in report[name]
