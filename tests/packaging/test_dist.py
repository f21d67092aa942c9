"""What is released: complete, and the same bytes wherever it is built."""

from __future__ import annotations

import email.parser
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT, dist
from .package_hosts import said

MADE = {"PKG-INFO", "setup.cfg"}
IN_REPOSITORY_ONLY = {".gitignore"}
BILL = "sboms/ovn-metadata-agent.cdx.json"


def tracked() -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("no clone: nothing to compare with")
    listed = subprocess.run(
        ("git", "-C", ROOT, "ls-files"),
        check=True,
        capture_output=True,
        text=True,
    )
    return set(listed.stdout.splitlines())


def test_sdist_contains_all_that_is_in_the_repository(unpacked: Path):
    found = {
        path.relative_to(unpacked).as_posix()
        for path in unpacked.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    ours = {name for name in found if ".egg-info/" not in name} - MADE
    assert ours == tracked() - IN_REPOSITORY_ONLY
    for name in ours:
        assert os.access(unpacked / name, os.X_OK) == os.access(
            ROOT / name, os.X_OK
        ), name


def test_wheel_contains_the_program_and_nothing_else(released: Path):
    (wheel,) = released.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    data = [name for name in names if ".data/data/" in name]
    code = [name for name in names if name.startswith("ovn_metadata/")]
    assert {
        name.partition(".data/data/")[2].split("/")[0] for name in data
    } == {
        "etc",
        "share",
    }
    assert {name.removeprefix("ovn_metadata/") for name in code} == {
        path.relative_to(ROOT).as_posix()
        for folder in ("agent", "privsep")
        for path in (ROOT / folder).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    rest = set(names) - set(data) - set(code)
    assert {name.split("/")[0].rpartition(".")[2] for name in rest} == {
        "dist-info"
    }


def test_bill_of_materials_is_valid_and_not_stale():
    """By the validator of the library that makes it."""
    python = os.environ.get("DIST_PYTHON", sys.executable)
    said(python, ROOT / "packaging/sbom.py", "--check")


def test_bill_of_materials_is_in_the_wheel_and_says_the_same(released: Path):
    (wheel,) = released.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (place,) = (name for name in names if name.endswith("/METADATA"))
        metadata = file.read(place).decode()
        bill = json.loads(file.read(place.replace("METADATA", BILL)))
    needed = {
        line.removeprefix("Requires-Dist: ")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    components = bill["components"]
    assert needed == {
        each["name"] + "".join(one["value"] for one in each["properties"])
        for each in components
        if each["type"] == "library"
    }
    assert {each["name"] for each in components} >= {"haproxy", "util-linux"}
    (version,) = re.findall(r"^Version: (.*)$", metadata, re.M)
    assert bill["metadata"]["component"]["version"] == version


def test_bill_of_materials_is_in_the_rpm(released: Path):
    (rpm,) = released.glob("ovn-metadata-fleet-*.noarch.rpm")
    names = said("rpm", "-qlp", rpm).splitlines()
    assert [name for name in names if name.endswith(f".dist-info/{BILL}")]


def test_what_pypi_shows_is_whole(released: Path):
    tool = Path(os.environ.get("DIST_PYTHON", sys.executable))
    done = subprocess.run(
        (
            *(tool, "-m", "twine", "check", "--strict"),
            *released.glob("*.whl"),
            *released.glob("*.tar.gz"),
        ),
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = released.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        member = file.extractfile(f"{archive.name[:-7]}/PKG-INFO")
        assert member
        said = email.parser.BytesParser().parse(member)
    text = str(said.get_payload())
    assert "# ovn-metadata-agent" in text
    # A link into the repository would lead nowhere there.
    assert "](docs/" not in text
    assert "(docs/explanation/security.md)" in text


def test_somebody_else_gets_the_same_bytes(
    released: Path, unpacked: Path, tmp_path: Path
):
    # From the source distribution, which was unpacked later and elsewhere.
    dist(
        *(unpacked, tmp_path, "sdist", "wheel", "rpm"),
        umask="077",
        TZ="Asia/Kathmandu",
        LC_ALL="POSIX",
        PYTHONHASHSEED="7",
        TMPDIR=str(unpacked.parent),
    )
    first = {path.name: path.read_bytes() for path in released.iterdir()}
    again = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(first) == 6
    assert first.keys() == again.keys()
    assert not [name for name in first if first[name] != again[name]]


def test_what_is_not_committed_is_not_released(unpacked: Path, tmp_path: Path):
    clone = tmp_path / "clone"
    subprocess.run(("cp", "-r", unpacked, clone), check=True)
    for words in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "x"),
    ):
        subprocess.run(("git", "-C", clone, *words), check=True)
    (clone / "more").write_text("")
    done = subprocess.run(
        (clone / "packaging/dist", tmp_path / "out", "sdist"),
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 1
    assert "more" in done.stderr
    assert not [*(tmp_path / "out").iterdir()]
