"""Make a source distribution the same bytes whoever built it.

    normalise.py ARCHIVE RESULT TREE

setuptools packs the builder's user, umask and times, and leaves out symbolic
links to folders: those of TREE are added, so that what is unpacked is what
was packed.
"""

from __future__ import annotations

import gzip
import os
import stat
import sys
import tarfile
from pathlib import Path


def normalise(archive: Path, result: Path, tree: Path, date: int) -> None:
    """Write to RESULT what ARCHIVE contains and TREE's links, of DATE."""
    with tarfile.open(archive) as source:
        members = source.getmembers()
        top = members[0].name.partition("/")[0]
        entries = [
            (
                _entry(member.name, member.mode & stat.S_IXUSR, date),
                source.extractfile(member),
            )
            for member in members
            if member.isfile()
        ]
        entries += [(link, None) for link in _links(tree, top, date)]
        with (
            result.open("wb") as file,
            # No name and no time of its own.
            gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
            tarfile.open(
                fileobj=packed, mode="w", format=tarfile.GNU_FORMAT
            ) as target,
        ):
            for entry, content in sorted(entries, key=lambda e: e[0].name):
                if content is not None:
                    entry.size = source.getmember(entry.name).size
                target.addfile(entry, content)


def _entry(name: str, executable: int, date: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = date
    entry.mode = 0o755 if executable else 0o644
    return entry


def _links(tree: Path, top: str, date: int) -> list[tarfile.TarInfo]:
    links = []
    for path in tree.rglob("*"):
        if path.is_symlink() and path.is_dir():
            link = _entry(f"{top}/{path.relative_to(tree)}", 1, date)
            link.type, link.linkname = tarfile.SYMTYPE, str(path.readlink())
            links.append(link)
    return links


if __name__ == "__main__":
    archive, result, tree = (Path(name) for name in sys.argv[1:])
    normalise(archive, result, tree, int(os.environ["SOURCE_DATE_EPOCH"]))
