"""How much memory a haproxy has, from /proc: cheap, and without a right."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def of_program(pid: int, config: Path) -> int | None:
    """Return the bytes of haproxy's master PID and its workers.

    Only what is not from files: they share the program's. None if PID is not
    the haproxy that runs on CONFIG, as in another PID namespace.
    """
    process = Path(f"/proc/{pid}")
    try:
        if str(config).encode() not in (process / "cmdline").read_bytes():
            return None
        workers = (process / f"task/{pid}/children").read_text().split()
        return sum(_own(each) for each in [str(pid), *workers])
    except OSError:  # it has ended meanwhile
        return None


def _own(pid: str) -> int:
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE
