"""The commands of the documents: which there are, and which a sandbox runs.

A command stands in a block of shell. The first line of the block may be a
comment that says where it is run; otherwise that is the hypervisor, as root.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IN_INSTANCE = "in the instance"
PLACES = {
    IN_INSTANCE,
    "with OpenStack's credentials",
    "on a server of Neutron",
}
_FENCE = re.compile(r"( *)```(\w*)\n(.*?)\n\1```", re.DOTALL)

# What is not run here, by how it begins, and why. This list only shrinks.
_NO_SYSTEMD = "the sandbox has no systemd: `make boot` runs the units"
_INSTALLS = "changes what is installed: `make boot`, tests/packaging do it"
_BUILDS = "takes minutes: it is a target of its own, or a part of one"
_CLOUD = "needs OpenStack's API"
_GUEST = "needs a guest with cloud-init: `make boots` boots some"
_ENDS = "ends what is served: tests/functional/test_upgrade.py and others do"
NOT_RUN = {
    "systemctl": _NO_SYSTEMD,
    "journalctl": _NO_SYSTEMD,
    "openstack": _CLOUD,
    "neutron-ovn-db-sync-util": _CLOUD,
    "cloud-init": _GUEST,
    "cloud-id": _GUEST,
    "cat /run/cloud-init": _GUEST,
    "apt": _INSTALLS,
    "dnf": _INSTALLS,
    "mv /etc/neutron": _INSTALLS,
    "usermod": _INSTALLS,
    "setfacl": _INSTALLS,
    "chown": _INSTALLS,
    "python3 -m venv": _INSTALLS,
    "/opt/ovn-metadata-agent/bin/pip": _INSTALLS,
    "runuser --pty -u ovn-metadata -- /opt": _INSTALLS,
    "make": _BUILDS,
    "mock": _BUILDS,
    "podman build": _BUILDS,
    "kolla-build": _BUILDS,
    "ansible-playbook": "`make ansible` runs the plays",
    "renew-fleet": "`make container` runs it",
    "kubectl": "needs Kubernetes",
    "gpg": "needs a key of the project's",
    "cp -r dist repository": "needs a key of the project's",
    "twine": "uploads",
    "sha256sum --check": "tests/packaging/test_release.py does",
    "editor": "waits for a person",
    "vi ": "waits for a person",
    "rm ": _ENDS,
    "kill -9": "tests/functional/test_hanging.py does",
    "pkill -KILL": "tests/functional/test_broken_in.py does",
    "ip netns delete": "tests/functional/test_broken_in.py does",
    "ovn-metadata-cleanup": "tests/functional/test_cleanup.py does",
    "ovn-metadata-fleet --check": "tests/functional/test_check.py does",
    "sesearch": "needs SELinux",
    "restorecon": "needs SELinux",
    "ausearch": "needs SELinux",
    "ps -eZ": "needs SELinux",
    "curl --unix-socket /run/ovn-metadata-fleet": "tests/functional/"
    "test_metrics.py does: it needs an option",
    "agent-status dump": "tests/functional/test_dump.py does",
    "sos report": "tests/functional/test_sos.py does",
    "openssl s_client": "tests/functional/test_tls.py has a Nova with TLS",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A command of a document; `where` is "" on the hypervisor."""

    page: str
    where: str
    text: str

    @property
    def why_not(self) -> str:
        """Why it is not run here; "" if it is."""
        line = f"{self.text}\n"
        reasons = (NOT_RUN[key] for key in NOT_RUN if line.startswith(key))
        return next(reasons, "")


def pages() -> list[Path]:
    """Return the documents."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[Command]:
    """Return the commands of all documents, each of a page once."""
    found = [
        Command(str(page.relative_to(ROOT)), where, text)
        for page in pages()
        for where, text in _commands(page.read_text("utf-8"))
    ]
    return [*dict.fromkeys(found)]


def other_blocks(page: Path) -> list[str]:
    """Return the lines of PAGE's blocks that are not shell, nor a script."""
    text = page.read_text("utf-8")
    blocks = [m[3] for m in _FENCE.finditer(text) if m[2] != "sh"]
    blocks += re.findall(r"(?m)(?:^ {4,}.*\n)+", _FENCE.sub("", text))
    return [
        line.strip()
        for block in blocks
        if not block.lstrip().startswith("#!")
        for line in block.split("\n")
    ]


def _commands(text: str) -> list[tuple[str, str]]:
    found = []
    for indent, kind, block in _FENCE.findall(text):
        if kind != "sh":
            continue
        where = ""
        lines = re.sub(rf"(?m)^{indent}", "", block)
        for line in re.sub(r"\\\n\s*", "", lines).split("\n"):
            if line.startswith("#"):
                where = line[2:] if line[2:] in PLACES else where
            elif line:
                found.append((where, re.sub(r"\s+# .*$", "", line)))
    return found
