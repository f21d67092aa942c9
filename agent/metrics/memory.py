"""How much memory a haproxy has, from /proc: cheap, and without a right."""

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def of_program(pid: int, config: Path) -> int | None:
    """Return the bytes of the haproxy PID, without those from files.

    All haproxies share the program's file. None if PID is not the haproxy
    that runs on CONFIG, as in another PID namespace.
    """
    process = Path(f"/proc/{pid}")
    try:
        if not is_program(process, config):
            return None
        _, resident, shared, *_ = (process / "statm").read_text().split()
    except OSError:  # it has ended meanwhile
        return None
    return (int(resident) - int(shared)) * _PAGE


def is_program(process: Path, config: Path) -> bool:
    """Return whether PROCESS in /proc is the haproxy that runs on CONFIG."""
    return str(config).encode() in (process / "cmdline").read_bytes()
