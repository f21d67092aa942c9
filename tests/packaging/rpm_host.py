"""A host to install RPMs on: this machine's files, copied when written.

It is a shell in a chroot on an overlay, in the sandbox: its network, its
processes and all that it writes end with it. systemd's programs are real and
know that no systemd runs (SYSTEMD_OFFLINE): they enable and disable units, and
say of the rest that they leave it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
_MARK = "-- exit code"
_PREPARE = """
set -e
mount -t tmpfs none "$1"
cd "$1"
site=$2
mkdir upper work root
mount -t overlay none root \\
    -o lowerdir=/,upperdir="$PWD/upper",workdir="$PWD/work"
for folder in /dev /proc /sys; do
    mount --rbind $folder root$folder
done
shift 2
for folder; do
    mkdir -p "root$folder"
    mount --bind "$folder" "root$folder"
done
mkdir -p root/run/systemd/system
sed -i /^ovn-metadata/d root/etc/passwd root/etc/group root/etc/shadow \\
    root/etc/gshadow
# RHEL's Python looks there, Debian's does not. The libraries are those that
# the tests run with.
for folder in "$site" /usr/lib/python3.11/site-packages; do
    echo "import sys; sys.path.insert(0, '$folder')"
done >root/usr/lib/python3/dist-packages/first.pth
exec chroot root sh
"""


class RpmHost:
    """The shell, and what it says."""

    def __init__(self, scratch: Path, *folders: Path) -> None:
        """Start it, with SCRATCH as its own and FOLDERS to be read."""
        scratch.mkdir()
        site = next(p for p in sys.path if p.endswith("site-packages"))
        self._shell = subprocess.Popen(
            (
                *(sys.executable, "-m", "sandbox.enter", "sh", "-c", _PREPARE),
                *("sh", scratch, site, sys.prefix, *folders),
            ),
            env=os.environ
            | {
                "SYSTEMD_OFFLINE": "1",
                "PYTHONPATH": str(TESTS),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str | Path) -> tuple[int, str]:
        """Run COMMAND; return its exit code and what it said."""
        return self.shell(shlex.join(map(str, command)))

    def shell(self, script: str) -> tuple[int, str]:
        """Run the shell's SCRIPT; the same."""
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(
            f"({script}) </dev/null 2>&1\n"
            f"code=$?; echo; echo '{_MARK}' $code\n"
        )
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(_MARK):
                return int(line.removeprefix(_MARK)), "".join(lines)
            lines.append(line)
        raise AssertionError("the host ended: " + "".join(lines))

    def rpm(self, *arguments: str | Path) -> tuple[str, list[list[str]]]:
        """Run rpm; return what it said, and what its scriptlets ran."""
        code, said = self.run(
            # A file for each process: in one they would interrupt each other.
            *(
                "strace",
                "-ff",
                "--seccomp-bpf",
                "-qq",
                "-s",
                "999",
                "-e",
                "trace=execve",
            ),
            *("-o", "/trace", "rpm", "--force-debian", "--nodeps"),
            *arguments,
        )
        assert code == 0, said
        _, trace = self.shell("cat /trace.*")
        return said, [
            _words(line) for line in trace.splitlines() if line.endswith("= 0")
        ]

    def install(self, *files: Path) -> None:
        """Install the RPMs of FILES."""
        code, said = self.run(
            *("rpm", "--force-debian", "--nodeps", "-i"), *files
        )
        assert code == 0, said

    def close(self) -> None:
        """End it, and all that it wrote."""
        assert self._shell.stdin
        self._shell.stdin.close()
        self._shell.wait(timeout=30)


def _words(line: str) -> list[str]:
    """Return the arguments in a LINE like 7 execve("/x", ["x", "y"], ...)."""
    words = line.partition(", [")[2].rpartition("], ")[0]
    return re.findall(r'"((?:[^"\\]|\\.)*)"', words)
