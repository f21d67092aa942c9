"""A Debian for Ansible to play against: OVN runs, and nothing of ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import root as roots
from .packages import SOURCE

# What an operator's host has before: OVN, and what Ansible comes in by.
_INSTALLED = (
    *("openssh-server", "sudo", "python3", "python3-apt"),
    *("openvswitch-switch", "ovn-central", "ovn-host"),
    *("curl", "ethtool", "iproute2", "iptables", "procps"),
)
# What the role installs in a virtual environment's stead, and Neutron's needs.
_DOWNLOADED = ("haproxy", "logrotate", "python3-packaging", "python3-venv")
REPOSITORY = "/srv/repository"  # of our packages
WHEELS = "/srv/wheels"  # of ours and all it needs


def prepare(
    root: Path, *, packages: list[Path], wheels: Path, neutron: Path
) -> None:
    """Have ROOT, a copy of `roots.build`'s, all that is needed offline.

    A virtual environment with NEUTRON's agent comes to the place it has
    here: it can't be moved.
    """
    _chroot(root, "apt-get", "-q", "update")
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    install = ("apt-get", "-y", "-q", "--no-install-recommends", "install")
    _chroot(root, *install, *_INSTALLED)
    policy.unlink()
    roots.download(root, [*packages, *_DOWNLOADED])
    _publish(root, packages)
    shutil.copytree(wheels, f"{root}{WHEELS}")
    there = Path(f"{root}{neutron}")
    there.parent.mkdir(parents=True)
    subprocess.run(("cp", "-a", str(neutron), str(there)), check=True)


def _publish(root: Path, packages: list[Path]) -> None:
    """Have apt find PACKAGES in a repository of the root's own."""
    folder = Path(f"{root}{REPOSITORY}")
    folder.mkdir(parents=True)
    for package in packages:
        shutil.copy(package, folder)
    scan = ("dpkg-scanpackages", "--multiversion", ".")
    with (folder / "Packages").open("wb") as index:
        subprocess.run(
            scan,
            cwd=folder,
            stdout=index,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    (root / "etc/apt/sources.list.d/ours.list").write_text(
        f"deb [trusted=yes] file:{REPOSITORY} ./\n"
    )
    _chroot(root, "apt-get", "-q", "update")


def build_wheels(folder: Path, python: Path) -> None:
    """Have FOLDER hold the last commit's wheel, and all that it needs."""
    tree = folder / "source"
    tree.mkdir(parents=True)
    archive = subprocess.run(
        ("git", "-C", str(SOURCE), "archive", "HEAD"),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    subprocess.run(("tar", "-xC", str(tree)), input=archive, check=True)
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "wheel")
    wheels = folder / "wheels"
    roots.run(*pip, "--quiet", f"--wheel-dir={wheels}", str(tree))


def _chroot(root: Path, *words: str) -> None:
    roots.run(
        *("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive"),
        *words,
    )
