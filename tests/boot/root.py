"""A plain Debian 12 with systemd: made once, copied for each run."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

# What a host has before anything of ours comes, and no more: a dependency
# that a package forgot is missing here.
_INCLUDED = "ca-certificates,dbus,systemd-sysv"
_TIMERS = "etc/systemd/system/timers.target.wants"
_TIMEOUT_S = 900


def build(base: Path) -> None:
    """Make the folder BASE that Debian, unless it is there."""
    if base.exists():
        return
    unfinished = base.with_name(f"{base.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    run(
        *("debootstrap", "--variant=minbase", f"--include={_INCLUDED}"),
        *("bookworm", str(unfinished)),
    )
    run("chroot", str(unfinished), "apt-get", "-q", "update")
    # No disk of an operator's is at stake: dpkg need not wait for this one.
    (unfinished / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text(
        "force-unsafe-io\n"
    )
    # Each copy is a host of its own. (Were this file not there, its boot
    # would be a first one, which enables all units that can be.)
    (unfinished / "etc/machine-id").write_text("")
    # Nobody but the tests calls apt there.
    for timer in (unfinished / _TIMERS).glob("apt-daily*"):
        timer.unlink()
    unfinished.rename(base)


def download(base: Path, packages: Sequence[str | Path]) -> None:
    """Have apt's archives in BASE hold all that PACKAGES need.

    Nothing is installed. A name is Debian's, a path a .deb's of this host.
    A machine that is a copy of BASE can install them without a network.
    """
    with tempfile.TemporaryDirectory(dir=base / "var/tmp") as folder:
        wanted = []
        for package in packages:
            if isinstance(package, Path):
                shutil.copy(package, folder)
                inside = "/" / Path(folder).relative_to(base) / package.name
                wanted.append(str(inside))
            else:
                wanted.append(package)
        fetch = ("chroot", str(base), "apt-get", "-y", "-q")
        try:
            run(*fetch, "--download-only", "install", *wanted)
        except subprocess.CalledProcessError:
            # Debian has newer ones by now.
            run(*fetch, "update")
            run(*fetch, "--download-only", "install", *wanted)


@contextlib.contextmanager
def copy(base: Path) -> Iterator[Path]:
    """Provide a copy of BASE beside it, and remove it afterwards."""
    with tempfile.TemporaryDirectory(
        prefix=f"{base.name}-", dir=base.parent
    ) as folder:
        root = Path(folder) / "root"
        run("cp", "-a", "--reflink=auto", str(base), str(root))
        yield root


def run(*command: str) -> None:
    """Run COMMAND; print what it said if it fails, and raise."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, command)
