"""What was measured, and on what: versions and the machine, no host name."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path

from sandbox import host, peer

_VERSION = re.compile(r"\d+\.\d+(\.\d+)?\S*")


def about() -> dict[str, str]:
    """Return what there is to say, by its name."""
    cpu = _line("/proc/cpuinfo", "model name") or platform.machine()
    kib = int(_line("/proc/meminfo", "MemTotal").split()[0])
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "agent": f"{importlib.metadata.version('ovn-metadata-agent')}, "
        f"commit {_commit()}",
        "haproxy": _version("haproxy", "-v"),
        "OVN": _version("ovn-controller", "--version"),
        "Open vSwitch": _version("ovs-vswitchd", "--version"),
        "Python": platform.python_version(),
        "Neutron's agent": peer.VERSION,
        "Linux": platform.release(),
        "CPU": f"{os.cpu_count()} cores, {cpu}",
        "memory": f"{kib / 1024**2:.0f} GiB",
    }


def _version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    found = _VERSION.search(said.stdout)
    return found[0] if found else "unknown"


def _commit() -> str:
    if not shutil.which("git"):
        return "unknown"
    git = ("git", "-C", str(host.REPOSITORY), "-c", "safe.directory=*")
    said = subprocess.run(
        (*git, "describe", "--always", "--dirty"),
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def _line(path: str, name: str) -> str:
    """Return what the file PATH says about NAME; "" if nothing."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
