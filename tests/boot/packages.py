"""The packages under test: this checkout's, and newer ones."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

AGENT, FLEET = "ovn-metadata-agent", "ovn-metadata-fleet"
COMPAT = "neutron-ovn-metadata-agent-compat"
NAMES = (AGENT, FLEET, COMPAT)
SOURCE = Path(__file__).parents[2]
THERE = "/opt/boot"  # in the machine

_BUILD_TIMEOUT_S = 600
# What a newer version may well differ in: every haproxy's configuration, and
# what is expected of the supervisord that runs.
_CHANGES = (
    ("agent/haproxy/render.py", "stats timeout 10s", "stats timeout 11s"),
    ("privsep/names.py", "FLEET_PROTOCOL = ", "FLEET_PROTOCOL = 1"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Release:
    """The packages of one VERSION: .debs in FOLDER."""

    version: str
    folder: Path

    def files(self, names: Iterable[str] = NAMES) -> list[Path]:
        """Return the .debs of NAMES."""
        return [next(self.folder.glob(f"{name}_*.deb")) for name in names]

    def put_into(self, root: Path) -> None:
        """Copy them to where `paths` says, in the machine's ROOT."""
        shutil.copytree(self.folder, f"{root}{THERE}/{self.version}")

    def paths(self, *names: str) -> list[str]:
        """Return where the .debs of NAMES are in the machine."""
        there = f"{THERE}/{self.version}"
        return [f"{there}/{path.name}" for path in self.files(names)]


def releases(folder: Path) -> list[Release]:
    """Build this checkout in FOLDER, a version that differs, and a third."""
    tree = folder / "source"
    _copy_to(tree)
    first = _build(tree, folder)
    for name, text, other in _CHANGES:
        _replace(tree / name, text, other)
    return [first, *(_build(_raised(tree), folder) for _ in range(2))]


def _copy_to(tree: Path) -> None:
    """Copy what git knows to TREE, as it is now: committed or not."""
    git = ("git", "-C", str(SOURCE), "ls-files", "-z")
    listed = subprocess.run(git, stdout=subprocess.PIPE, check=True).stdout
    for name in listed.decode().rstrip("\0").split("\0"):
        if os.path.lexists(SOURCE / name):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, tree / name, follow_symlinks=False)


def _raised(tree: Path) -> Path:
    """Give TREE the next version."""
    text = (tree / "setup.py").read_text()
    match = re.search(r'version="(\d+\.\d+)\.(\d+)"', text)
    assert match is not None
    version = f'version="{match[1]}.{int(match[2]) + 1}"'
    _replace(tree / "setup.py", match[0], version)
    return tree


def _replace(path: Path, text: str, other: str) -> None:
    before = path.read_text()
    assert before.count(text) == 1, f"{path}: {text}"
    path.write_text(before.replace(text, other))


def _build(tree: Path, folder: Path) -> Release:
    tell = (str(tree / "packaging/release.py"), "version")
    version = subprocess.run(
        tell, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    archive = folder / f"{version}.tar"
    subprocess.run(
        ("tar", "-C", str(folder), "-cf", str(archive), tree.name), check=True
    )
    release = Release(version, folder / version)
    subprocess.run(
        (
            str(SOURCE / "packaging/debian/build"),
            *(str(archive), str(release.folder)),
        ),
        stdin=subprocess.DEVNULL,
        timeout=_BUILD_TIMEOUT_S,
        check=True,
    )
    return release
