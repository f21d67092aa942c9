"""A Debian to install DEBs in: this machine's files, copied when written.

All that is done there ends with it. No systemd runs, so no service does; the
libraries are those that the tests run with, but for ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

_PREPARE = """
set -e
mount -t tmpfs none "$1"
cd "$1"
mkdir upper work root
mount -t overlay none root \\
    -o lowerdir=/,upperdir="$PWD/upper",workdir="$PWD/work"
mount -t proc none root/proc
mount --rbind /dev root/dev
mount -t tmpfs none root/run
mkdir -p "root$2" root/run/systemd/system
mount --bind "$2" "root$2"
mount -t tmpfs none "root$3/ovn_metadata"
# dpkg knows of nothing yet: that is quicker, and none of this machine's.
mount -t tmpfs none root/var/lib/dpkg
mkdir root/var/lib/dpkg/info root/var/lib/dpkg/updates
touch root/var/lib/dpkg/status
sed -i /^ovn-metadata/d root/etc/passwd root/etc/group root/etc/shadow \\
    root/etc/gshadow
echo "import sys; sys.path.insert(0, '$3')" \\
    >root/usr/lib/python3/dist-packages/first.pth
cd root
exec chroot . sh -c "echo; read _" "$1"
"""
_LIBRARIES = next(path for path in sys.path if path.endswith("site-packages"))
_ROOT = () if os.geteuid() == 0 else ("sudo",)


class DebHost:
    """It is there while it is entered; SCRATCH is a folder for it."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._init: subprocess.Popen[str] | None = None
        self._pid = ""

    def __enter__(self) -> Self:
        """Make it."""
        own = ("--mount", "--net", "--ipc", "--pid", "--fork")
        self._init = subprocess.Popen(
            (
                *(*_ROOT, "unshare", *own, "--kill-child"),
                *("sh", "-c", _PREPARE, "sh", self._scratch),
                *(sys.prefix, _LIBRARIES),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._init.stdout
        assert self._init.stdout.readline() == "\n"
        self._pid = subprocess.run(
            ("pgrep", "--newest", "--full", self._scratch),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        return self

    def __exit__(self, *_: object) -> None:
        """Have it end, and all that was written."""
        assert self._init
        self._init.communicate("\n", timeout=30)

    def run(self, *command: str | Path, code: int = 0) -> str:
        """Run COMMAND, which ends with CODE; return all that it says."""
        done = subprocess.run(
            (
                *(*_ROOT, "nsenter", "--target", self._pid, "--all"),
                *("--root", "--wd"),
                *("env", "SYSTEMD_OFFLINE=1", "LC_ALL=C.UTF-8"),
                *command,
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def shell(self, script: str, *, code: int = 0) -> str:
        """Do the same with the shell's SCRIPT."""
        return self.run("sh", "-c", script, code=code)

    def written(self) -> list[str]:
        """Return the paths of all that was made or changed here."""
        upper = self._scratch / "upper"
        look = (
            "--mount",
            "find",
            upper,
            "-mindepth",
            "1",
            "-printf",
            "/%P\\n",
        )
        return subprocess.run(
            (*_ROOT, "nsenter", "--target", self._pid, *look),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")

    def install(self, *files: Path) -> str:
        """Install FILES, which need each other in this order."""
        return "".join(self.dpkg("--install", file) for file in files)

    def dpkg(self, *arguments: str | Path) -> str:
        """Run dpkg, which does without the packages of the libraries."""
        options = ("--no-triggers", "--force-depends")
        return self.run("dpkg", *options, *arguments)
