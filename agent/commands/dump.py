"""`agent-status dump DIR`: one archive for support, without a secret.

This process makes it, as the user that calls it, so it needs no agent that
answers. What this user can't read, or what takes too long, is listed in it.
"""

import argparse
import io
import json
import os
import platform
import re
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import IO, Any

from ..core.masking import masker
from ..threads import in_thread
from .client import NO_ANSWER, OK, Parser, each_text, printable
from .dump_parts import Parts, parts

PROGRAM = "agent-status dump"
MISSING = "MISSING.txt"
_LIMIT_S = 7.0
_MAX_PART = 4 * 1024 * 1024  # characters


def run(source: argparse.Namespace, argv: list[str]) -> int:
    """Make the archive that ARGV asks for; return the exit code.

    SOURCE has the options that find the agent's socket and configuration.
    """
    parser = Parser(prog=PROGRAM, description="Make an archive for support.")
    parser.add_argument("dir", metavar="DIR", help="where to put it")
    name = parser.parse_args(argv).dir
    if not name:
        parser.error("DIR is empty")
    folder = Path(name)
    try:
        file, missing = _make(folder, source)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, NotADirectoryError):
            reason = "is no folder; a link is not followed"
        print(f"{PROGRAM}: {printable(name)}: {reason}", file=sys.stderr)
        return NO_ANSWER
    print(file)
    if missing:
        print(f"not in it, see {MISSING} there: {', '.join(missing)}")
    return OK


def _make(folder: Path, source: argparse.Namespace) -> tuple[Path, list[str]]:
    """Make the archive in FOLDER; return its path and what is missing."""
    ends = time.monotonic() + _LIMIT_S
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(folder, os.O_RDONLY | flags)
    wanted, secrets, chassis = parts(source)
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    chassis = re.sub(r"[^A-Za-z0-9._-]", "_", chassis or platform.node())
    name = f"ovn-metadata-{chassis[:64]}-{date}"
    file = f"{name}.tar.gz"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    archive = os.open(file, flags, 0o600, dir_fd=opened)
    try:
        with open(archive, "wb") as target:
            texts, missing = read(wanted, masker(secrets), ends)
            _pack(target, name, texts)
    except BaseException:
        os.unlink(file, dir_fd=opened)
        raise
    return folder / file, missing


def read(
    wanted: Parts, mask: Callable[[str], str], ends: float
) -> tuple[dict[str, str], list[str]]:
    """Return the texts of the parts WANTED, masked, and those missing.

    Each is read in a thread of its own. What is not there when the monotonic
    clock is at ENDS is missing; its thread ends with the process.
    """

    def text(get: Callable[[], Any]) -> str:
        found = each_text(get(), mask)
        if not isinstance(found, str):
            found = json.dumps(found, indent=1)
        return str(found[:_MAX_PART])

    tasks = {name: in_thread(partial(text, wanted[name])) for name in wanted}
    futures.wait(tasks.values(), max(0.0, ends - time.monotonic()))
    texts, missing = {}, {}
    for name, task in tasks.items():
        if not task.done():
            late = f"not there after {_LIMIT_S:.0f} s"
            missing[name] = f"{late}; try again when the host is less busy"
        elif (error := task.exception()) is not None:
            missing[name] = mask(" ".join(str(error).split())) or "?"
        else:
            texts[name] = task.result()
    texts[MISSING] = "".join(f"{n}: {why}\n" for n, why in missing.items())
    return texts, [*missing]


def _pack(target: IO[bytes], folder: str, texts: dict[str, str]) -> None:
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, text in texts.items():
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = len(content), 0o600
            entry.mtime = int(time.time())
            archive.addfile(entry, io.BytesIO(content))
