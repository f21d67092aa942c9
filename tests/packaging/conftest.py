"""What is released, built once, and another release to upgrade to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEXT = "99.0.0"


def dist(tree: Path, out: Path, *parts: str, umask: str = "022", **extra):
    """Build PARTS of TREE into OUT, with UMASK and more in the environment.

    DIST_PYTHON is one that has the tools ("make packaging" sets it).
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "SOURCE_DATE_EPOCH"
    } | {
        "PYTHON": os.environ.get("DIST_PYTHON", sys.executable),
        "CHECK_PYTHON": sys.executable,
        "UNCOMMITTED": "1",
    }
    done = subprocess.run(
        (
            *("sh", "-c", f'umask {umask}; exec "$@"', "sh"),
            *(tree / "packaging/dist", out, *parts),
        ),
        env=environment | extra,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def overlay() -> None:
    """Skip where no other host can be made of this one's files."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    subprocess.run(("sh", "-c", "modprobe -q overlay"), check=False)
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs a kernel with overlayfs")


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of sdist, wheel and RPMs of this tree."""
    out = tmp_path_factory.mktemp("released")
    dist(ROOT, out, "sdist", "wheel", "rpm")
    return out


@pytest.fixture(scope="session")
def unpacked(released: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return the sources as one has them who has the sdist alone."""
    return unpack(released, tmp_path_factory.mktemp("unpacked"))


def unpack(released: Path, folder: Path) -> Path:
    (archive,) = released.glob("*.tar.gz")
    subprocess.run(("tar", "-xf", archive, "-C", folder), check=True)
    (tree,) = folder.iterdir()
    return tree


@pytest.fixture(scope="session")
def upgrade(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of RPMs that differ in their version."""
    tree = unpack(released, tmp_path_factory.mktemp("next"))
    setup = tree / "setup.py"
    text = setup.read_text()
    changed = re.sub(r'version="[^"]*"', f'version="{NEXT}"', text)
    assert changed != text
    setup.write_text(changed)
    out = tmp_path_factory.mktemp("upgrade")
    dist(tree, out, "rpm")
    return out
