"""What runs as the agent's user has no terminal of root's.

Another process of that user could take it from there, read what root types,
or type for root (ioctl TIOCSTI).
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIST = 'sh -c "ls -l /proc/self/fd >&2; exit 1"'


@pytest.mark.usefixtures("host")
def test_check_of_the_packages_has_no_terminal(tmp_path):
    text = (ROOT / "packaging/debian/would-start").read_text()
    for old, new in (
        ("$(/usr/libexec/ovn-metadata-fleet/agent-arguments)", ""),
        ("ovn-metadata-agent --check $arguments <", f"{LIST} <"),
    ):
        assert old in text
        text = text.replace(old, new)
    script = tmp_path / "would-start"
    script.write_text(text)
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    done = subprocess.run(["sh", script, "nothing"], check=False, **streams)
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 1
    assert "/dev/null" in said
    assert "/dev/pts/" not in said


DROP = """
import pwd, subprocess
from ovn_metadata.agent.startup import user
user.drop_to(pwd.getpwnam("ovn-metadata"))
test = "(: </dev/tty) && echo it has one || echo it has none"
subprocess.run(["sh", "-c", test])
"""


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(("sh", "-c", '"$@"; exit', "sh"), "none", id="a shell's"),
        pytest.param((), "one", id="its own"),
    ],
)
def test_agent_that_was_root_gives_up_the_terminal_of_a_shell(
    command, expected
):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        ["setsid", "--ctty", *command, sys.executable, "-Ic", DROP],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    os.close(theirs)
    os.close(ours)
    assert done.stdout == f"it has {expected}\n"
