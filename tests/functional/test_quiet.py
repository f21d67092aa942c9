"""A process that does nothing is told from one that does, without asking."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovn_metadata.agent.haproxy.runtime import Quiet
from sandbox import wait_for

Cat = subprocess.Popen[bytes]


def echo(cat: Cat, _file: Path) -> None:
    assert cat.stdin
    assert cat.stdout
    cat.stdin.write(b"x")
    cat.stdin.flush()
    assert cat.stdout.read(1) == b"x"


def stop(cat: Cat, _file: Path) -> None:
    cat.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, cat.pid, os.WSTOPPED)


def touch(_cat: Cat, file: Path) -> None:
    os.utime(file, (1, 1))


def replace(_cat: Cat, file: Path) -> None:
    file.with_suffix(".new").touch()
    file.with_suffix(".new").replace(file)


def remove(_cat: Cat, file: Path) -> None:
    file.unlink()


@pytest.fixture
def cat() -> Iterator[Cat]:
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, bufsize=0) as cat:
        yield cat
        cat.kill()


def quiet(cat: Cat, file: Path, *, uid: int | None = None) -> Quiet:
    """Return CAT as it is when it waits for more."""
    echo(cat, file)
    wait = Path(f"/proc/{cat.pid}/stat")
    while wait.read_text().split()[2] != "S":
        time.sleep(0.001)
    uid = os.geteuid() if uid is None else uid
    return Quiet(str(cat.pid), uid, file)


@pytest.mark.parametrize("act", [echo, stop, touch, replace, remove])
def test_what_does_something_is_not_the_same(
    cat, tmp_path, act: Callable[[Cat, Path], None]
):
    file = tmp_path / "x.conf"
    file.touch()
    # It may have been interrupted on its way to sleep.
    (seen,) = wait_for(
        lambda: [made for made in [quiet(cat, file)] if made.is_same()],
        timeout_s=60,
        what="a process that waits",
    )
    act(cat, file)
    assert not seen.is_same()


def test_another_users_process_or_none_is_never_the_same(cat, tmp_path):
    """In another PID namespace its number means another process."""
    file = tmp_path / "x.conf"
    file.touch()
    assert not quiet(cat, file, uid=os.geteuid() + 1).is_same()
    assert not Quiet("", os.geteuid(), file).is_same()
