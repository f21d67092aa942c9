"""What /proc knows of a haproxy: cheap, and without a right."""

import os
import re
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
# Two lines: the names of the counters, and the counters.
_ICMP = re.compile(r"^Icmp: (.*)$", re.M)


def memory(pid_file: Path, uid: int) -> int | None:
    """Return the bytes of the haproxy of UID, without those from files.

    All haproxies share the program's file. None if it does not run.
    """
    try:
        text = _read(pid_file, uid, "statm")
    except OSError:
        return None
    _, resident, shared, *_ = text.split()
    return (int(resident) - int(shared)) * _PAGE


def ended(pid_file: Path, uid: int) -> int:
    """Return how many answers ended at their hop limit, behind an instance.

    Since the namespace of the haproxy of UID was made. 0 if that does not run.

    haproxy sees nothing of them: the handshake never completes. The host at
    which one ended reports it (ICMP, time exceeded), and the kernel counts
    that. Those are of IPv4: nothing forwards what goes to our IPv6 address, a
    link-local one.
    """
    try:
        text = _read(pid_file, uid, "net/snmp")
    except OSError:
        return 0
    lines = [line.split() for line in _ICMP.findall(text)]
    return int(dict(zip(*lines, strict=True))["InTimeExcds"]) if lines else 0


def _read(pid_file: Path, uid: int, what: str) -> str:
    """Return WHAT /proc has of the haproxy of UID, by its PID_FILE.

    Raises OSError if it does not run: the file names a process of another PID
    namespace then, or one that has ended. Its command line is not read: one
    that was broken into can make its readers hang (`stale`).
    """
    process = Path("/proc", pid_file.read_text().strip())
    if process.stat().st_uid != uid:
        raise ProcessLookupError
    return (process / what).read_text()
