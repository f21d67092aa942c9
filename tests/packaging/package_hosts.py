"""Hosts to install packages on: this machine's files, copied when written.

All that is done there ends with it. systemd's programs are real and know
that no systemd runs (SYSTEMD_OFFLINE): they enable and disable units, and
say of the rest that they leave it. The libraries are those that the tests
run with, but for ours.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

_LIBRARIES = next(path for path in sys.path if path.endswith("site-packages"))
_ROOT = () if os.geteuid() == 0 else ("sudo",)
_PREPARE = """
set -e
scratch=$1 libraries=$2 own=$3
shift 3
mount -t tmpfs none "$scratch"
cd "$scratch"
mkdir upper work root
mount -t overlay none root \\
    -o lowerdir=/,upperdir="$PWD/upper",workdir="$PWD/work"
mount -t proc none root/proc
mount --rbind /dev root/dev
mount -t tmpfs none root/run
mkdir -p root/run/systemd/system
for folder; do
    mkdir -p "root$folder"
    mount --bind "$folder" "root$folder"
done
mount -t tmpfs none "root$libraries/ovn_metadata"
sed -i /^ovn-metadata/d root/etc/passwd root/etc/group root/etc/shadow \\
    root/etc/gshadow
eval "$own"
cd root
exec chroot . sh -c "echo; read _" "$scratch"
"""
_FIRST = "root/usr/lib/python3/dist-packages/first.pth"


def said(*command: object, code: int = 0, **options: Any) -> str:
    """Run COMMAND, which ends with CODE; return all that it says."""
    done = subprocess.run(
        tuple(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        **options,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


class _Host:
    """It is there while it is entered; SCRATCH is a folder for it.

    FOLDERS of this machine are to be read there.
    """

    prepare: ClassVar[str]  # the shell's, in SCRATCH, where root/ is to be /

    def __init__(self, scratch: Path, *folders: Path) -> None:
        self._scratch = scratch
        self._folders = folders
        self._init: subprocess.Popen[str] | None = None
        self._pid = ""

    def __enter__(self) -> Self:
        """Make it."""
        own = ("--mount", "--net", "--ipc", "--pid", "--fork")
        self._init = subprocess.Popen(
            (
                *(*_ROOT, "unshare", *own, "--kill-child"),
                *("sh", "-c", _PREPARE, "sh", self._scratch, _LIBRARIES),
                *(self.prepare, sys.prefix, *self._folders),
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
        enter = ("nsenter", "--target", self._pid, "--all", "--root", "--wd")
        environment = ("env", "SYSTEMD_OFFLINE=1", "LC_ALL=C.UTF-8")
        return said(*_ROOT, *enter, *environment, *command, code=code)

    def shell(self, script: str, *, code: int = 0) -> str:
        """Do the same with the shell's SCRIPT."""
        return self.run("sh", "-c", script, code=code)

    def written(self) -> list[str]:
        """Return the paths of all that was made or changed here."""
        upper = self._scratch / "upper"
        enter = (*_ROOT, "nsenter", "--target", self._pid, "--mount")
        return subprocess.run(
            (*enter, "find", upper, "-mindepth", "1", "-printf", "/%P\\n"),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")


class DebHost(_Host):
    """A Debian."""

    # dpkg knows of nothing yet: that is quicker, and none of this machine's.
    prepare = f"""
mount -t tmpfs none root/var/lib/dpkg
mkdir root/var/lib/dpkg/info root/var/lib/dpkg/updates
touch root/var/lib/dpkg/status
echo "import sys; sys.path.insert(0, '$libraries')" >{_FIRST}
"""

    def install(self, *files: Path) -> str:
        """Install FILES, which need each other in this order."""
        return "".join(self.dpkg("--install", file) for file in files)

    def dpkg(self, *arguments: str | Path) -> str:
        """Run dpkg, which does without the packages of the libraries."""
        options = ("--no-triggers", "--force-depends")
        return self.run("dpkg", *options, *arguments)


class RpmHost(_Host):
    """One that has RPMs beside what it is."""

    # RHEL's Python looks there, Debian's does not.
    prepare = f"""
for folder in "$libraries" /usr/lib/python3.11/site-packages; do
    echo "import sys; sys.path.insert(0, '$folder')"
done >{_FIRST}
"""
    _RPM = ("rpm", "--force-debian", "--nodeps")

    def install(self, *files: Path) -> str:
        """Install FILES."""
        return self.run(*self._RPM, "-i", *files)

    def rpm(self, *arguments: str | Path) -> tuple[str, list[list[str]]]:
        """Run rpm; return what it said, and what its scriptlets ran."""
        # A file for each process: in one they would interrupt each other.
        trace = ("strace", "-ff", "--seccomp-bpf", "-qq", "-s", "999")
        what = ("-e", "trace=execve", "-o", "/trace")
        said = self.run(*trace, *what, *self._RPM, *arguments)
        lines = self.shell("cat /trace.*").splitlines()
        return said, [_words(line) for line in lines if line.endswith("= 0")]


def _words(line: str) -> list[str]:
    """Return the arguments in a LINE like 7 execve("/x", ["x", "y"], ...)."""
    words = line.partition(", [")[2].rpartition("], ")[0]
    return re.findall(r'"((?:[^"\\]|\\.)*)"', words)
