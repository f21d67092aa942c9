"""A release of the agent to upgrade to or from: a checkout, another version.

Installed by pip into an environment of its own; the libraries are those of
the environment that the tests run in.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from pathlib import Path

from . import host
from .daemons import run

VERSION = "99.0"
_SOURCES = ("agent", "privsep", "etc", "rootwrap", "packaging", "setup.py")
_MORE = ("pyproject.toml", "README.md", "MANIFEST.in")
# Of the libraries: what our own root-owned files name beside our programs.
_THEIR_PROGRAMS = ("privsep-helper",)


def build(
    folder: Path,
    *,
    version: str = VERSION,
    checkout: Path = host.REPOSITORY,
) -> Path:
    """Install CHECKOUT as VERSION below FOLDER; return the prefix."""
    source, prefix = folder / "source", folder / f"release-{version}"
    source.mkdir()
    for name in (*_SOURCES, *_MORE):
        there = checkout / name
        if there.is_dir():
            shutil.copytree(there, source / name)
        else:
            shutil.copy(there, source)
    setup = source / "setup.py"
    text = re.sub(
        r'version="[^"]*"', f'version="{version}"', setup.read_text()
    )
    setup.write_text(text)
    run(sys.executable, "-m", "venv", "--without-pip", str(prefix))
    # This environment's, and of the distribution those that it makes use of.
    libraries = [place for place in sys.path if place.endswith("-packages")]
    (packages(prefix) / "libraries.pth").write_text("\n".join(libraries))
    run(
        *(sys.executable, "-m", "pip", "--python", str(prefix / "bin/python")),
        *("install", "--quiet", "--disable-pip-version-check", "--no-index"),
        *("--no-deps", "--no-build-isolation", "--ignore-installed"),
        str(source),
        timeout_s=300,
    )
    for name in _THEIR_PROGRAMS:
        text = Path(sys.prefix, "bin", name).read_text()
        target = prefix / "bin" / name
        target.write_text(text.replace(sys.prefix, str(prefix), 1))
        target.chmod(0o755)
    shutil.rmtree(source)
    return prefix


def packages(prefix: Path) -> Path:
    """Return the folder of the packages of the environment PREFIX."""
    base = {"base": str(prefix), "platbase": str(prefix)}
    return Path(sysconfig.get_path("purelib", vars=base))
