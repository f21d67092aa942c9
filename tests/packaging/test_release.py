"""One version, one changelog; every build's words are made from them."""

from __future__ import annotations

import email.utils
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "packaging/release.py"

spec = importlib.util.spec_from_file_location("release", PROGRAM)
assert spec
assert spec.loader
release = importlib.util.module_from_spec(spec)
sys.modules["release"] = release  # dataclasses look themselves up there
spec.loader.exec_module(release)

SETUP = 'from setuptools import setup\nsetup(name="x", version="1.2.0")\n'
OLD = """
## [1.1.0] - 2026-02-03

### Fixed

- A thing that
  takes 100% of two lines.
- Another.

### Removed

- The rest.
"""
PENDING = f"""# Changelog

Words.

## [Unreleased]

### Added

- Something új.
{OLD}"""
RELEASED = PENDING.replace(
    "## [Unreleased]\n", "## [Unreleased]\n\n## [1.2.0] - 2026-11-26\n"
)
PENDING_S = 1795700000  # 2026-11-26 13:33:20 UTC
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "CHANGELOG.md").write_text(PENDING)
    return tmp_path


def run(tree: Path, *arguments: str, **environment: str):
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "SOURCE_DATE_EPOCH"
    }
    return subprocess.run(
        (sys.executable, PROGRAM, *arguments, "--root", tree),
        env=clean | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def tell(tree: Path, *arguments: str, **environment: str) -> str:
    done = run(tree, *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_is_pending_has_the_unreleased_notes(tree: Path):
    assert tell(tree, "version") == "1.2.0\n"
    assert tell(tree, "notes") == "### Added\n\n- Something új.\n"


def test_what_is_released_has_notes_of_its_own(tree: Path):
    (tree / "CHANGELOG.md").write_text(RELEASED)
    assert tell(tree, "notes") == "### Added\n\n- Something új.\n"


def test_debian_changelog_of_a_release(tree: Path):
    (tree / "CHANGELOG.md").write_text(RELEASED)
    who = release.MAINTAINER
    assert (
        tell(tree, "debian-changelog", "--revision", "2")
        == f"""ovn-metadata-agent (1.2.0-2) unstable; urgency=medium

  * Added:
    - Something új.

 -- {who}  Thu, 26 Nov 2026 00:00:00 +0000

ovn-metadata-agent (1.1.0-2) unstable; urgency=medium

  * Fixed:
    - A thing that takes 100% of two lines.
    - Another.
  * Removed:
    - The rest.

 -- {who}  Tue, 03 Feb 2026 00:00:00 +0000
"""
    )


def test_debian_changelog_of_what_is_pending_says_so(tree: Path):
    text = tell(tree, "debian-changelog", SOURCE_DATE_EPOCH=f"{PENDING_S}")
    assert text.startswith("ovn-metadata-agent (1.2.0-1) UNRELEASED;")
    assert f">  {email.utils.formatdate(PENDING_S)[:-5]}+0000\n" in text


def test_rpm_changelog_is_safe_from_macros(tree: Path):
    text = tell(tree, "rpm-changelog", SOURCE_DATE_EPOCH=f"{PENDING_S}")
    who = release.MAINTAINER
    assert text.startswith(f"* Thu Nov 26 2026 {who} - 1.2.0-1\n- Added:\n")
    assert "\n  . A thing that takes 100%% of two lines.\n" in text


@pytest.mark.parametrize(
    "what", ["notes", "epoch", "debian-changelog", "rpm-changelog"]
)
def test_same_bytes_in_another_locale_and_time_zone(tree: Path, what: str):
    first = tell(tree, what)
    other = tell(
        tree, what, LC_ALL="C", PYTHONIOENCODING="latin-1", TZ="Asia/Tokyo"
    )
    assert first == other


@pytest.mark.parametrize("changelog", [PENDING, RELEASED])
def test_unpacked_sources_are_dated_by_their_files(tree: Path, changelog: str):
    (tree / "CHANGELOG.md").write_text(changelog)
    os.utime(tree / "CHANGELOG.md", (PENDING_S, PENDING_S))
    assert tell(tree, "epoch") == f"{PENDING_S}\n"


def test_clone_is_dated_by_its_last_commit(tree: Path):
    def git(*words: str) -> None:
        subprocess.run(
            ("git", "-C", tree, *words),
            env=os.environ
            | {"GIT_COMMITTER_DATE": f"{PENDING_S} +0200"}
            | {"GIT_AUTHOR_DATE": "946684800 +0000"},
            check=True,
        )

    git("init", "-q")
    git(
        *("-c", "user.name=n", "-c", "user.email=e"),
        *("commit", "-q", "--allow-empty", "-m", "x"),
    )
    # Some have git check every signature, and tell.
    git("config", "log.showSignature", "true")
    signed = subprocess.run(
        ("git", "-C", tree, "hash-object", "-t", "commit", "-w", "--stdin"),
        input="".join(
            f"{line}\n"
            for line in (
                f"tree {EMPTY_TREE}",
                "author n <e> 946684800 +0000",
                f"committer n <e> {PENDING_S} +0200",
                "gpgsig -----BEGIN PGP SIGNATURE-----",
                " ",
                " aaaa",
                " -----END PGP SIGNATURE-----",
                *("", "x"),
            )
        ),
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    git("update-ref", "HEAD", signed)
    assert tell(tree, "epoch") == f"{PENDING_S}\n"


@pytest.mark.parametrize(
    ("setup", "changelog", "says"),
    [
        pytest.param(
            SETUP,
            RELEASED.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"),
            "raise the version in setup.py",
            id="work goes on under a released version",
        ),
        pytest.param(
            SETUP.replace("1.2.0", "1.1.0"),
            RELEASED,
            "CHANGELOG.md's newest is 1.2.0",
            id="version went back",
        ),
        pytest.param(
            SETUP.replace("1.2.0", "1.2"),
            PENDING,
            "'1.2' is not X.Y.Z",
            id="version of another form",
        ),
        pytest.param(
            SETUP.replace("version", "versions"),
            PENDING,
            "no version",
            id="no version",
        ),
        pytest.param(
            SETUP,
            PENDING.replace(" - 2026-02-03", ""),
            "[1.1.0] is not",
            id="release without a date",
        ),
        pytest.param(
            SETUP,
            OLD,
            "[Unreleased] is not the first",
            id="no place for what comes next",
        ),
        pytest.param(SETUP, "# Changelog\n", "no section", id="empty"),
    ],
)
def test_what_does_not_fit_is_refused(
    tree: Path, setup: str, changelog: str, says: str
):
    (tree / "setup.py").write_text(setup)
    (tree / "CHANGELOG.md").write_text(changelog)
    done = run(tree, "notes")
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_this_repository_can_be_released():
    version = tell(ROOT, "version").strip()
    assert f'version="{version}"' in (ROOT / "setup.py").read_text()
    assert tell(ROOT, "notes").startswith("### ")


def test_dpkg_reads_our_changelog(tmp_path: Path):
    (tmp_path / "changelog").write_text(tell(ROOT, "debian-changelog"))
    read = subprocess.run(
        ("dpkg-parsechangelog", "-l", tmp_path / "changelog", "--all"),
        capture_output=True,
        check=True,
        text=True,
    )
    assert read.stderr == ""  # it warns of what it doesn't understand
    assert f"Version: {tell(ROOT, 'version').strip()}-1\n" in read.stdout
